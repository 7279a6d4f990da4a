"""The training loop of long runs: that of `mousai.train`, with saving, resuming, several processes and accumulation.

Everything random in batch i is a function of (seed, i). So a resumed run does what an uninterrupted one would have
done, and no random state is saved.
"""

import inspect
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from mousai.config import TrainConfig
from mousai.data.locking import one_writer
from mousai.inference.precision import autocast, choose_device
from mousai.progress import progress_bar
from mousai.train import EMA, Batches, check_finite, learning_rate, step_generator
from mousai.training.activation_checkpointing import activation_checkpointing
from mousai.training.optimizer import new_optimizer
from mousai.training.resume import (
    NEW_RUN,
    Run,
    TrainingState,
    check_length,
    check_unused,
    ignore_signals,
    load_run,
    read_plan,
    save_run,
)


class Prefetcher:
    """Batches by number; a thread makes the next one while the network is trained on this one.

    `stride`: the number of the next batch is larger by this, because other processes make those between.
    """

    def __init__(self, batches: Batches, stride: int = 1):
        self.batches = batches
        self.stride = stride
        self.pool = ThreadPoolExecutor(1)
        self.number = -1
        self.future: Future = Future()

    def __call__(self, number: int) -> tuple:
        """Return batch `number`. Raises what making it raised in the thread."""
        if number != self.number:
            self.future = self.pool.submit(self.batches, number)
        batch = self.future.result()
        self.number = number + self.stride
        self.future = self.pool.submit(self.batches, self.number)
        return batch

    def close(self) -> None:
        """Stop the thread and drop the batch that it has prepared."""
        self.pool.shutdown(cancel_futures=True)


@dataclass
class Stepper:
    """Makes one training step at a time, and so trains `state.model` in place."""

    state: TrainingState
    prepared: nn.Module  # the model as accelerate wraps it: several processes average their gradients in it
    accelerator: Accelerator
    batches: Prefetcher
    config: TrainConfig
    steps: int
    seed: int

    def __call__(self, step: int) -> dict[str, float]:
        """One update with the mean gradient of `accumulate` batches, of which this process makes its share.

        Return the row of the history: step, loss, lr, gradient (its norm before clipping), seconds, waited (seconds of
        these for data). Raises ValueError where loss or gradient is not finite.
        """
        began = time.perf_counter()
        config, accelerator, optimizer = self.config, self.accelerator, self.state.optimizer
        lr = learning_rate(config, step, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        value = waited = 0.0
        end = (step + 1) * config.accumulate
        for number in range(end - config.accumulate + accelerator.process_index, end, accelerator.num_processes):
            asked = time.perf_counter()
            batch = [tensor.to(accelerator.device) for tensor in self.batches(number)]
            waited += time.perf_counter() - asked
            with autocast(config.precision, accelerator.device):
                loss = self.loss(batch, number, step) * accelerator.num_processes / config.accumulate  # mean of all
            value += loss.item() / accelerator.num_processes
            accelerator.backward(loss)
        value = check_finite("loss", sum_over_processes(value, accelerator), step, config.lr)
        norm = accelerator.clip_grad_norm_(self.prepared.parameters(), config.max_grad_norm or math.inf)
        gradient = check_finite("gradient", float(norm), step, config.lr)  # type: ignore[arg-type]
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - began
        return {"step": step, "loss": value, "lr": lr, "gradient": gradient, "seconds": seconds, "waited": waited}

    def loss(self, batch: list[torch.Tensor], number: int, step: int) -> torch.Tensor:
        """The model's loss of batch `number`. A model whose `forward` has `step` gets it, for encoder pre-training."""
        generator = step_generator(self.seed, number)
        if "step" in inspect.signature(self.state.model.forward).parameters:
            return self.prepared(*batch, generator, step)
        return self.prepared(*batch, generator)


def fit(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    steps: int,
    seed: int = 0,
    device: torch.device | None = None,
    run: Run = NEW_RUN,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `model` to step `steps`; return the EMA's model and the history, whose rows are those of `Stepper`.

    With `run.folder` the state is saved there every `save_minutes`, at the end and when interrupted, if a step was
    made. Of several processes each makes its share of a step's batches; the main one saves and calls `run.callback`.
    Raises ValueError where the loss or a gradient is not finite, where the folder holds a run and `run.resume` is not
    set, where more steps are done than asked for, or where another process trains in the folder.
    """
    device = device or choose_device()
    partly = DistributedDataParallelKwargs(find_unused_parameters=True)  # encoder pre-training trains a part of the net
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[partly])
    folder = run.folder if accelerator.is_main_process else None
    with one_writer(folder, wait=False) if folder else nullcontext():
        if folder and not run.resume:
            check_unused(folder)
        model.to(accelerator.device).train()
        ema = EMA(model, config.ema_beta, config.ema_power)
        state = TrainingState(model, ema, new_optimizer(model, config), {**(run.plan or {}), "steps": steps})
        with accelerator.main_process_first():
            planned = read_plan(run).get("steps")
            if run.folder and run.resume:
                load_run(run.folder, state)
        check_length(len(state.history), planned, steps, config)
        with activation_checkpointing(model, config.checkpointing):
            prepared, state.optimizer = accelerator.prepare(model, state.optimizer)
            prefetcher = Prefetcher(batches, accelerator.num_processes)
            stepper = Stepper(state, prepared, accelerator, prefetcher, config, steps, seed)
            run_steps(stepper, run, folder)
    return state.ema.model, pd.DataFrame(state.history)


def run_steps(stepper: Stepper, run: Run, folder: Path | None) -> None:
    """Make all remaining steps, save into `folder` (None saves nothing) and call `run.callback`."""
    state, config, accelerator = stepper.state, stepper.config, stepper.accelerator
    first = len(state.history)
    callback = run.callback if accelerator.is_main_process else None
    bar = progress_bar(None, type(state.model).__name__, stepper.steps, first, "step", show=accelerator.is_main_process)
    saved = time.monotonic()
    try:
        if callback and first == 0:
            callback(0, state.ema.model)
        for step in range(first, stepper.steps):
            state.history.append(stepper(step))
            done = step + 1
            state.ema.update(state.model, done)
            recent = state.history[-50:]
            loss = np.mean([row["loss"] for row in recent])
            bar.set_postfix(loss=f"{loss:.3f}", waiting=f"{waiting_share(recent):.0%}", refresh=False)
            bar.update()
            if callback and (done % config.validation_steps == 0 or done == stepper.steps):
                callback(done, state.ema.model)
            if folder and time.monotonic() - saved > 60 * config.save_minutes:
                save_run(folder, state)
                saved = time.monotonic()
    except RuntimeError as error:
        if accelerator.num_processes == 1 or isinstance(error, torch.OutOfMemoryError):
            raise
        message = f"one of the {accelerator.num_processes} processes failed or disappeared"
        raise ValueError(f"{message}: what was trained is kept, go on with --resume ({error})") from error
    finally:  # also when interrupted, so that trained steps are kept
        bar.close()
        stepper.batches.close()
        if folder and len(state.history) > first:
            with ignore_signals():
                save_run(folder, state)


def sum_over_processes(value: float, accelerator: Accelerator) -> float:
    """The sum of every process's value, the same number in each."""
    if accelerator.num_processes == 1:
        return value
    total = accelerator.reduce(torch.tensor(value, device=accelerator.device, dtype=torch.float64), "sum")
    return float(total)  # type: ignore[arg-type]


def waiting_share(history: list[dict]) -> float:
    """The share of the steps' time that was spent waiting for data."""
    return sum(row["waited"] for row in history) / max(sum(row["seconds"] for row in history), 1e-9)
