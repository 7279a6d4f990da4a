"""The loop of long runs: accumulation, clipping, checkpointing, prefetching, validation at its steps."""

import threading
from dataclasses import replace

import pytest
import torch
from helpers.lines import CONFIG, CPU, Exact, Line, batches, line, states_equal
from torch import nn
from torch.testing import assert_close

from mousai.train import step_generator, train
from mousai.training import activation_checkpointing, loop
from mousai.training.loop import Prefetcher, fit, waiting_share
from mousai.training.resume import Run


def test_the_long_loop_is_the_plain_one():
    plain, model = line(), line()
    average, rows = train(plain, batches, replace(CONFIG, warmup=3, decay=True), 6, seed=2)
    ema, history = fit(model, batches, replace(CONFIG, warmup=3, decay=True), 6, seed=2, device=CPU)
    states_equal(model, plain)
    states_equal(ema, average)
    assert history[["step", "loss", "lr"]].to_dict("records") == rows


def test_the_average_includes_the_last_step():
    """With beta 0 the average is the model after its last step, not before it."""
    model = line()
    average, _ = fit(model, batches, replace(CONFIG, ema_beta=0.0), 5, device=CPU)
    states_equal(average, model)


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


def test_accumulated_batches_are_one_larger_batch():
    together = lambda step: tuple(torch.cat(pair) for pair in zip(batches(2 * step), batches(2 * step + 1)))  # noqa: E731, B905
    small, large = Exact(), Exact()
    _, history = fit(small, batches, replace(CONFIG, accumulate=2), 4, device=CPU)
    _, expected = fit(large, together, CONFIG, 4, device=CPU)
    assert_close(dict(small.state_dict()), dict(large.state_dict()), atol=1e-5, rtol=1e-5)
    for name in ("loss", "gradient"):
        assert_close(history[name].tolist(), expected[name].tolist(), atol=1e-5, rtol=1e-5)
    assert len(history) == 4


def test_each_accumulated_batch_has_its_own_noise(monkeypatch):
    drawn = []
    monkeypatch.setattr(loop, "step_generator", lambda *key: drawn.append(key) or step_generator(*key))
    fit(line(), batches, replace(CONFIG, accumulate=3), 2, seed=7, device=CPU)
    assert drawn == [(7, number) for number in range(6)]


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_a_gradient_is_shortened_to_what_the_profile_allows_and_its_length_is_noted(clip):
    model, twin = line(), line()
    config = replace(CONFIG, max_grad_norm=clip, eps=1.0)  # so that AdamW does not undo the scale
    _, history = fit(model, batches, config, 2, seed=4, device=CPU)
    optimizer = torch.optim.AdamW(twin.parameters(), 0.05, betas=(0.95, 0.999), eps=1.0, weight_decay=1e-3)
    for step in range(2):
        optimizer.zero_grad()
        twin(*batches(step), step_generator(4, step), step).backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or 1e9).item()
        assert_close(history.gradient[step].item(), norm, atol=1e-5, rtol=1e-5)
        assert norm > 0.1
        optimizer.step()
    assert_close(dict(model.state_dict()), dict(twin.state_dict()), atol=1e-6, rtol=1e-6)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_touched():
    class Cliff(Line):
        def forward(self, x, y, generator, step):
            return super().forward(x, y, generator, step) + (self.line.weight - self.line.weight).abs().sqrt().sum()

    model = Cliff()
    before = model.line.weight.clone()
    with pytest.raises(ValueError, match="gradient is nan at step 0"):
        fit(model, batches, CONFIG, 1, device=CPU)
    assert_close(model.line.weight, before, atol=0, rtol=0)


@pytest.mark.parametrize(("steps", "expected"), [(4, [0, 2, 4]), (5, [0, 2, 4, 5]), (1, [0, 1])])
def test_validation_is_before_the_first_step_every_so_many_and_at_the_end_with_the_average(steps, expected):
    seen = []
    run = Run(callback=lambda step, model: seen.append((step, model.training, model.line.weight.item())))
    average, _ = fit(line(), batches, replace(CONFIG, validation_steps=2), steps, device=CPU, run=run)
    assert [(step, training) for step, training, _ in seen] == [(step, False) for step in expected]
    assert seen[0][2] == line().line.weight.item() and seen[-1][2] == average.line.weight.item()


def test_a_resumed_run_is_validated_at_the_same_steps(tmp_path):
    seen = []
    for resume, steps in ((False, 3), (True, 6)):
        run = Run(tmp_path, resume, callback=lambda step, model: seen.append(step))
        fit(line(), batches, replace(CONFIG, validation_steps=2), steps, device=CPU, run=run)
    assert seen == [0, 2, 3, 4, 6]


def test_the_first_step_moves_the_average_by_the_papers_first_beta():
    model, start = line(), line().line.weight
    average, _ = fit(model, batches, CONFIG, 1, device=CPU)
    beta = 1 - 2**-0.7
    assert_close(average.line.weight, beta * start + (1 - beta) * model.line.weight)


def test_the_next_batch_is_made_while_this_one_is_used_and_every_batch_is_the_right_one():
    made, begun = [], threading.Event()

    def make(number: int) -> tuple[int]:
        made.append((number, threading.current_thread() is threading.main_thread()))
        if number == 1:
            begun.set()
        return (number,)

    prefetcher = Prefetcher(make)
    assert prefetcher(0) == (0,) and begun.wait(10)
    assert [prefetcher(number) for number in (1, 2, 5, 6, 3)] == [(1,), (2,), (5,), (6,), (3,)]
    prefetcher.close()
    assert not any(in_main for _, in_main in made)


def test_a_batch_that_fails_does_so_when_it_is_asked_for():
    def make(number: int) -> tuple[int]:
        if number == 1:
            raise ValueError("a broken file")
        return (number,)

    prefetcher = Prefetcher(make)
    assert prefetcher(0) == (0,)
    with pytest.raises(ValueError, match="a broken file"):
        prefetcher(1)
    prefetcher.close()


def test_the_share_of_waiting_is_of_all_seconds():
    assert waiting_share([{"waited": 1.0, "seconds": 4.0}, {"waited": 0.0, "seconds": 1.0}]) == 0.2


class Counted(nn.Linear):
    """A layer that counts how often it is computed."""

    times = 0

    def forward(self, x):
        self.times += 1
        return super().forward(x)


@pytest.mark.parametrize("on", [False, True])
def test_activation_checkpointing_computes_twice_learns_the_same_and_leaves_no_trace(on, monkeypatch):
    monkeypatch.setattr(activation_checkpointing, "BLOCKS", (Counted,))
    plain, model = line(), line()
    model.line = Counted(1, 1)
    model.load_state_dict(plain.state_dict())
    fit(plain, batches, CONFIG, 3, device=CPU)
    fit(model, batches, replace(CONFIG, checkpointing=on), 3, device=CPU)
    assert model.line.times == (6 if on else 3)
    assert "forward" not in vars(model.line)
    assert_close(dict(model.state_dict()), dict(plain.state_dict()))


class Told(Line):
    """A model that changes with the step, as stage 1 does where its encoder is pre-trained."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, x, y, generator, step):
        self.steps.append(step)
        return super().forward(x, y, generator)


class Untold(Line):
    """A model of the paper, which is the same in every step."""

    def forward(self, x, y, generator):
        return super().forward(x, y, generator)


def test_the_step_is_given_to_models_that_ask_for_it():
    torch.manual_seed(0)
    told = Told()
    torch.manual_seed(0)
    untold = Untold()
    fit(told, batches, replace(CONFIG, accumulate=2), 3, device=CPU)
    fit(untold, batches, replace(CONFIG, accumulate=2), 3, device=CPU)
    assert told.steps == [0, 0, 1, 1, 2, 2]
    states_equal(told, untold)
