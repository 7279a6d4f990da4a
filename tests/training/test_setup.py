"""What each stage trains on and what becomes of it, on made-up data; the start from PCA."""

import itertools
import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.lines import states_equal
from helpers.processes import in_two_processes
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from torch.testing import assert_close

from mousai import cli
from mousai.checkpoint import load_weights, read_runs
from mousai.data import latents, records
from mousai.data.clips import Chunks
from mousai.data.latents import Latents, write_latents
from mousai.dmae import DMAE
from mousai.evaluation.study import variants
from mousai.small.encoder import log_magnitude
from mousai.small.pca import PCA_SPREAD, fit_pca, folded, start_from_pca, weights
from mousai.small.profiles import PROFILES, SMOKE
from mousai.small.stages import new_dmae, new_tcld
from mousai.spectrogram import magnitude
from mousai.training import setup
from mousai.training.export import export_weights
from mousai.training.resume import Run
from mousai.training.setup import (
    caption_batches,
    encode_split,
    open_latents,
    shortened,
    train_dmae,
    train_tcld,
    with_training,
)


@pytest.fixture
def few_crops(monkeypatch) -> None:
    """A start from PCA in a moment."""
    monkeypatch.setattr(setup, "PCA_CROPS", 4)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The texts that a text encoder was given in this test; what it answers is zeros."""
    texts: list[str] = []
    encoder = lambda new: texts.extend(new) or torch.zeros(len(new), 64, 384)  # noqa: E731
    monkeypatch.setattr(setup, "load_text_encoder", lambda *_: encoder)
    return texts


@pytest.fixture
def numbered(space, tmp_path) -> Latents:
    """Of the train split's 8 chunks, in parts of 3: the latent of chunk i is i, everywhere."""
    return filled(space.data.chunks("train"), tmp_path / "latents")


def filled(chunks: Chunks, folder: Path) -> Latents:
    numbers = itertools.count()
    write_latents(chunks, lambda _: torch.full((1, 32, 4), float(next(numbers))), folder, "nobody's")
    return Latents(folder)


def music(n: int, seed: int, time: int = 2**14) -> torch.Tensor:
    """Tones that come and go in noise, something PCA can find directions in: [n, 2, time]."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(time) / 48_000
    pitch, pace = (low + span * torch.rand(n, 8, 1, generator=generator) for low, span in ((100, 4000), (2, 10)))
    tones = torch.sin(2 * torch.pi * pitch * t) * torch.sin(2 * torch.pi * pace * t).square()
    shares = torch.rand(n, 2, 8, generator=generator)
    return 0.1 * shares @ tones + 0.002 * torch.randn(n, 2, time, generator=generator)


def pca_error(pca: PCA, w: torch.Tensor, model: DMAE) -> float:
    """Squared error of log magnitude through 32 numbers a latent step."""
    rows = folded(w, model.config).numpy()
    return float(((pca.inverse_transform(pca.transform(rows)) - rows) ** 2).mean())


def heads_error(model: DMAE, w: torch.Tensor) -> float:
    """The same through encoder and head."""
    with torch.no_grad():
        predicted = model.head.magnitude(model.head.hidden(model.encode(w)))
    return (weights(model.config) * (predicted - log_magnitude(magnitude(w), 1e-3))).square().mean().item()


def started(w: torch.Tensor) -> tuple[DMAE, DMAE]:
    """smoke's stage 1 from random weights, and the same begun as PCA of w."""
    torch.manual_seed(0)
    random = new_dmae(SMOKE.dmae).eval()
    torch.manual_seed(0)
    model = new_dmae(SMOKE.dmae).eval()
    start_from_pca(model, w)
    return random, model


def test_after_a_start_from_pca_encoder_and_head_are_about_the_pca():
    w, other = music(12, 0), music(4, 1)
    random, model = started(w)
    pca = fit_pca(w, model.config)
    for music_of in (w, other):  # seen in training, and not
        assert heads_error(model, music_of) < 1.4 * pca_error(pca, music_of, model)  # the tanh
        assert heads_error(model, music_of) < 0.2 * heads_error(random, music_of)


def test_after_a_start_from_pca_the_heads_loss_is_far_below_a_random_starts(generator):
    w = music(4, 0)
    losses = [model(w, generator, step=0).item() for model in started(w)]
    assert losses[1] < losses[0]


def test_the_numbers_of_a_pca_start_are_of_its_spread_and_far_from_saturated():
    w = music(12, 0)
    _, model = started(w)
    with torch.no_grad():
        straight = model.encoder.straight(log_magnitude(magnitude(w), 1e-3))
        z = model.encode(w)
    spread = straight.transpose(1, 2).flatten(0, 1).std(dim=0)
    assert_close(spread, torch.full((32,), PCA_SPREAD), atol=0.02, rtol=0)
    assert z.abs().max() < 0.99


def test_a_pca_start_that_the_profile_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match="a start from PCA needs `pca_start` and `octaves`"):
        start_from_pca(new_dmae(replace(SMOKE.dmae, encoder=replace(SMOKE.dmae.encoder, pca_start=False))), music(4, 0))


def test_stage_one_starts_from_pca_where_the_profile_asks_and_also_when_there_is_nothing_to_resume(
    tiny, space, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(setup, "PCA_CROPS", 4)
    monkeypatch.setattr(setup, "start_from_pca", lambda model, w: seen.append(tuple(w.shape)))
    train_dmae(space, 1)
    train_dmae(space, 1, Run(tmp_path, resume=True))
    assert seen == [(4, 2, tiny.dmae.crop)] * 2
    encoder = replace(tiny.dmae.encoder, pca_start=False)
    train_dmae(replace(space, profile=replace(tiny, dmae=replace(tiny.dmae, encoder=encoder))), 1)
    assert len(seen) == 2


def test_encoder_and_head_stay_where_the_pre_training_left_them(tiny, space, few_crops):
    config = replace(tiny.dmae_train, ema_beta=0.0)  # so that the average is the model itself
    short, long = (train_dmae(replace(space, profile=replace(tiny, dmae_train=config)), n)[0] for n in (3, 5))
    states_equal(short.encoder, long.encoder)
    states_equal(short.head, long.head)
    assert (short.unet.net.up.weight != long.unet.net.up.weight).any()


def test_both_stages_train_from_data_to_weights_that_load(tiny, space, few_crops, tmp_path):
    dmae, history = train_dmae(space, 3)
    assert len(history) == 3
    tcld, history = train_tcld(space, dmae, 2)
    assert len(history) == 2 and 0 < tcld.latent_std < 1
    card = export_weights(tiny, "tcld", tcld, history, tmp_path / "tcld.safetensors")
    assert card["steps"] == 2 and card["profile"] == "tiny"
    assert_close(card["loss_curve"], history.loss.tolist(), atol=1e-4, rtol=0)
    other = new_tcld(tiny)
    load_weights(other, tmp_path / "tcld.safetensors")
    assert_close(dict(other.state_dict()), dict(tcld.state_dict()), atol=1e-3, rtol=1e-3)


def test_stage_one_resumes_bit_identically(space, few_crops, tmp_path):
    whole, _ = train_dmae(space, 4)
    train_dmae(space, 3, Run(tmp_path))  # stops where the warm start ends and the U-Net has begun
    resumed, history = train_dmae(space, 4, Run(tmp_path, resume=True))
    assert history.step.tolist() == [0, 1, 2, 3]
    states_equal(resumed, whole)


def test_latents_of_a_split_are_cached_under_the_encoder_that_made_them(tiny, tiny_data, home, space):
    torch.manual_seed(0)
    models = new_dmae(tiny.dmae), new_dmae(tiny.dmae)
    z = [encode_split(space, model, "train") for model in models]
    assert z[0].shape == (2 * tiny.data.chunks, 32, tiny.tcld.crop // 1024)
    assert (z[0] - z[1]).abs().max() > 1e-2
    assert len(list((home / "latents").iterdir())) == 2
    for path in (tiny_data / "audio").iterdir():
        path.unlink()
    assert_close(encode_split(space, models[0], "train"), z[0], atol=0, rtol=0)


def test_a_latent_is_what_the_encoder_makes_of_its_chunk_in_half_precision(tiny, space, monkeypatch):
    monkeypatch.setattr(latents, "PART", 3)
    torch.manual_seed(0)
    dmae, chunks = new_dmae(tiny.dmae), space.data.chunks("train")
    found = open_latents(space, dmae, "train")
    with torch.no_grad():
        z = torch.cat([dmae.encode(torch.from_numpy(wave)[None]) for _, _, wave in chunks]).half().float()
    assert found.counts.tolist() == [3, 3, 2] and len(found) == 8
    assert_close(found[range(8)], z, atol=0, rtol=0)
    assert_close(found[[7, 0, 3]], z[[7, 0, 3]], atol=0, rtol=0)
    assert [found.about(i) for i in range(8)] == [chunks.about(i) for i in range(8)]
    assert_close(found.std(), z.std(), atol=0, rtol=0)
    assert_close(encode_split(space, dmae, "train", 1), z[:4], atol=0, rtol=0)
    with pytest.raises(IndexError):
        found[[8]]


def test_a_run_is_resumed_over_its_own_encoder_and_music_alone(tiny, tiny_data, space, few_crops, tmp_path):
    torch.manual_seed(0)
    dmae, other = new_dmae(tiny.dmae), new_dmae(tiny.dmae)
    train_tcld(space, dmae, 1, Run(tmp_path / "2"))
    with pytest.raises(ValueError, match=r"begun with the encoder .*, not .*: give the folder of that stage 1"):
        train_tcld(space, other, 2, Run(tmp_path / "2", resume=True))
    train_dmae(space, 1, Run(tmp_path / "1"))
    manifest = tiny_data / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("Tune 0", "Another"))
    with pytest.raises(ValueError, match=r"begun with the data set .*, not .*: set MOUSAI_DATA to that one"):
        train_dmae(replace(space), 2, Run(tmp_path / "1", resume=True))


def test_stage_two_trains_from_cached_latents_without_any_sound(tiny, tiny_data, space):
    torch.manual_seed(0)
    dmae = new_dmae(tiny.dmae)
    before, expected = train_tcld(space, dmae, 2)
    for path in (tiny_data / "audio").iterdir():
        path.unlink()
    after, history = train_tcld(space, dmae, 2)
    states_equal(after, before)
    assert history.loss.tolist() == expected.loss.tolist()


def test_processes_share_the_encoding_without_overlap(space, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "PART", 1)
    chunks, encoded = space.data.chunks("train"), []
    for rank, left in ((1, 5), (2, 3), (0, 0)):
        rows = []
        encode = lambda wave, rows=rows: rows.append(wave) or torch.full((1, 32, 4), float(wave[0, 0]))  # noqa: E731
        assert write_latents(chunks, encode, tmp_path / "z", "e", rank, 3) == left
        encoded += rows
    assert len(encoded) == 8 == len({wave.tobytes() for wave in encoded})
    firsts = torch.tensor([wave[0, 0] for _, _, wave in chunks]).half().float()
    assert_close(Latents(tmp_path / "z")[range(8)][:, 0, 0], firsts, atol=0, rtol=0)


@pytest.mark.system
def test_a_killed_encoding_keeps_its_finished_parts_and_goes_on(space, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "PART", 3)
    chunks, folder, numbers = space.data.chunks("train"), tmp_path / "z", iter(range(100))
    if not (child := os.fork()):  # killed in the second part
        try:
            mortal = lambda _: torch.ones(1, 32, 4) if next(numbers) < 4 else os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
            write_latents(chunks, mortal, folder, "e")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in folder.glob("*.safetensors*")] == ["000000.safetensors"]
    assert write_latents(chunks, lambda _: torch.zeros(1, 32, 4), folder, "e") == 0
    assert Latents(folder)[range(8)][:, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert not [*folder.glob("*.tmp"), *folder.glob(".*.tmp")]


def test_parts_that_are_damaged_or_of_another_encoder_are_made_anew(space, tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "PART", 3)
    chunks, folder = space.data.chunks("train"), tmp_path / "latents"
    filled(chunks, folder)
    part, last = folder / "000001.safetensors", folder / "000002.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    last.write_bytes(b"")
    write_latents(chunks, lambda _: torch.full((1, 32, 4), 9.0), folder, "nobody's")
    assert Latents(folder)[range(8)][:, 0, 0].tolist() == [0, 1, 2, 9, 9, 9, 9, 9]
    write_latents(chunks, lambda _: torch.full((1, 32, 4), 7.0), folder, "another's")
    assert Latents(folder)[range(8)][:, 0, 0].tolist() == [7] * 8


@pytest.mark.system
def test_of_two_encodings_of_one_set_the_second_waits_and_uses_what_the_first_made(space, tmp_path, capfd):
    def encode(_):
        encoded.append(1)
        time.sleep(0.3)
        return torch.full((1, 32, 4), float(os.getpid() % 100))

    def make() -> None:
        left = write_latents(space.data.chunks("train"), encode, tmp_path / "z", "e")
        (tmp_path / f"{os.getpid()}.count").write_text(f"{left} {len(encoded)}")

    encoded: list[int] = []
    assert in_two_processes(make) == [0, 0]
    assert sorted(path.read_text() for path in tmp_path.glob("*.count")) == ["0 0", "0 8"]
    assert "waiting for" in capfd.readouterr().err
    assert len(Latents(tmp_path / "z")[range(8)].unique()) == 1


def test_latents_of_no_chunk_or_of_several_lengths_are_named(space, tmp_path):
    (tmp_path / "z").mkdir()
    with pytest.raises(ValueError, match="no latents: is the split empty"):
        Latents(tmp_path / "z")
    lengths = itertools.count(4)
    with pytest.raises(ValueError, match="chunk 2 of 0 is of another length: import all music with one --profile"):
        write_latents(space.data.chunks("train"), lambda _: torch.zeros(1, 32, next(lengths)), tmp_path / "z", "e")


def test_new_tags_of_the_same_sound_are_not_read_from_an_old_cache(tiny, tiny_data, space):
    torch.manual_seed(0)
    dmae, path = new_dmae(tiny.dmae), tiny_data / "manifest.jsonl"
    assert open_latents(space, dmae, "train").about(0)[0].title == "Tune 0"
    path.write_text(path.read_text().replace("Tune 0", "Another"))
    assert open_latents(space, dmae, "train").about(0)[0].title == "Another"


def test_the_command_encodes_both_splits_and_says_what_is_left_to_others(tiny, tiny_data, home, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "smoke", tiny)
    monkeypatch.setattr("mousai.training.setup.open_dmae", lambda space, weights: new_dmae(space.profile.dmae))
    monkeypatch.setattr(latents, "PART", 2)
    ends = []
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        torch.manual_seed(0)
        with pytest.raises(SystemExit) as left:
            cli.main(["data", "latents", "--profile", "smoke", "--device", "cpu"])
        assert left.value.code == 0
        ends += [line.rsplit(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert ends == [
        "2 parts are left to the other processes",
        "1 parts are left to the other processes",
        "whole",
        "whole",
    ]
    (tiny_data / "manifest.jsonl").unlink()
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "latents", "--profile", "smoke", "--device", "cpu"])
    assert (
        left.value.code == 2
        and "no manifest of a data set is here: run `mousai data prepare --profile tiny` first"
        in capsys.readouterr().err
    )


def test_stage_two_divides_by_the_standard_deviation_of_the_train_latents(tiny, space):
    torch.manual_seed(0)
    dmae = new_dmae(tiny.dmae)
    tcld, _ = train_tcld(space, dmae, 1)
    assert_close(tcld.latent_std, encode_split(space, dmae, "train").std())


def test_a_latent_stands_beside_a_caption_of_its_own_chunk(tiny, numbered, read, monkeypatch, space):
    monkeypatch.setattr(records, "DROP", 0.0)
    space = replace(space, profile=replace(tiny, tcld=replace(tiny.tcld, title_drop=0.0)))
    z, _ = caption_batches(space, numbered, 16)(0)
    for i, text in zip(z[:, 0, 0].int().tolist(), read, strict=True):
        assert f"Tune {i // 4}" in text and f"{i % 4 + 1} of 4" in text


def test_stage_two_drops_titles_as_often_as_the_profile_says(tiny, numbered, read, space):
    for drop in (0.0, 1.0):
        caption_batches(replace(space, profile=replace(tiny, tcld=replace(tiny.tcld, title_drop=drop))), numbered, 16)(
            0
        )
    titled = ["Tune" in text for text in read]
    assert all(titled[:16]) and not any(titled[16:])


def test_the_card_says_what_was_switched_on(tiny, tmp_path):
    history, path = pd.DataFrame({"loss": [1.0], "seconds": [1.0]}), tmp_path / "tcld.safetensors"
    plain = export_weights(tiny, "tcld", new_tcld(tiny), history, path)
    other = export_weights(with_training(tiny, checkpointing=True), "tcld", new_tcld(tiny), history, path)
    assert plain["checkpointing"] is False and "checkp" not in plain["command"]
    assert other["checkpointing"] is True and other["command"].endswith(" --steps 1 --checkpointing --ship")


def test_stage_two_goes_on_from_weights_and_the_card_counts_their_hours(tiny, space, tmp_path):
    torch.manual_seed(0)
    dmae, path = new_dmae(tiny.dmae), tmp_path / "tcld.safetensors"
    tcld, history = train_tcld(space, dmae, 3)
    card = export_weights(tiny, "tcld", tcld, history.assign(seconds=1200.0), path)
    still = replace(tiny, tcld_train=replace(tiny.tcld_train, lr=0.0))
    more, history = train_tcld(replace(space, profile=still), dmae, 2, Run(start=path))
    assert_close(dict(more.state_dict()), dict(tcld.state_dict()), atol=1e-3, rtol=1e-3)
    losses = [{"step": 2, "sigma": 0.5, "loss": 0.25, "shuffled": 0.5}]
    after = export_weights(
        tiny, "tcld", more, history.assign(seconds=1800.0), tmp_path / "more.safetensors", card, {"validation": losses}
    )
    assert after["validation"] == losses and "validation" not in card
    assert (card["hours_in_all"], after["hours"], after["hours_in_all"]) == (1.0, 1.0, 2.0)
    assert after["start"] == card
    runs = read_runs(tmp_path / "more.safetensors")
    assert [run["sha256"] for run in runs] == [card["sha256"], after["sha256"]]
    assert "start" not in card and "--start" not in card["command"] and "--start FILE" in after["command"]
    without_card = export_weights(tiny, "tcld", more, history, tmp_path / "more.safetensors", {})
    assert "--start FILE" in without_card["command"] and "start" not in without_card
    with pytest.raises(FileNotFoundError, match="no weights at"):
        train_tcld(space, dmae, 1, Run(start=tmp_path / "none.safetensors"))


def test_stage_one_goes_on_from_weights_without_a_warm_start_and_keeps_their_encoder(
    tiny, space, few_crops, tmp_path, monkeypatch
):
    path = tmp_path / "dmae.safetensors"
    first, history = train_dmae(space, 3)
    export_weights(tiny, "dmae", first, history, path)
    monkeypatch.setattr(setup, "start_from_pca", None)  # would undo the start
    config = replace(tiny.dmae_train, ema_beta=0.0, decay=True, warmup=0, schedule_restart=2)  # which is not to count
    more, history = train_dmae(replace(space, profile=replace(tiny, dmae_train=config)), 3, Run(start=path))
    old = {name: value.float() for name, value in load_file(path).items()}
    now = dict(more.state_dict())
    assert all((now[k] == v).all() for k, v in old.items() if k.startswith("encoder."))
    learnt = ("unet.", "reader.")  # both, from the first step on
    assert all((v != old[k]).any() for k, v in now.items() if k.startswith(learnt) and v.ndim == 3)
    assert_close(more.unet.state_dict(), first.unet.state_dict(), atol=0.02, rtol=0.1)  # from there, not from random
    assert history.lr.tolist() == pytest.approx([config.lr * (1 + math.cos(math.pi * i / 3)) / 2 for i in range(3)])


def test_a_shortened_run_keeps_two_thirds_for_the_diffusion(tiny):
    train = replace(tiny.dmae_train, schedule_restart=100, warmup=5)
    long = replace(tiny, dmae=replace(tiny.dmae, encoder_pretrain_steps=100), dmae_train=train)
    short = shortened(long, 30)
    assert (short.dmae.encoder_pretrain_steps, short.dmae_train.schedule_restart, short.dmae_train.warmup) == (
        10,
        10,
        3,
    )
    assert shortened(short, 3000).dmae.encoder_pretrain_steps == 10


def test_the_study_changes_one_thing_at_a_time(tiny):
    rows = variants(tiny)
    base = rows["as the profile"]
    assert (base.dmae.refinement_steps, base.dmae.crop) == (0, tiny.dmae.crop // 2)
    assert rows["no pre-emphasis"] == replace(base, dmae=replace(base.dmae, preemphasis=0.0))
    assert rows["patches, trained together"].dmae.octaves is None


def moved(model, parts: tuple[str, ...], seed: int) -> list[bool]:
    """Of each tensor in these parts, whether it differs from that of an untrained model."""
    torch.manual_seed(seed)
    before = new_dmae(model.config).state_dict()
    return [bool((value != before[name]).any()) for name, value in model.state_dict().items() if name.startswith(parts)]


def test_a_run_shorter_than_the_encoders_pretraining_still_trains_the_diffusion(tiny, space, few_crops):
    train = replace(tiny.dmae_train, schedule_restart=2400, warmup=100, decay=True)
    long = replace(tiny, dmae=replace(tiny.dmae, encoder_pretrain_steps=2400), dmae_train=train)
    model, history = train_dmae(replace(space, profile=long), 6)
    assert sum(moved(model, ("unet.",), tiny.seed)) > 20
    assert (
        history.lr.tolist()[:2] == [train.lr, train.lr / 2] and history.lr[2] == train.lr
    )  # restarts after pre-training


def test_a_run_begun_from_weights_goes_on_as_begun_and_another_length_keeps_its_phases(
    tiny, space, few_crops, tmp_path
):
    path, config = tmp_path / "dmae.safetensors", replace(tiny.dmae_train, ema_beta=0.0)
    first, history = train_dmae(space, 3)
    export_weights(tiny, "dmae", first, history, path)
    space = replace(space, profile=replace(tiny, dmae_train=config))
    whole, _ = train_dmae(space, 6, Run(start=path))
    train_dmae(space, 3, Run(tmp_path / "run", start=path))
    resumed, _ = train_dmae(space, 6, Run(tmp_path / "run", resume=True))  # as the message says it, without --start
    states_equal(resumed, whole)
    encoder = {name: value.float() for name, value in load_file(path).items() if name.startswith("encoder.")}
    assert all((resumed.state_dict()[name] == value).all() for name, value in encoder.items())
