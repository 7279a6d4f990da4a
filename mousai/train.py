"""One plain training loop for both stages, on accelerate; EMA; save and resume; one process or several.

Everything random in step i is a function of (seed, i): the batch, the noise, the levels. So a resumed run repeats what
an uninterrupted one would have done, and no random state needs saving.
"""

import copy
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from mousai.checkpoint import save_tensors
from mousai.config import TrainConfig
from mousai.files import write_text
from mousai.inference.precision import autocast, choose_device
from mousai.progress import progress_bar
from mousai.training.activation_checkpointing import recompute
from mousai.training.optimizer import OtherOptimizer, check_kind, load_state_tensors, new_optimizer, state_tensors

Batches = Callable[[int], tuple]  # number of the batch -> the model's positional arguments
Watch = Callable[[int, nn.Module], None]  # (steps done, averaged model) -> whatever is worth writing down


class Ahead:
    """Batches of which the next is made by a thread while the net works on this one, so that no step waits for data.

    `stride`: the next is so many further on; other processes make those between.
    """

    def __init__(self, batches: Batches, stride: int = 1):
        self.batches, self.pool, self.next, self.stride = batches, ThreadPoolExecutor(1), (-1, Future()), stride

    def __call__(self, number: int) -> tuple:
        """That batch; what making it raised is raised here."""
        asked, future = self.next
        batch = (future if asked == number else self.pool.submit(self.batches, number)).result()
        after = number + self.stride
        self.next = after, self.pool.submit(self.batches, after)
        return batch

    def close(self) -> None:
        """Forget what was begun."""
        self.pool.shutdown(cancel_futures=True)


class EMA:
    """Exponential moving average of the weights: beta_i = min(0.995, 1 - (1 + i)^-0.7), as in the authors' trainer.

    `model` is a true copy: what it computes comes from the averaged weights (the authors' copy runs the original's).
    """

    def __init__(self, model: nn.Module, beta: float, power: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.beta, self.power = beta, power

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Call after the optimizer's step number `step`, counted from 1."""
        beta = min(self.beta, 1 - (1 + step) ** -self.power)
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - beta)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The paper's is constant; a short run warms up linearly and follows a cosine to 0, from `schedule_restart` on once more."""
    if 0 < config.schedule_restart < steps:
        if step < config.schedule_restart:
            steps = config.schedule_restart
        else:
            step, steps = step - config.schedule_restart, steps - config.schedule_restart
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (0.5 * (1 + math.cos(math.pi * step / steps)) if config.decay else 1.0)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The noise of one step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def processes() -> int:
    """How many train together, as `accelerate launch` says it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def main_first(device: torch.device | None) -> AbstractContextManager:
    """Inside, the main process is done before the others begin: they find what it has written."""
    if processes() == 1:
        return nullcontext()
    place, long = device or choose_device(), timedelta(days=2)  # to render or encode a data set takes hours
    return PartialState(cpu=place.type == "cpu", timeout=long).main_process_first()


def over_processes(config: TrainConfig) -> TrainConfig:
    """The same global batch as smaller ones, so many that every process has as many of them.

    Raises ValueError where the batch does not divide.
    """
    by = processes() // math.gcd(processes(), config.accumulate)
    if config.batch % by:
        raise ValueError(f"batch {config.batch} does not divide over {processes()} processes: start fewer")
    return replace(config, batch=config.batch // by, accumulate=config.accumulate * by)


def fit(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    steps: int,
    seed: int = 0,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    watch: Watch | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `model` for `steps` steps; returns its EMA and the history (step, loss, lr, gradient, seconds, waited).

    With `run`, saves there every `save_minutes`, at the end, and when interrupted; `resume` goes on from what is there.
    `watch` is called every `validation_steps` and at the end. Of several processes each takes its share of the `accumulate`
    batches of a step, and the main one saves and watches. Raises ValueError when loss or gradient is no longer finite.
    """
    place, main = device or choose_device(), is_main()
    partly = DistributedDataParallelKwargs(find_unused_parameters=True)  # a warm start trains a part of the net
    accelerator = Accelerator(cpu=place.type == "cpu", mixed_precision="no", kwargs_handlers=[partly])
    optimizer = new_optimizer(model, config)
    model.to(accelerator.device).train()
    ema = EMA(model, config.ema_beta, config.ema_power)
    recompute(model, config.checkpointing)
    with accelerator.main_process_first():
        history = load_run(run, model, ema, optimizer) if run and resume else []
    wrapped, stepping = accelerator.prepare(model, optimizer)
    saved, fresh, ahead = time.monotonic(), not history, Ahead(batches, accelerator.num_processes)
    bar = progress_bar(None, type(model).__name__, steps, len(history), "step", show=main)
    try:
        for step in range(len(history), steps):
            history.append(train_step(wrapped, ahead, config, step, steps, seed, stepping, accelerator))
            ema.update(model, step + 1)
            bar.set_postfix(loss=f"{recent(history):.3f}", waiting=f"{waiting(history[-50:]):.0%}", refresh=False)
            bar.update()
            if watch and main and ((step + 1) % config.validation_steps == 0 or step + 1 == steps):
                watch(step + 1, ema.model)
            if run and main and time.monotonic() - saved > 60 * config.save_minutes:
                save_run(run, model, ema, optimizer, history, fresh)
                saved, fresh = time.monotonic(), False
    except RuntimeError as error:
        if accelerator.num_processes == 1 or isinstance(error, torch.OutOfMemoryError):
            raise
        gone = f"one of the {accelerator.num_processes} processes failed or is gone"
        raise ValueError(f"{gone}: what was trained is kept, go on with --resume ({error})") from error
    finally:  # also when interrupted: what was learned is kept
        bar.close()
        ahead.close()
        if run and main:
            with undisturbed():
                save_run(run, model, ema, optimizer, history, fresh)
    return ema.model, pd.DataFrame(history)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whoever ends the run once more, as `torchrun` does when another process died, waits until it is saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def train_step(wrapped, batches, config, step, steps, seed, optimizer, accelerator) -> dict:
    """`accumulate` batches, this process its share, their mean gradient, one update; returns the row of the history."""
    start, lr, value, waited = time.perf_counter(), learning_rate(config, step, steps), 0.0, 0.0
    rank, world = accelerator.process_index, accelerator.num_processes
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]
    for number in range(step * config.accumulate + rank, (step + 1) * config.accumulate, world):
        asked = time.perf_counter()
        batch = [tensor.to(accelerator.device) for tensor in batches(number)]
        waited += time.perf_counter() - asked
        with autocast(config.precision, accelerator.device):
            loss = wrapped(*batch, step_generator(seed, number), step) * world / config.accumulate  # mean of all grads
        value += loss.item() / world
        accelerator.backward(loss)
    value = check_finite("loss", summed(value, accelerator), step, config)
    norm = accelerator.clip_grad_norm_(wrapped.parameters(), config.max_grad_norm or math.inf)
    gradient = check_finite("gradient", float(norm), step, config)
    optimizer.step()
    optimizer.zero_grad()
    seconds = time.perf_counter() - start
    return {"step": step, "loss": value, "lr": lr, "gradient": gradient, "seconds": seconds, "waited": waited}


def summed(value: float, accelerator: Accelerator) -> float:
    """Over all processes, the same number in each."""
    if accelerator.num_processes == 1:
        return value
    total = accelerator.reduce(torch.tensor(value, device=accelerator.device, dtype=torch.float64), "sum")
    return float(total)  # type: ignore[arg-type]


def check_finite(name: str, value: float, step: int, config: TrainConfig) -> float:
    """The value; ValueError where it is not finite, before the weights are touched: what is saved stays good."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value} at step {step}: lower the learning rate, {config.lr}, or check the data")
    return value


def recent(history: list[dict], n: int = 50) -> float:
    """Mean loss of the last n steps."""
    return float(np.mean([row["loss"] for row in history[-n:]]))


def waiting(history: list[dict]) -> float:
    """Share of the steps' time that was spent waiting for data."""
    return sum(row["waited"] for row in history) / max(sum(row["seconds"] for row in history), 1e-9)


def save_run(run: Path, model: nn.Module, ema: EMA, optimizer, history: list[dict], fresh: bool = False) -> None:
    """run/last.safetensors: weights, average and optimizer of one moment in one file; run/history.csv beside it.

    The one before stays as previous.safetensors, except where `fresh`: that would be another run's.
    """
    last, previous, new = (run / f"{name}.safetensors" for name in ("last", "previous", "new"))
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state_tensors(optimizer).items()}
    rows = pd.DataFrame(history)  # as tensors: a header is limited to 100 MB, a million rows of JSON are more
    tensors |= {f"history.{name}": torch.from_numpy(column.to_numpy(copy=True)) for name, column in rows.items()}
    told = {"history": json.dumps([*rows]), "optimizer": type(optimizer).__name__}
    save_tensors(tensors, new, told)  # first: where the disk is full, both old ones stay
    if fresh:
        previous.unlink(missing_ok=True)
    elif last.is_file():
        os.replace(last, previous)
    os.replace(new, last)
    write_text(rows.to_csv(index=False), run / "history.csv")


def load_run(run: Path, model: nn.Module, ema: EMA, optimizer) -> list[dict]:
    """Fill all three from the newest file that can be read; returns its history, empty where there is no run yet.

    Says so where that is not the last one. Raises ValueError where each is damaged or of another profile, or where it
    is of another optimizer.
    """
    found = [path for name in ("last", "previous") if (path := run / f"{name}.safetensors").is_file()]
    for path in found:
        try:
            history = fill(path, model, ema, optimizer)
            os.replace(path, run / "last.safetensors")  # a damaged one must not become the one before
            return history
        except OtherOptimizer:
            raise
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            said = f"{path} is damaged or of another profile"
            if path == found[-1]:
                raise ValueError(f"{said}: delete it, or train without resuming") from error
            print(f"{said}: going on from {found[-1].name}", file=sys.stderr)
    return []


def fill(path: Path, model: nn.Module, ema: EMA, optimizer) -> list[dict]:
    """Weights, average and optimizer from one file of `save_run`; returns its history."""
    with safe_open(path, "pt") as file:
        told = file.metadata()
    tensors = load_file(path)
    history = pd.DataFrame({name: tensors[f"history.{name}"] for name in json.loads(told["history"])})
    check_kind(optimizer, told.get("optimizer", "AdamW"), path)
    of = lambda part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}  # noqa: E731
    model.load_state_dict(of("model."))
    ema.model.load_state_dict(of("ema."))
    load_state_tensors(optimizer, of("optimizer."))
    return history.to_dict("records")
