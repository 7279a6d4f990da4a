"""The state of a run: resumed to the bit, never half written, never replaced by another run."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.lines import CONFIG, CPU, Exact, Line, batches, line, states_equal, stopping
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from mousai.data.locking import one_writer
from mousai.train import EMA
from mousai.training import resume
from mousai.training.loop import fit
from mousai.training.optimizer import new_optimizer
from mousai.training.resume import Run, TrainingState, load_run, plan_run, read_plan, save_run


def state_of(model: nn.Module, steps: int = 0) -> TrainingState:
    """A training state after so many steps that never were."""
    history = [{"step": step, "loss": 0.1, "lr": 1e-4} for step in range(steps)]
    return TrainingState(model, EMA(model, 0.9, 0.7), new_optimizer(model, CONFIG), {}, history)


@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_run_that_is_interrupted_and_resumed_is_bit_identical_to_one_that_was_not(tmp_path, at):
    config = replace(CONFIG, warmup=3, decay=True)
    whole_model = line()
    whole, expected = fit(whole_model, batches, config, 8, device=CPU)
    with pytest.raises(KeyboardInterrupt):
        fit(line(), stopping(at, KeyboardInterrupt()), config, 8, device=CPU, run=Run(tmp_path))
    model = line()
    resumed, history = fit(model, batches, config, 8, device=CPU, run=Run(tmp_path, resume=True))
    states_equal(model, whole_model)
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist()


def test_a_run_leaves_its_history_as_a_table(tmp_path):
    _, history = fit(line(), batches, CONFIG, 3, device=CPU, run=Run(tmp_path))
    assert_close(pd.read_csv(tmp_path / "history.csv").loss.tolist(), history.loss.tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "history.csv", "last.safetensors"]


def test_the_header_of_a_save_does_not_grow_with_the_steps_behind_it(tmp_path):
    """A header may hold 100 MB: with rows of text in it a run of a million steps could not be saved at 606,000."""
    sizes, model = [], line()
    for steps in (1000, 9000):
        saved, loaded = state_of(model, steps), state_of(model)
        save_run(tmp_path, saved)
        sizes.append(int.from_bytes((tmp_path / "last.safetensors").read_bytes()[:8], "little"))
        load_run(tmp_path, loaded)
        assert loaded.history == saved.history
    assert sizes[1] < sizes[0] + 100


def test_the_last_two_are_kept_and_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, capsys):
    whole, expected = fit(line(), batches, CONFIG, 6, device=CPU)
    fit(line(), batches, replace(CONFIG, save_minutes=0), 4, device=CPU, run=Run(tmp_path))
    last, previous = tmp_path / "last.safetensors", tmp_path / "previous.safetensors"
    last.write_bytes(last.read_bytes()[:-20])
    resumed, history = fit(line(), batches, CONFIG, 6, device=CPU, run=Run(tmp_path, resume=True))
    assert f"{last} is damaged or of another profile: going on from {previous.name}\n" in capsys.readouterr().err
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist()
    for path in (last, previous):
        path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"previous\.safetensors is damaged or of another profile: delete "):
        fit(line(), batches, CONFIG, 6, device=CPU, run=Run(tmp_path, resume=True))


def test_a_damaged_file_never_takes_the_good_ones_place(tmp_path, monkeypatch):
    """Killed at the next save, just before the new file is there: what is left can still be read."""
    fit(line(), batches, replace(CONFIG, save_minutes=0), 4, device=CPU, run=Run(tmp_path))
    (tmp_path / "last.safetensors").write_bytes(b"half a file")
    monkeypatch.setattr(resume, "save_tensors", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(line(), batches, CONFIG, 6, device=CPU, run=Run(tmp_path, resume=True))
    monkeypatch.undo()
    assert len(fit(line(), batches, CONFIG, 6, device=CPU, run=Run(tmp_path, resume=True))[1]) == 6


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
        fit(line(), broken, CONFIG, 8, device=CPU, run=Run(tmp_path))
    state = state_of(line())
    load_run(tmp_path, state)
    assert len(state.history) == 3
    assert state.model.line.weight.isfinite().all() and state.ema.model.line.weight.isfinite().all()


def resuming_is_refused(run: Path, model: nn.Module) -> None:
    """One line that names the file and what to do."""
    with pytest.raises(ValueError, match=r"last\.safetensors is damaged or of another profile: delete ") as caught:
        fit(model, batches, CONFIG, 2, device=CPU, run=Run(run, resume=True))
    assert "\n" not in str(caught.value)


def test_a_run_of_another_profile_is_one_clear_line(tmp_path):
    fit(line(), batches, CONFIG, 1, device=CPU, run=Run(tmp_path))
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
    fit(line(), batches, CONFIG, 1, device=CPU, run=Run(tmp_path))
    damage(tmp_path / "last.safetensors")
    content = (tmp_path / "last.safetensors").read_bytes()
    resuming_is_refused(tmp_path, line())
    assert (tmp_path / "last.safetensors").read_bytes() == content


def wider() -> Line:
    model = Line()
    model.more = nn.Linear(1, 1)
    return model


@pytest.mark.parametrize("at", [1, 5])
def test_a_run_of_two_groups_resumes_bit_identically(tmp_path, at):
    """Each parameter finds its own moments again, in whatever order the groups put them."""
    config = replace(
        CONFIG, encoder_lr_scale=0.25, warmup=3, decay=True, schedule_restart=4, accumulate=2, max_grad_norm=0.5
    )
    whole_model = Exact()
    whole, expected = fit(whole_model, batches, config, 8, device=CPU)
    with pytest.raises(KeyboardInterrupt):
        fit(Exact(), stopping(2 * at + 1, KeyboardInterrupt()), config, 8, device=CPU, run=Run(tmp_path))
    model = Exact()
    resumed, history = fit(model, batches, config, 8, device=CPU, run=Run(tmp_path, resume=True))
    states_equal(model, whole_model)
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist() and history.lr.tolist() == expected.lr.tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("state", ["last", "previous"])
def test_a_folder_that_holds_a_run_is_refused_without_resume_and_left_as_it_is(tmp_path, state):
    fit(line(), batches, CONFIG, 3, device=CPU, run=Run(tmp_path))
    (tmp_path / "last.safetensors").rename(tmp_path / f"{state}.safetensors")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds a training run, .*: go on with --resume, or choose another --out"):
        fit(line(), stopping(0, KeyboardInterrupt()), CONFIG, 2, device=CPU, run=Run(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("resumed", [False, True])
def test_where_no_step_was_done_nothing_is_saved(tmp_path, resumed):
    if resumed:
        fit(line(), batches, CONFIG, 3, device=CPU, run=Run(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(line(), stopping(3 * resumed, KeyboardInterrupt()), CONFIG, 8, device=CPU, run=Run(tmp_path, resumed))
    assert contents(tmp_path) == before


def test_two_processes_never_train_in_one_folder(tmp_path):
    fit(line(), batches, CONFIG, 3, device=CPU, run=Run(tmp_path))
    before = contents(tmp_path)
    with one_writer(tmp_path), pytest.raises(ValueError, match="is writing there: wait for it, or choose"):
        fit(line(), batches, CONFIG, 8, device=CPU, run=Run(tmp_path, resume=True))
    assert contents(tmp_path) == before


def test_the_planned_length_is_kept_with_the_state_and_is_the_resumed_runs(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(line(), stopping(2, KeyboardInterrupt()), CONFIG, 9, device=CPU, run=Run(tmp_path))
    resumed = Run(tmp_path, resume=True)
    assert read_plan(resumed)["steps"] == 9 and read_plan(Run(tmp_path)) == {}
    assert plan_run(resumed, None, 4) == {"steps": 9, "schedule_steps": 9, "start": None}
    assert plan_run(resumed, 12, 4) == {"steps": 12, "schedule_steps": 9, "start": None}
    assert plan_run(Run(tmp_path), None, 4) == {"steps": 4, "schedule_steps": 4, "start": None}


@pytest.mark.parametrize("decay", [False, True])
def test_another_length_is_said_with_what_it_does_to_the_schedule(tmp_path, capsys, decay):
    config = replace(CONFIG, decay=decay)
    fit(line(), batches, config, 4, device=CPU, run=Run(tmp_path))
    fit(line(), batches, config, 4, device=CPU, run=Run(tmp_path, resume=True))
    assert "planned" not in capsys.readouterr().err
    _, history = fit(line(), batches, config, 8, device=CPU, run=Run(tmp_path, resume=True))
    effect = "goes on at 2.50e-02 instead of 7.32e-03, and falls to 0 at step 8" if decay else "stays as it was"
    assert f"planned for 4 steps, now 8: the learning rate {effect}\n" in capsys.readouterr().err
    assert history.lr[4] == pytest.approx(0.025 if decay else 0.05)


def test_fewer_steps_than_are_done_are_refused(tmp_path):
    fit(line(), batches, CONFIG, 5, device=CPU, run=Run(tmp_path))
    with pytest.raises(ValueError, match="5 steps are done, more than the 3 asked for: leave --steps out, or ask for"):
        fit(line(), batches, CONFIG, 3, device=CPU, run=Run(tmp_path, resume=True))


def started(tmp_path: Path, name: str) -> Path:
    """A file of weights with a card, to begin from; its content is its name."""
    path = tmp_path / f"{name}.safetensors"
    save_file({"name": torch.tensor([float(ord(letter)) for letter in name])}, path)
    path.with_suffix(".json").write_text(json.dumps({"steps": 3, "name": name}))
    return path


def test_what_a_run_began_from_is_kept_with_the_state(tmp_path):
    first, run = started(tmp_path, "first"), tmp_path / "run"
    plan = plan_run(Run(run, start=first), None, 4)
    fit(line(), batches, CONFIG, 2, device=CPU, run=Run(run, plan=plan))
    first.unlink()
    resumed = plan_run(Run(run, resume=True), None, 4)
    assert resumed["start"] == plan["start"] and resumed["start"]["card"] == {"steps": 3, "name": "first"}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"data": "d2 (b)"},
            r"begun with the data set d1 \(a\), not d2 \(b\): set MOUSAI_DATA to that one, or choose",
        ),
        (
            {"encoder": "e2"},
            "begun with the encoder e1, not e2: give the folder of that stage 1 as --weights, or choose",
        ),
    ],
)
def test_a_run_is_not_resumed_over_other_data_or_another_encoder(tmp_path, other, said):
    learned = {"data": "d1 (a)", "encoder": "e1"}
    plan = plan_run(Run(tmp_path), None, 2, **learned)
    fit(line(), batches, CONFIG, 2, device=CPU, run=Run(tmp_path, plan=plan))
    resumed = Run(tmp_path, resume=True)
    assert plan_run(resumed, None, 4, **learned) == plan
    assert plan_run(resumed, None, 4, **(learned | {"data": "d1 (renamed)"}))["steps"] == 2
    with pytest.raises(ValueError, match=said):
        plan_run(resumed, None, 4, **(learned | other))


def test_a_run_of_before_which_names_no_data_and_no_encoder_still_resumes(tmp_path):
    fit(line(), batches, CONFIG, 2, device=CPU, run=Run(tmp_path, plan=plan_run(Run(tmp_path), None, 4)))
    plan = plan_run(Run(tmp_path, resume=True), None, 4, data="d1 (a)", encoder="e1")
    assert (plan["data"], plan["encoder"]) == ("d1 (a)", "e1")


def test_a_run_is_not_resumed_with_another_start(tmp_path):
    first, other = started(tmp_path, "first"), started(tmp_path, "other")
    for begun, said in ((first, f"with --start {first}"), (None, "without --start")):
        run = tmp_path / ("without" if begun is None else "with")
        fit(line(), batches, CONFIG, 2, device=CPU, run=Run(run, plan=plan_run(Run(run, start=begun), None, 4)))
        with pytest.raises(ValueError, match=f"the run was begun {said}: leave --start out, or choose another --out"):
            plan_run(Run(run, resume=True, start=other), None, 4)
        assert plan_run(Run(run, resume=True, start=begun), None, 4)["steps"] == 2
