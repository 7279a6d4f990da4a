"""Samplers besides the paper's DDIM, and settings of guidance besides its scale (ours).

Each is a `SamplerState` that is advanced by one network evaluation at a time, so that a long signal can be sampled in
chunks. `sample` runs one on a whole signal.
"""

from dataclasses import dataclass

import torch

from mousai.diffusion import Net, add_noise, alpha_beta, noise_levels, predict_x0_eps, v_target
from mousai.inference.checks import number
from mousai.progress import progress_bar
from mousai.shapes import Level, Signal


class SamplerState:
    """A signal between noise and x_0. Until it is `done`, evaluate the network at `x` and `sigma`, then `advance`.

    x [batch, channels, length] begins at noise level `start`; 1 is pure noise.
    """

    def __init__(self, x: Signal, steps: int, start: float = 1.0):
        self.x = x
        self.levels = noise_levels(steps, start).to(x)
        self.step = 0

    @property
    def done(self) -> bool:
        """Whether `x` is x_0."""
        return self.step + 1 == len(self.levels)

    @property
    def sigma(self) -> Level:
        """The noise level of x, [batch]."""
        return self.level_at(self.step)

    def level_at(self, step: int) -> Level:
        """The noise level at a step, [batch]."""
        return self.levels[step].expand(len(self.x))

    def advance(self, v_hat: Signal) -> None:
        """Go on with v_hat, the network's output at (x, sigma)."""
        raise NotImplementedError


class DDIM(SamplerState):
    """The paper's sampler, first order: `diffusion.ddim`, one evaluation at a time."""

    def advance(self, v_hat: Signal) -> None:
        x_0_hat, eps_hat = predict_x0_eps(self.x, v_hat, self.sigma)
        self.x = add_noise(x_0_hat, eps_hat, self.level_at(self.step + 1))
        self.step += 1


class Multistep(SamplerState):
    """Second order with one evaluation per step: two-step Adams-Bashforth on the angle phi.

    A straight line through the previous step's prediction (rotated to the present level) and v_hat is continued by half
    a step, to the middle of the coming step.
    """

    def __init__(self, x: Signal, steps: int, start: float = 1.0):
        super().__init__(x, steps, start)
        self.previous: tuple[Signal, Signal] | None = None  # (x_0_hat, eps_hat) of the previous step

    def advance(self, v_hat: Signal) -> None:
        v_middle = v_hat
        if self.previous is not None:
            v_middle = v_hat + (v_hat - v_target(*self.previous, self.sigma)) / 2
        self.previous = predict_x0_eps(self.x, v_hat, self.sigma)
        self.x = add_noise(*predict_x0_eps(self.x, v_middle, self.sigma), self.level_at(self.step + 1))
        self.step += 1


class Heun(SamplerState):
    """Heun's method, second order: a DDIM step, an evaluation at its end, then the step again with the mean of both.

    It takes 2 * steps - 1 evaluations: the last step is DDIM's, because at sigma = 0 no noise is left.
    """

    def __init__(self, x: Signal, steps: int, start: float = 1.0):
        super().__init__(x, steps, start)
        self.begin: tuple[Signal, Signal] | None = None  # x and v_hat at the beginning of the step

    @property
    def sigma(self) -> Level:
        """The noise level of x; in the second evaluation of a step, the level at its end."""
        return self.level_at(self.step + (self.begin is not None))

    def advance(self, v_hat: Signal) -> None:
        sigma, sigma_next = self.level_at(self.step), self.level_at(self.step + 1)
        if self.begin is None:
            x, v_mean = self.x, v_hat
        else:
            x, v_first = self.begin
            v_second = v_target(*predict_x0_eps(self.x, v_hat, sigma_next), sigma)  # rotated back to the first level
            v_mean = (v_first + v_second) / 2
        self.x = add_noise(*predict_x0_eps(x, v_mean, sigma), sigma_next)
        if self.begin is None and self.step + 2 < len(self.levels):
            self.begin = (x, v_hat)
        else:
            self.begin = None
            self.step += 1


SAMPLERS: dict[str, type[SamplerState]] = {"ddim": DDIM, "multistep": Multistep, "heun": Heun}


def get_sampler(name: str) -> type[SamplerState]:
    """The sampler of that name. Raises ValueError that lists the known names."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


@torch.no_grad()
def sample(net: Net, state: SamplerState, progress: str | None = None) -> Signal:
    """x_0 of a whole signal: evaluate `net` and advance `state` until it is done. `progress` names a bar."""
    with progress_bar(None, progress, len(state.levels) - 1, show=progress is not None) as bar:
        while not state.done:
            state.advance(net(state.x, state.sigma))
            bar.update(state.step - bar.n)
    return state.x


@dataclass(frozen=True)
class Guidance:
    """How strongly v_hat follows the text. The paper's is `scale` alone; the other settings are off by default.

    `low`, `high`: noise levels between which v_hat is guided (Kynkaanniemi et al. 2024); elsewhere the scale is 1.
    `rescale`, `per_channel`: arguments of `rescaled` (Lin et al. 2024); 0 is off.
    """

    scale: float
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0
    per_channel: bool = False

    def __post_init__(self):
        """Raises ValueError for an infinite scale, levels or `rescale` outside [0, 1], or `low` above `high`."""
        number("guidance", self.scale)
        if not (0 <= self.low <= self.high <= 1 and 0 <= self.rescale <= 1):
            said = f"levels {self.low:g} to {self.high:g}, rescale {self.rescale:g}"
            raise ValueError(
                f"guidance settings out of range: {said}: choose numbers from 0 to 1, the lower level first"
            )


def rescaled(v_hat: Signal, v_cond: Signal, share: float, per_channel: bool = False) -> Signal:
    """v_hat scaled towards v_cond's standard deviation, item by item; `share` 1 reaches it (Lin et al. 2024).

    `per_channel`: towards the mean and standard deviation over time of each channel, because means of z over time carry
    the loudness, and a negative prompt moves them far.
    """
    if not per_channel:
        ratio = v_cond.std(dim=(1, 2), keepdim=True) / v_hat.std(dim=(1, 2), keepdim=True)
        return v_hat * torch.lerp(torch.ones_like(ratio), ratio, share)
    mean, std = v_hat.mean(-1, keepdim=True), v_hat.std(-1, keepdim=True)
    restored = v_cond.mean(-1, keepdim=True) + (v_hat - mean) * v_cond.std(-1, keepdim=True) / std
    return torch.lerp(v_hat, restored, share)


def v_towards(x_0: Signal, x_sigma: Signal, sigma: Level) -> Signal:
    """The v that leads from x_sigma to this x_0: (alpha x_sigma - x_0) / beta, for sigma > 0.

    With it at each step, every sampler passes through add_noise(x_0, eps, sigma), where eps is the noise it began with.
    """
    alpha, beta = alpha_beta(sigma)
    return (alpha * x_sigma - x_0) / beta
