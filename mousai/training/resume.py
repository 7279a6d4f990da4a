"""The state of a training run on disk: saved whole or not at all; a resumed run repeats an uninterrupted one exactly.

FOLDER/last.safetensors holds the weights, their EMA, the optimizer's moments and the history after one step, and in its
header the plan of the run. previous.safetensors is the state saved before it, history.csv the history as a table.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from mousai.checkpoint import read_card, save_tensors
from mousai.config import TrainConfig
from mousai.files import sha256, write_text
from mousai.train import EMA, Callback, learning_rate
from mousai.training.optimizer import load_state_tensors, state_tensors

STATES = ("last", "previous")
AGAIN = {  # in a plan: what it is, and what to give again
    "data": ("the data set", "set MOUSAI_DATA to that one"),
    "encoder": ("the encoder", "give the folder of that stage 1 as --weights"),
}
DAMAGED = (SafetensorError, RuntimeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Run:
    """Where a training run keeps its state, and how it begins.

    `folder`: where to save; None saves nothing. `resume`: go on from the folder's state, if there is one. `start`: a
    file of weights to begin from. `callback(steps done, EMA's model)` is called before the first step, every
    `validation_steps` steps and at the end. `plan`: what `plan_run` returns; it is saved with the state.
    """

    folder: Path | None = None
    resume: bool = False
    start: Path | None = None
    callback: Callback | None = None
    plan: dict | None = None


NEW_RUN = Run()


@dataclass
class TrainingState:
    """Everything that changes in a run, as it is between two steps, and the run's plan."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    plan: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


def state_files(folder: Path) -> list[Path]:
    """The files of state in a run's folder, newest first; empty where no run has saved one."""
    paths = [folder / f"{name}.safetensors" for name in STATES]
    return [path for path in paths if path.is_file()]


def check_unused(folder: Path) -> None:
    """Raise ValueError, which names both ways out, where the folder holds the state of a run."""
    if state_files(folder):
        mend = "go on with --resume, or choose another --out"
        raise ValueError(f"{folder} holds a training run, which a new one would replace: {mend}")


def read_plan(run: Run) -> dict:
    """The plan that the run to be resumed was begun with; empty for a new run, or where no state can be read."""
    if run.folder is None or not run.resume:
        return {}
    for path in state_files(run.folder):
        try:
            with safe_open(path, "pt") as file:
                return json.loads((file.metadata() or {}).get("plan", "{}"))
        except DAMAGED:
            continue  # `load_run` says so
    return {}


def plan_run(run: Run, steps: int | None, usual: int, **learned: str) -> dict:
    """The plan of a run: "steps", "schedule_steps", and "start" (file, sha256 and card of its weights, or None).

    `learned`: what it learns from, by the names in `AGAIN`; the first word tells one from another. Older plans
    have none.
    "schedule_steps": the number of steps for which warm-up and encoder pre-training are set. `usual`: the profile's
    steps, where `steps` is None. A resumed run keeps its plan, except for `steps` if given. Raises ValueError where it
    is resumed with another start or over something else, FileNotFoundError where there is no `run.start`.
    """
    before = read_plan(run)
    start = None
    if run.start is not None:
        if not run.start.is_file():
            raise FileNotFoundError(f"no weights at {run.start}: choose another --start")
        start = {"file": str(run.start), "sha256": sha256(run.start), "card": read_card(run.start)}
    if before:
        begun = before.get("start")
        if start and start["sha256"] != (begun or {}).get("sha256"):
            how = f"with --start {begun['file']}" if begun else "without --start"
            raise ValueError(f"{run.folder}: the run was begun {how}: leave --start out, or choose another --out")
        start = begun
    for name, now in learned.items():
        if (then := before.get(name, now)).split()[0] != now.split()[0]:
            what, mend = AGAIN[name]
            raise ValueError(f"{run.folder}: begun with {what} {then}, not {now}: {mend}, or choose another --out")
    planned = before.get("steps", steps or usual)
    return {
        "steps": steps or planned,
        "schedule_steps": before.get("schedule_steps", planned),
        "start": start,
        **learned,
    }


def save_run(folder: Path, state: TrainingState) -> None:
    """Write the state to folder/last.safetensors; the last one becomes previous.safetensors. Also write history.csv."""
    last, previous, new = (folder / f"{name}.safetensors" for name in (*STATES, "new"))
    rows = pd.DataFrame(state.history)  # saved as tensors: in JSON a million rows exceed a header's 100 MB
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state_tensors(state.optimizer).items()}
    tensors |= {f"history.{name}": torch.from_numpy(column.to_numpy(copy=True)) for name, column in rows.items()}
    save_tensors(tensors, new, {"history": json.dumps([*rows]), "plan": json.dumps(state.plan)})
    if last.is_file():  # only now, so that both old states stay where the disk is full
        os.replace(last, previous)
    os.replace(new, last)
    write_text(rows.to_csv(index=False), folder / "history.csv")


def load_run(folder: Path, state: TrainingState) -> None:
    """Fill model, EMA, optimizer and history from the newest state that can be read; do nothing where there is none.

    Prints on stderr if the newest is damaged. Raises ValueError where every state is damaged or of another profile.
    """
    paths = state_files(folder)
    for path in paths:
        try:
            load_state(path, state)
        except DAMAGED as error:
            message = f"{path} is damaged or of another profile"
            if path == paths[-1]:
                raise ValueError(f"{message}: delete {folder}, or choose another --out") from error
            print(f"{message}: going on from {paths[-1].name}", file=sys.stderr)
        else:
            os.replace(path, folder / "last.safetensors")  # a damaged state must not become the previous one
            return


def load_state(path: Path, state: TrainingState) -> None:
    """Fill all of the state but the plan from one file that `save_run` wrote. Raises any of `DAMAGED`."""
    with safe_open(path, "pt") as file:
        names = json.loads(file.metadata()["history"])
    tensors = load_file(path)

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    rows = pd.DataFrame({name: tensors[f"history.{name}"] for name in names})
    state.model.load_state_dict(part("model."))
    state.ema.model.load_state_dict(part("ema."))
    load_state_tensors(state.optimizer, part("optimizer."))
    state.history = rows.to_dict("records")


def check_length(done: int, before: int | None, steps: int, config: TrainConfig) -> None:
    """Print on stderr how the learning rate changes where a run has `steps` steps, but was planned for `before`.

    Raises ValueError where `done`, the steps already made, are more than `steps`.
    """
    if done > steps:
        raise ValueError(f"{done} steps are done, more than the {steps} asked for: leave --steps out, or ask for more")
    if before is None or before == steps:
        return
    now, then = (learning_rate(config, min(done, n - 1), n) for n in (steps, before))
    effect = "stays as it was"
    if config.decay:
        effect = f"goes on at {now:.2e} instead of {then:.2e}, and falls to 0 at step {steps}"
    print(f"planned for {before} steps, now {steps}: the learning rate {effect}", file=sys.stderr)


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM within the block, in which a state is saved: `torchrun` sends one when a process has
    died. Outside the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
