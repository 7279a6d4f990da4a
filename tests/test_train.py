"""The loop: EMA, resuming, learning rate, what is kept when things go wrong; then both stages on made-up data."""

from dataclasses import replace
from math import nan

import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mousai import train
from mousai.checkpoint import load_weights, new_tcld
from mousai.data import records
from mousai.dmae import DMAE
from mousai.profiles import TrainConfig
from mousai.train import (
    EMA,
    caption_batches,
    encode_split,
    fit,
    learning_rate,
    load_run,
    ship,
    step_generator,
    train_dmae,
    train_tcld,
)

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=8, lr=0.05)


class Line(nn.Module):
    """y = a x + b, with noise drawn from the step's generator, as the stages do it."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x, y, generator, step):
        return (self.line(x + 0.01 * torch.randn(x.shape, generator=generator)) - y).square().mean()


def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, 1, generator=step_generator(1, step))
    return x, 3 * x - 1


def line() -> Line:
    torch.manual_seed(0)
    return Line()


def states_equal(a: nn.Module, b: nn.Module) -> None:
    assert_close(dict(a.state_dict()), dict(b.state_dict()), atol=0, rtol=0)


def test_the_average_moves_by_the_papers_beta():
    model, ema = line(), EMA(line(), 0.995, 0.7)
    before = ema.model.line.weight.clone()
    nn.init.constant_(model.line.weight, 5.0)
    ema.update(model, 3)
    beta = 1 - 4**-0.7
    assert_close(ema.model.line.weight, beta * before + (1 - beta) * 5.0)


def test_the_averages_beta_ends_at_its_limit():
    model, ema = line(), EMA(line(), 0.9, 0.7)
    before = ema.model.line.weight.clone()
    nn.init.constant_(model.line.weight, 5.0)
    ema.update(model, 10**6)
    assert_close(ema.model.line.weight, 0.9 * before + 0.1 * 5.0)


def test_the_average_computes_with_its_own_weights():
    """In the authors' packages its output is the original's."""
    model, x = line(), torch.ones(1, 1)
    ema = EMA(model, 0.995, 0.7)
    nn.init.constant_(model.line.weight, 100.0)
    assert (ema.model.line(x) - model.line(x)).abs() > 50
    ema.update(model, 1)
    assert ema.model.line(x) != model.line(x)


def test_the_average_includes_the_last_step():
    """With beta 0 the average is the model after its last step, not before it."""
    model = line()
    average, _ = fit(model, batches, replace(CONFIG, ema_beta=0.0), 5, device=CPU)
    states_equal(average, model)


def test_the_average_copies_buffers_and_wants_no_gradient():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, 0.995, 0.7)
    model.running_mean.fill_(3.0)
    ema.update(model, 1)
    assert_close(ema.model.running_mean, model.running_mean)
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())


def test_training_learns_a_line():
    model, history = fit(line(), batches, replace(CONFIG, weight_decay=0.0), 300, device=CPU)
    assert history.loss.tail(20).mean() < 0.05 * history.loss.head(5).mean()
    assert_close(model.line.weight.item(), 3.0, atol=0.2, rtol=0)


def test_training_is_one_adamw_step_a_batch():
    model, twin = line(), line()
    fit(model, batches, CONFIG, 2, seed=4, device=CPU)
    optimizer = torch.optim.AdamW(twin.parameters(), 0.05, betas=(0.95, 0.999), eps=1e-6, weight_decay=1e-3)
    for step in range(2):
        optimizer.zero_grad()
        twin(*batches(step), step_generator(4, step), step).backward()
        optimizer.step()
    states_equal(model, twin)


def test_the_history_has_a_row_a_step():
    _, history = fit(line(), batches, CONFIG, 4, device=CPU)
    assert history.step.tolist() == [0, 1, 2, 3]
    assert (history.seconds > 0).all() and (history.lr == 0.05).all()


def test_the_same_seed_is_the_same_run_and_another_is_not():
    runs = [fit(line(), batches, CONFIG, 4, seed=seed, device=CPU)[0] for seed in (0, 0, 1)]
    states_equal(runs[0], runs[1])
    assert runs[0].line.weight != runs[2].line.weight


def stopping(at: int, error: BaseException):
    def stop(step):
        if step == at:
            raise error
        return batches(step)

    return stop


@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_run_that_is_interrupted_and_resumed_is_bit_identical_to_one_that_was_not(tmp_path, at):
    config = replace(CONFIG, warmup=3, decay=True)
    whole_model = line()
    whole, expected = fit(whole_model, batches, config, 8, device=CPU)
    with pytest.raises(KeyboardInterrupt):
        fit(line(), stopping(at, KeyboardInterrupt()), config, 8, run=tmp_path, device=CPU)
    model = line()
    resumed, history = fit(model, batches, config, 8, run=tmp_path, resume=True, device=CPU)
    states_equal(model, whole_model)
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist()


def test_without_resume_a_run_starts_again(tmp_path):
    fit(line(), batches, CONFIG, 3, run=tmp_path, device=CPU)
    _, history = fit(line(), batches, CONFIG, 2, run=tmp_path, device=CPU)
    assert len(history) == 2


def test_a_run_leaves_its_history_as_a_table(tmp_path):
    _, history = fit(line(), batches, CONFIG, 3, run=tmp_path, device=CPU)
    assert_close(pd.read_csv(tmp_path / "history.csv").loss.tolist(), history.loss.tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "last.safetensors"]


def test_a_loss_that_is_not_finite_stops_the_run_and_what_is_saved_stays_good(tmp_path):
    broken = lambda step: (batches(step)[0] * (nan if step == 3 else 1), batches(step)[1])  # noqa: E731
    with pytest.raises(ValueError, match=r"loss is nan at step 3: lower the learning rate, 0.05, or check the data"):
        fit(line(), broken, CONFIG, 8, run=tmp_path, device=CPU)
    model = line()
    ema, optimizer = EMA(model, 0.995, 0.7), torch.optim.AdamW(model.parameters())
    assert len(load_run(tmp_path, model, ema, optimizer)) == 3
    assert model.line.weight.isfinite().all() and ema.model.line.weight.isfinite().all()


def test_a_damaged_or_foreign_run_is_one_clear_line(tmp_path):
    fit(line(), batches, CONFIG, 1, run=tmp_path, device=CPU)
    with pytest.raises(ValueError, match="is damaged or of another profile: delete it"):
        fit(wider(), batches, CONFIG, 2, run=tmp_path, resume=True, device=CPU)
    (tmp_path / "last.safetensors").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="is damaged or of another profile: delete it"):
        fit(line(), batches, CONFIG, 2, run=tmp_path, resume=True, device=CPU)


def wider() -> Line:
    model = Line()
    model.more = nn.Linear(1, 1)
    return model


def test_the_papers_learning_rate_is_constant():
    assert {learning_rate(TrainConfig(), step, 1000) for step in (0, 1, 500, 999)} == {1e-4}


def test_a_short_run_warms_up_linearly_and_follows_a_cosine_to_zero():
    config = TrainConfig(lr=1.0, warmup=10)
    assert_close([learning_rate(config, step, 100) for step in (0, 4, 9, 50)], [0.1, 0.5, 1.0, 1.0])
    config = TrainConfig(lr=1.0, decay=True)
    assert_close([learning_rate(config, step, 100) for step in (0, 50, 100)], [1.0, 0.5, 0.0])


def test_each_step_has_its_own_noise_and_always_the_same():
    first, again, later, other = (
        torch.randn(4, generator=step_generator(*key)) for key in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first, later) and not torch.equal(first, other)


def test_both_stages_train_from_data_to_weights_that_load(tiny, tiny_data, tmp_path):
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


def test_stage_one_resumes_bit_identically(tiny, tiny_data, tmp_path):
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


def test_the_first_step_moves_the_average_by_the_papers_first_beta():
    model, start = line(), line().line.weight
    average, _ = fit(model, batches, CONFIG, 1, device=CPU)
    beta = 1 - 2**-0.7
    assert_close(average.line.weight, beta * start + (1 - beta) * model.line.weight)


def test_stage_two_divides_by_the_standard_deviation_of_the_train_latents(tiny, tiny_data):
    torch.manual_seed(0)
    dmae = DMAE(tiny.dmae)
    tcld, _ = train_tcld(tiny, dmae, steps=1, device=CPU)
    assert_close(tcld.latent_std, encode_split(tiny, dmae, "train").std())


def test_a_latent_stands_beside_a_caption_of_its_own_chunk(tiny, tiny_data, monkeypatch):
    read = []
    encoder = lambda texts: read.extend(texts) or torch.zeros(len(texts), 64, 384)  # noqa: E731
    monkeypatch.setattr(train, "load_text_encoder", lambda *_: encoder)
    monkeypatch.setattr(records, "DROP", 0.0)
    z = torch.arange(8.0)[:, None, None].expand(8, 32, 4)  # the latent of chunk i is i, everywhere
    latents, _ = caption_batches(tiny, z, 16, CPU)(0)
    for i, text in zip(latents[:, 0, 0].int().tolist(), read, strict=True):
        assert f"Tune {i // 4}" in text and f"{i % 4 + 1} of 4" in text
