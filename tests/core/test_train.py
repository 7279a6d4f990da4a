"""The loop: EMA, resuming, learning rate, accumulation, what is kept when things go wrong."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.lines import CONFIG, CPU, Exact, Line, batches, line, states_equal
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from mousai import train
from mousai.config import TrainConfig
from mousai.train import EMA, Ahead, fit, learning_rate, load_run, step_generator, waiting
from mousai.training.activation_checkpointing import Recomputed
from mousai.training.optimizer import parameter_groups


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


def test_the_header_of_a_save_does_not_grow_with_the_steps_behind_it(tmp_path):
    """A header may hold 100 MB: with rows of text in it a run of a million steps could not be saved at 606,000."""
    row, sizes, model = {"loss": 0.1, "lr": 1e-4}, [], line()
    ema, optimizer = EMA(line(), 0.9, 0.7), torch.optim.AdamW(model.parameters())
    for steps in (1000, 9000):
        history = [{"step": step, **row} for step in range(steps)]
        train.save_run(tmp_path, model, ema, optimizer, history)
        sizes.append(int.from_bytes((tmp_path / "last.safetensors").read_bytes()[:8], "little"))
        assert load_run(tmp_path, model, ema, optimizer) == history
    assert sizes[1] < sizes[0] + 100


def test_the_last_two_are_kept_and_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, capsys):
    whole, expected = fit(line(), batches, CONFIG, 6, device=CPU)
    fit(line(), batches, replace(CONFIG, save_minutes=0), 4, run=tmp_path, device=CPU)
    last, previous = tmp_path / "last.safetensors", tmp_path / "previous.safetensors"
    last.write_bytes(last.read_bytes()[:-20])
    resumed, history = fit(line(), batches, CONFIG, 6, run=tmp_path, resume=True, device=CPU)
    assert f"{last} is damaged or of another profile: going on from {previous.name}\n" in capsys.readouterr().err
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist()
    for path in (last, previous):
        path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"previous\.safetensors is damaged or of another profile: delete it"):
        fit(line(), batches, CONFIG, 6, run=tmp_path, resume=True, device=CPU)


def test_a_damaged_file_never_takes_the_good_ones_place(tmp_path, monkeypatch):
    """Killed at the next save, just before the new file is there: what is left can still be read."""
    fit(line(), batches, replace(CONFIG, save_minutes=0), 4, run=tmp_path, device=CPU)
    (tmp_path / "last.safetensors").write_bytes(b"half a file")
    monkeypatch.setattr(train, "save_tensors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(line(), batches, CONFIG, 6, run=tmp_path, resume=True, device=CPU)
    monkeypatch.undo()
    assert len(fit(line(), batches, CONFIG, 6, run=tmp_path, resume=True, device=CPU)[1]) == 6


def test_what_another_run_left_is_never_fallen_back_to(tmp_path):
    fit(line(), batches, replace(CONFIG, save_minutes=0), 4, run=tmp_path, device=CPU)
    assert (tmp_path / "previous.safetensors").is_file()
    fit(line(), batches, CONFIG, 3, run=tmp_path, device=CPU)
    assert not (tmp_path / "previous.safetensors").exists()


@pytest.mark.system
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: run it on Linux or macOS")
@pytest.mark.parametrize("runs", [4, pytest.param(20, marks=pytest.mark.full)])
def test_a_run_killed_at_any_moment_and_resumed_is_bit_identical(tmp_path, runs):
    """SIGKILL again and again, at moments drawn by chance, in a process of its own that forks the runs."""
    program = [sys.executable, "-m", "helpers.killed", str(tmp_path), str(runs)]
    done = subprocess.run(program, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["identical"] == runs and said["killed"] >= 0.75 * runs, said


def test_a_loss_that_is_not_finite_stops_the_run_and_what_is_saved_stays_good(tmp_path):
    broken = lambda step: (batches(step)[0] * (nan if step == 3 else 1), batches(step)[1])  # noqa: E731
    with pytest.raises(ValueError, match=r"loss is nan at step 3: lower the learning rate, 0.05, or check the data"):
        fit(line(), broken, CONFIG, 8, run=tmp_path, device=CPU)
    model = line()
    ema, optimizer = EMA(model, 0.995, 0.7), torch.optim.AdamW(model.parameters())
    assert len(load_run(tmp_path, model, ema, optimizer)) == 3
    assert model.line.weight.isfinite().all() and ema.model.line.weight.isfinite().all()


def resuming_is_refused(run: Path, model: nn.Module) -> None:
    """One line that names the file and what to do."""
    with pytest.raises(ValueError, match=r"last\.safetensors is damaged or of another profile: delete it") as caught:
        fit(model, batches, CONFIG, 2, run=run, resume=True, device=CPU)
    assert "\n" not in str(caught.value)


def test_a_run_of_another_profile_is_one_clear_line(tmp_path):
    fit(line(), batches, CONFIG, 1, run=tmp_path, device=CPU)
    resuming_is_refused(tmp_path, wider())


DAMAGES = {
    "no safetensors": lambda path: path.write_bytes(b"half a file"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "empty": lambda path: path.write_bytes(b""),
    "no history": lambda path: save_file(load_file(path), path),
    "half a history": lambda path: save_file(load_file(path), path, {"history": '[{"step": 0'}),
    "a tensor gone": lambda path: save_file(
        {name: t for name, t in load_file(path).items() if name != "ema.line.bias"}, path, {"history": "[]"}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_one_clear_line_and_left_as_it_is(tmp_path, damage):
    fit(line(), batches, CONFIG, 1, run=tmp_path, device=CPU)
    damage(tmp_path / "last.safetensors")
    content = (tmp_path / "last.safetensors").read_bytes()
    resuming_is_refused(tmp_path, line())
    assert (tmp_path / "last.safetensors").read_bytes() == content


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
    monkeypatch.setattr(train, "step_generator", lambda *key: drawn.append(key) or step_generator(*key))
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


class Counted(Recomputed, nn.Linear):
    """A layer that counts how often it is computed."""

    times = 0

    def forward(self, x):
        self.times += 1
        return super().forward(x)


@pytest.mark.parametrize("on", [False, True])
def test_checkpointing_computes_twice_and_learns_the_same(on):
    plain, model = line(), line()
    model.line = Counted(1, 1)
    model.load_state_dict(plain.state_dict())
    fit(plain, batches, CONFIG, 3, device=CPU)
    fit(model, batches, replace(CONFIG, checkpointing=on), 3, device=CPU)
    assert model.line.times == (6 if on else 3)
    assert_close(dict(model.state_dict()), dict(plain.state_dict()))


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_weights_are_touched():
    class Cliff(Line):
        def forward(self, x, y, generator, step):
            return super().forward(x, y, generator, step) + (self.line.weight - self.line.weight).abs().sqrt().sum()

    model = Cliff()
    before = model.line.weight.clone()
    with pytest.raises(ValueError, match="gradient is nan at step 0"):
        fit(model, batches, CONFIG, 1, device=CPU)
    assert_close(model.line.weight, before, atol=0, rtol=0)


def test_the_encoder_learns_with_its_share_of_the_rate():
    model, twin = Exact(), Exact()
    fit(model, batches, replace(CONFIG, encoder_lr_scale=0.25), 3, device=CPU)
    optimizers = [
        torch.optim.AdamW(part.parameters(), lr, betas=(0.95, 0.999), eps=1e-6, weight_decay=1e-3)
        for part, lr in ((twin.encoder, 0.25 * 0.05), (twin.rest, 0.05))
    ]
    for step in range(3):
        twin.zero_grad()
        twin(*batches(step), step_generator(0, step), step).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert_close(dict(model.state_dict()), dict(twin.state_dict()), atol=1e-6, rtol=1e-6)


def test_every_parameter_is_in_one_group_and_without_an_encoder_there_is_one_group():
    config = replace(CONFIG, encoder_lr_scale=0.25)
    groups, model = parameter_groups(model := Exact(), config), model
    assert [group["share"] for group in groups] == [1.0, 0.25]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in model.encoder.parameters()}
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    assert [group["share"] for group in parameter_groups(line(), config)] == [1.0]


@pytest.mark.parametrize("at", [1, 5])
def test_a_run_of_two_groups_resumes_bit_identically(tmp_path, at):
    """Each parameter finds its own moments again, in whatever order the groups put them."""
    config = replace(CONFIG, encoder_lr_scale=0.25, warmup=3, decay=True, schedule_restart=4, accumulate=2, max_grad_norm=0.5)
    whole_model = Exact()
    whole, expected = fit(whole_model, batches, config, 8, device=CPU)
    with pytest.raises(KeyboardInterrupt):
        fit(Exact(), stopping(2 * at + 1, KeyboardInterrupt()), config, 8, run=tmp_path, device=CPU)
    model = Exact()
    resumed, history = fit(model, batches, config, 8, run=tmp_path, resume=True, device=CPU)
    states_equal(model, whole_model)
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist() and history.lr.tolist() == expected.lr.tolist()


@pytest.mark.parametrize(("steps", "expected"), [(4, [2, 4]), (5, [2, 4, 5]), (1, [1])])
def test_a_watch_is_called_every_so_many_steps_and_at_the_end_with_the_average(steps, expected):
    seen = []
    watch = lambda step, model: seen.append((step, model.training, model.line.weight.item()))  # noqa: E731
    average, _ = fit(line(), batches, replace(CONFIG, validation_steps=2), steps, device=CPU, watch=watch)
    assert [(step, training) for step, training, _ in seen] == [(step, False) for step in expected]
    assert seen[-1][2] == average.line.weight.item()


def test_a_resumed_run_is_watched_at_the_same_steps(tmp_path):
    seen = []
    for resume, steps in ((False, 3), (True, 6)):
        watch = lambda step, model: seen.append(step)  # noqa: E731
        fit(
            line(), batches, replace(CONFIG, validation_steps=2), steps, run=tmp_path, resume=resume, device=CPU, watch=watch
        )
    assert seen == [2, 3, 4, 6]


def test_each_step_has_its_own_noise_and_always_the_same():
    first, again, later, other = (
        torch.randn(4, generator=step_generator(*key)) for key in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert_close(first, again, atol=0, rtol=0)
    assert not torch.equal(first, later) and not torch.equal(first, other)


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

    ahead = Ahead(make)
    assert ahead(0) == (0,) and begun.wait(10)
    assert [ahead(number) for number in (1, 2, 5, 6, 3)] == [(1,), (2,), (5,), (6,), (3,)]
    ahead.close()
    assert not any(in_main for _, in_main in made)


def test_a_batch_that_fails_does_so_when_it_is_asked_for():
    def make(number: int) -> tuple[int]:
        if number == 1:
            raise ValueError("a broken file")
        return (number,)

    ahead = Ahead(make)
    assert ahead(0) == (0,)
    with pytest.raises(ValueError, match="a broken file"):
        ahead(1)
    ahead.close()


def test_the_share_of_waiting_is_of_all_seconds():
    assert waiting([{"waited": 1.0, "seconds": 4.0}, {"waited": 0.0, "seconds": 1.0}]) == 0.2
