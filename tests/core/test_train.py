"""The plain loop: the average, the learning rate, AdamW steps, one noise for each step."""

from dataclasses import replace
from math import nan

import pytest
import torch
from helpers.lines import CONFIG, batches, line, states_equal
from torch import nn
from torch.testing import assert_close

from mousai.config import TrainConfig
from mousai.train import EMA, learning_rate, step_generator, train


def test_training_learns_a_line():
    model, history = train(line(), batches, replace(CONFIG, weight_decay=0.0), 300)
    assert sum(row["loss"] for row in history[-20:]) / 20 < 0.05 * history[0]["loss"]
    assert_close(model.line.weight.item(), 3.0, atol=0.2, rtol=0)


def test_the_plain_loop_is_one_adamw_step_a_batch():
    model, twin = line(), line()
    _, history = train(model, batches, CONFIG, 2, seed=4)
    optimizer = torch.optim.AdamW(twin.parameters(), 0.05, betas=(0.95, 0.999), eps=1e-6, weight_decay=1e-3)
    for step in range(2):
        optimizer.zero_grad()
        loss = twin(*batches(step), step_generator(4, step))
        loss.backward()
        optimizer.step()
        assert history[step] == {"step": step, "loss": loss.item(), "lr": 0.05}
    states_equal(model, twin)


def test_the_average_includes_the_last_step_of_the_plain_loop_and_a_callback_sees_it_after_every_step():
    model, seen = line(), []
    average, _ = train(
        model, batches, replace(CONFIG, ema_beta=0.0), 3, callback=lambda step, ema: seen.append((step, ema))
    )
    states_equal(average, model)
    assert [step for step, _ in seen] == [1, 2, 3] and all(ema is average for _, ema in seen)


def test_a_loss_that_is_not_finite_stops_the_plain_loop_before_the_weights_change():
    model = line()
    before = model.line.weight.clone()
    broken = lambda step: (batches(step)[0] * nan, batches(step)[1])  # noqa: E731
    with pytest.raises(ValueError, match=r"loss is nan at step 0: lower the learning rate, 0.05, or check the data"):
        train(model, broken, CONFIG, 2)
    assert_close(model.line.weight, before, atol=0, rtol=0)


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


def test_the_average_copies_buffers_and_wants_no_gradient():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, 0.995, 0.7)
    model.running_mean.fill_(3.0)
    ema.update(model, 1)
    assert_close(ema.model.running_mean, model.running_mean)
    assert not ema.model.training and not any(p.requires_grad for p in ema.model.parameters())


def test_the_papers_learning_rate_is_constant():
    assert {learning_rate(TrainConfig(), step, 1000) for step in (0, 1, 500, 999)} == {1e-4}


def test_a_short_run_warms_up_linearly_and_follows_a_cosine_to_zero():
    config = TrainConfig(lr=1.0, warmup=10)
    assert_close([learning_rate(config, step, 100) for step in (0, 4, 9, 50)], [0.1, 0.5, 1.0, 1.0])
    config = TrainConfig(lr=1.0, decay=True)
    assert_close([learning_rate(config, step, 100) for step in (0, 50, 100)], [1.0, 0.5, 0.0])


def test_the_schedule_starts_anew_where_it_is_told_to():
    once = TrainConfig(lr=1.0, warmup=10, decay=True)
    again = replace(once, schedule_restart=40)
    for step in range(40):
        assert learning_rate(again, step, 100) == learning_rate(once, step, 40)
    for step in range(40, 100):
        assert learning_rate(again, step, 100) == learning_rate(once, step - 40, 60)


@pytest.mark.parametrize("restart", [0, 100, 200])
def test_a_restart_that_never_comes_changes_nothing(restart):
    once = TrainConfig(lr=1.0, warmup=10, decay=True)
    for step in (0, 5, 50, 99):
        assert learning_rate(replace(once, schedule_restart=restart), step, 100) == learning_rate(once, step, 100)


def test_each_step_has_its_own_noise_and_always_the_same():
    first, again, later, other = (
        torch.randn(4, generator=step_generator(*key)) for key in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first, later) and not torch.equal(first, other)
