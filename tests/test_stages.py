"""What each stage trains on and what becomes of it, on made-up data; the start from the yardstick's PCA."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from test_train import CPU, states_equal
from torch.testing import assert_close

from mousai import stages
from mousai.checkpoint import load_weights, new_tcld, read_runs
from mousai.data import records
from mousai.dmae import DMAE, log_magnitude
from mousai.evaluation.study import variants
from mousai.evaluation.yardstick import fit_pca, folded
from mousai.profiles import SMOKE
from mousai.spectrogram import magnitude
from mousai.stages import (
    caption_batches,
    encode_split,
    ship,
    shortened,
    start_from_pca,
    switched,
    train_dmae,
    train_tcld,
)


@pytest.fixture
def few_crops(monkeypatch) -> None:
    """A start from PCA in a moment."""
    monkeypatch.setattr(stages, "PCA_CROPS", 4)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The texts that a text encoder was given in this test; what it answers is zeros."""
    texts: list[str] = []
    encoder = lambda new: texts.extend(new) or torch.zeros(len(new), 64, 384)  # noqa: E731
    monkeypatch.setattr(stages, "load_text_encoder", lambda *_: encoder)
    return texts


def music(n: int, seed: int, time: int = 2**14) -> torch.Tensor:
    """Tones that come and go in noise, something PCA can find directions in: [n, 2, time]."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(time) / 48_000
    pitch, pace = (low + span * torch.rand(n, 8, 1, generator=generator) for low, span in ((100, 4000), (2, 10)))
    tones = torch.sin(2 * torch.pi * pitch * t) * torch.sin(2 * torch.pi * pace * t).square()
    shares = torch.rand(n, 2, 8, generator=generator)
    return 0.1 * shares @ tones + 0.002 * torch.randn(n, 2, time, generator=generator)


def yardsticks_error(pca: PCA, w: torch.Tensor, model: DMAE) -> float:
    """Squared error of log magnitude through 32 numbers a latent step."""
    rows = folded(w, model.config).numpy()
    return float(((pca.inverse_transform(pca.transform(rows)) - rows) ** 2).mean())


def readers_error(model: DMAE, w: torch.Tensor) -> float:
    """The same through encoder and reader."""
    with torch.no_grad():
        read = model.reader(model.encode(w))[1]
    return (read - log_magnitude(magnitude(w), 1e-3)).square().mean().item()


def started(w: torch.Tensor) -> tuple[DMAE, DMAE]:
    """smoke's stage 1 from random weights, and the same begun as PCA of w."""
    torch.manual_seed(0)
    random = DMAE(SMOKE.dmae).eval()
    torch.manual_seed(0)
    model = DMAE(SMOKE.dmae).eval()
    start_from_pca(model, w)
    return random, model


def test_after_a_start_from_pca_encoder_and_reader_are_about_the_yardstick():
    w, other = music(12, 0), music(4, 1)
    random, model = started(w)
    pca = fit_pca(w, model.config)
    for heard in (w, other):  # heard in training, and not
        assert readers_error(model, heard) < 1.3 * yardsticks_error(pca, heard, model)
        assert readers_error(model, heard) < 0.2 * readers_error(random, heard)


def test_after_a_start_from_pca_the_readers_loss_is_far_below_a_random_starts(generator):
    w = music(4, 0)
    losses = [model(w, generator, step=0).item() for model in started(w)]
    weight, (random, model) = SMOKE.dmae.readout_weight, started(w)
    with torch.no_grad():
        parts = [weight * readers_error(model, w) for model in (random, model)]
    assert parts[1] < 0.2 * parts[0] and losses[1] < losses[0]


def test_the_numbers_of_a_pca_start_are_of_its_spread_and_far_from_saturated():
    w = music(12, 0)
    _, model = started(w)
    with torch.no_grad():
        straight = model.encoder.straight(log_magnitude(magnitude(w), 1e-3))
        z = model.encode(w)
    spread = straight.transpose(1, 2).flatten(0, 1).std(dim=0)
    assert_close(spread, torch.full((32,), stages.PCA_SPREAD), atol=0.02, rtol=0)
    assert z.abs().max() < 0.99


def test_a_pca_start_that_the_profile_has_no_place_for_is_refused(paper_dmae):
    with pytest.raises(ValueError, match="a start from PCA needs `pca_start` and a reader"):
        start_from_pca(DMAE(paper_dmae), music(4, 0))


def test_stage_one_starts_from_pca_where_the_profile_asks_and_also_when_there_is_nothing_to_resume(
    tiny, tiny_data, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(stages, "PCA_CROPS", 4)
    monkeypatch.setattr(stages, "start_from_pca", lambda model, w: seen.append(tuple(w.shape)))
    train_dmae(tiny, steps=1, device=CPU)
    train_dmae(tiny, steps=1, run=tmp_path, resume=True, device=CPU)
    assert seen == [(4, 2, tiny.dmae.crop)] * 2
    encoder = replace(tiny.dmae.encoder, pca_start=False)
    train_dmae(replace(tiny, dmae=replace(tiny.dmae, encoder=encoder)), steps=1, device=CPU)
    assert len(seen) == 2


def test_a_frozen_encoder_stays_where_the_warm_start_left_it(tiny, tiny_data, few_crops):
    config = replace(tiny.dmae_train, ema_beta=0.0)  # so that the average is the model itself
    short, long = (train_dmae(replace(tiny, dmae_train=config), steps=n, device=CPU)[0] for n in (2, 4))
    states_equal(short.encoder, long.encoder)
    assert (short.reader.to_magnitude.weight != long.reader.to_magnitude.weight).any()
    thawed = replace(tiny, dmae_train=config, dmae=replace(tiny.dmae, freeze_encoder=False))
    moved, _ = train_dmae(thawed, steps=4, device=CPU)
    assert (short.encoder.to_out.weight != moved.encoder.to_out.weight).any()


def test_both_stages_train_from_data_to_weights_that_load(tiny, tiny_data, few_crops, tmp_path):
    dmae, history = train_dmae(tiny, steps=3, device=CPU)
    assert len(history) == 3
    tcld, history = train_tcld(tiny, dmae, steps=2, device=CPU)
    assert len(history) == 2 and 0 < tcld.latent_std < 1
    card = ship(tiny, "tcld", tcld, history, tmp_path / "tcld.safetensors")
    assert card["steps"] == 2 and card["profile"] == "tiny"
    assert_close(card["loss_curve"], history.loss.tolist(), atol=1e-4, rtol=0)
    other = new_tcld(tiny)
    load_weights(other, tmp_path / "tcld.safetensors")
    assert_close(dict(other.state_dict()), dict(tcld.state_dict()), atol=1e-3, rtol=1e-3)


def test_stage_one_resumes_bit_identically(tiny, tiny_data, few_crops, tmp_path):
    whole, _ = train_dmae(tiny, steps=4, device=CPU)
    train_dmae(tiny, steps=3, run=tmp_path, device=CPU)  # stops where the warm start ends and the U-Net has begun
    resumed, history = train_dmae(tiny, steps=4, run=tmp_path, resume=True, device=CPU)
    assert history.step.tolist() == [0, 1, 2, 3]
    states_equal(resumed, whole)


def test_latents_of_a_split_are_cached_under_the_encoder_that_made_them(tiny, tiny_data, home):
    torch.manual_seed(0)
    models = DMAE(tiny.dmae), DMAE(tiny.dmae)
    z = [encode_split(tiny, model, "train") for model in models]
    assert z[0].shape == (2 * tiny.data.chunks, 32, tiny.tcld.crop // 1024)
    assert (z[0] - z[1]).abs().max() > 1e-2
    assert len(list((home / "latents").iterdir())) == 2
    for path in (tiny_data / "audio").iterdir():
        path.unlink()
    assert_close(encode_split(tiny, models[0], "train"), z[0], atol=0, rtol=0)


def test_stage_two_divides_by_the_standard_deviation_of_the_train_latents(tiny, tiny_data):
    torch.manual_seed(0)
    dmae = DMAE(tiny.dmae)
    tcld, _ = train_tcld(tiny, dmae, steps=1, device=CPU)
    assert_close(tcld.latent_std, encode_split(tiny, dmae, "train").std())


def test_a_latent_stands_beside_a_caption_of_its_own_chunk(tiny, tiny_data, read, monkeypatch):
    monkeypatch.setattr(records, "DROP", 0.0)
    tiny = replace(tiny, tcld=replace(tiny.tcld, title_drop=0.0))
    z = torch.arange(8.0)[:, None, None].expand(8, 32, 4)  # the latent of chunk i is i, everywhere
    latents, _ = caption_batches(tiny, z, 16, CPU)(0)
    for i, text in zip(latents[:, 0, 0].int().tolist(), read, strict=True):
        assert f"Tune {i // 4}" in text and f"{i % 4 + 1} of 4" in text


def test_stage_two_drops_titles_as_often_as_the_profile_says(tiny, tiny_data, read):
    for drop in (0.0, 1.0):
        caption_batches(replace(tiny, tcld=replace(tiny.tcld, title_drop=drop)), torch.zeros(8, 32, 4), 16, CPU)(0)
    titled = ["Tune" in text for text in read]
    assert all(titled[:16]) and not any(titled[16:])


def test_the_card_says_what_was_switched_on(tiny, tmp_path):
    history, path = pd.DataFrame({"loss": [1.0], "seconds": [1.0]}), tmp_path / "tcld.safetensors"
    plain, other = (ship(switched(tiny, on, None), "tcld", new_tcld(tiny), history, path) for on in (False, True))
    assert (plain["checkpointing"], plain["optimizer"]) == (False, "adamw") and "checkp" not in plain["command"]
    assert other["checkpointing"] is True and other["command"].endswith(" --steps 1 --checkpointing --ship")


def test_stage_two_goes_on_from_weights_and_the_card_counts_their_hours(tiny, tiny_data, tmp_path):
    torch.manual_seed(0)
    dmae, path = DMAE(tiny.dmae), tmp_path / "tcld.safetensors"
    tcld, history = train_tcld(tiny, dmae, steps=3, device=CPU)
    card = ship(tiny, "tcld", tcld, history.assign(seconds=1200.0), path)
    still = replace(tiny, tcld_train=replace(tiny.tcld_train, lr=0.0))
    more, history = train_tcld(still, dmae, steps=2, device=CPU, start=path)
    assert_close(dict(more.state_dict()), dict(tcld.state_dict()), atol=1e-3, rtol=1e-3)
    heard = [{"step": 2, "sigma": 0.5, "loss": 0.25, "shuffled": 0.5}]
    after = ship(tiny, "tcld", more, history.assign(seconds=1800.0), tmp_path / "more.safetensors", card, heard)
    assert after["validation"] == heard and "validation" not in card
    assert (card["hours_in_all"], after["hours"], after["hours_in_all"]) == (1.0, 1.0, 2.0)
    assert after["start"] == card
    runs = read_runs(tmp_path / "more.safetensors")
    assert [run["sha256"] for run in runs] == [card["sha256"], after["sha256"]]
    assert "start" not in card and "--start" not in card["command"] and "--start FILE" in after["command"]
    without_card = ship(tiny, "tcld", more, history, tmp_path / "more.safetensors", {})
    assert "--start FILE" in without_card["command"] and "start" not in without_card
    with pytest.raises(FileNotFoundError, match="no weights at"):
        train_tcld(tiny, dmae, steps=1, device=CPU, start=tmp_path / "none.safetensors")


def test_stage_one_goes_on_from_weights_without_a_warm_start_and_keeps_their_encoder(
    tiny, tiny_data, few_crops, tmp_path, monkeypatch
):
    path = tmp_path / "dmae.safetensors"
    first, history = train_dmae(tiny, steps=3, device=CPU)
    ship(tiny, "dmae", first, history, path)
    monkeypatch.setattr(stages, "start_from_pca", None)  # would undo the start
    config = replace(tiny.dmae_train, ema_beta=0.0, decay=True, warmup=0, restart=2)  # which is not to count
    more, history = train_dmae(replace(tiny, dmae_train=config), steps=3, device=CPU, start=path)
    old = {name: value.float() for name, value in load_file(path).items()}
    now = dict(more.state_dict())
    assert all((now[k] == v).all() for k, v in old.items() if k.startswith("encoder."))
    learnt = ("unet.", "reader.")  # both, from the first step on
    assert all((v != old[k]).any() for k, v in now.items() if k.startswith(learnt) and v.ndim == 3)
    assert_close(more.unet.state_dict(), first.unet.state_dict(), atol=0.02, rtol=0.1)  # from there, not from random
    assert history.lr.tolist() == pytest.approx([config.lr * (1 + math.cos(math.pi * i / 3)) / 2 for i in range(3)])


def test_a_shortened_run_keeps_two_thirds_for_the_diffusion(tiny):
    long = replace(tiny, dmae=replace(tiny.dmae, warm_start_steps=100))
    short = shortened(long, 30)
    assert (short.dmae.warm_start_steps, short.dmae_train.restart) == (10, 10)
    assert shortened(short, 3000).dmae.warm_start_steps == 10


def test_the_study_changes_one_thing_at_a_time(tiny):
    rows = variants(tiny)
    base = rows["as the profile"]
    assert (base.dmae.polish, base.dmae.crop) == (0, tiny.dmae.crop // 2)
    assert rows["no pre-emphasis"] == replace(base, dmae=replace(base.dmae, preemphasis=0.0))
    assert rows["patches, random start"].dmae.envelope_bands is None
