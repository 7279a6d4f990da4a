"""One plain training loop for both stages: AdamW, and an exponential moving average (EMA) of the weights.

The batch, the noise and the noise levels of step i are functions of (seed, i). What a run of days needs besides
(saving, resuming, several processes, accumulated batches) is in `mousai.training`.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mousai.config import TrainConfig

Batches = Callable[[int], tuple]  # number of the batch, from 0 -> the model's positional arguments, tensors
Callback = Callable[[int, nn.Module], None]  # called with (steps done, the EMA's model)


class EMA:
    """Exponential moving average of the weights: beta_i = min(0.995, 1 - (1 + i)^-0.7), as in the authors' trainer.

    `model` is a copy that computes with the averaged weights (the authors' copy computes with the original's).
    """

    def __init__(self, model: nn.Module, beta: float, power: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.beta = beta
        self.power = power

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards `model`, after the optimizer's step number `step`, counted from 1."""
        beta = min(self.beta, 1 - (1 + step) ** -self.power)
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - beta)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of step `step`, counted from 0, in a run of `steps`. The paper's is constant.

    `warmup` adds a linear rise, `decay` a cosine to 0; at step `schedule_restart` both begin again (ours).
    """
    start = config.schedule_restart
    if 0 < start < steps:
        if step < start:
            steps = start
        else:
            step -= start
            steps -= start
    warmup = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    decay = 0.5 * (1 + math.cos(math.pi * step / steps)) if config.decay else 1.0
    return config.lr * warmup * decay


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random generator of one step's noise and noise levels."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def check_finite(name: str, value: float, step: int, lr: float) -> float:
    """Return `value`. Raises ValueError where it is not finite; called before the weights change, so they stay good."""
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value} at step {step}: lower the learning rate, {lr}, or check the data")
    return value


def train(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    steps: int,
    seed: int = 0,
    callback: Callback | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train `model` in place, on its device. Return the EMA's model and the history, a row per step: step, loss, lr.

    `model(*batch, generator)` must return the loss. `callback` is called after every step. Raises ValueError where the
    loss is not finite.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, config.betas, config.eps, weight_decay=config.weight_decay
    )
    ema = EMA(model, config.ema_beta, config.ema_power)
    history = []
    model.train()
    for step in range(steps):
        lr = learning_rate(config, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = [tensor.to(device) for tensor in batches(step)]
        loss = model(*batch, step_generator(seed, step))
        value = check_finite("loss", loss.item(), step, lr)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, step + 1)
        history.append({"step": step, "loss": value, "lr": lr})
        if callback is not None:
            callback(step + 1, ema.model)
    return ema.model, history
