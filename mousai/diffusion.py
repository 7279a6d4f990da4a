"""v-diffusion and DDIM (Section 2): everything both stages share, and nothing that knows about music.

sigma in [0, 1] is the noise *level*: 0 clean, 1 pure noise. phi = pi/2 sigma; alpha = cos phi; beta = sin phi.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.progress import progress_bar
from mousai.shapes import Level, Signal

Net = Callable[[Tensor, Tensor], Tensor]  # (x_sigma, sigma) -> v_hat


def alpha_beta(sigma: Level) -> tuple[Float[Tensor, "batch 1 1"], Float[Tensor, "batch 1 1"]]:
    """alpha = cos(pi/2 sigma) and beta = sin(pi/2 sigma), shaped to multiply [batch, channels, length] (Section 2)."""
    phi = (pi / 2 * sigma)[:, None, None]
    return torch.cos(phi), torch.sin(phi)


def add_noise(x_0: Signal, eps: Signal, sigma: Level) -> Signal:
    """x_sigma = alpha x_0 + beta eps."""
    alpha, beta = alpha_beta(sigma)
    return alpha * x_0 + beta * eps


def v_target(x_0: Signal, eps: Signal, sigma: Level) -> Signal:
    """v = alpha eps - beta x_0, the velocity d x_sigma / d phi."""
    alpha, beta = alpha_beta(sigma)
    return alpha * eps - beta * x_0


def x_0_hat_eps_hat(x_sigma: Signal, v_hat: Signal, sigma: Level) -> tuple[Signal, Signal]:
    """What v_hat says about the clean signal and the noise: the rotation undone."""
    alpha, beta = alpha_beta(sigma)
    return alpha * x_sigma - beta * v_hat, beta * x_sigma + alpha * v_hat


def diffusion_loss(net: Net, x_0: Signal, eps: Signal, sigma: Level) -> Float[Tensor, " batch"]:
    """Mean of (v_hat - v)^2 over everything but the batch; its mean is the paper's loss."""
    v_hat = net(add_noise(x_0, eps, sigma), sigma)
    return (v_hat - v_target(x_0, eps, sigma)).square().mean(dim=(1, 2))


def gaussian_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of x's shape, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def v_towards(x_0: Signal, x_sigma: Signal, sigma: Level) -> Signal:
    """The v that leads from x_sigma to this x_0: (alpha x_sigma - x_0) / beta, for sigma > 0 (ours).

    Told it, every sampler passes through add_noise(x_0, eps, sigma) with the eps it began with, and ends in x_0.
    """
    alpha, beta = alpha_beta(sigma)
    return (alpha * x_sigma - x_0) / beta


def levels(steps: int, start: float = 1.0) -> Float[Tensor, " levels"]:
    """steps + 1 noise levels, evenly spaced from `start` to 0.

    Raises ValueError for steps < 1, or a start that is not in (0, 1].
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: a sampler needs at least 1")
    if not 0 < start <= 1:
        raise ValueError(f"sampling cannot start at noise level {start}: choose more than 0 and at most 1")
    return torch.linspace(start, 0.0, steps + 1)


Asking = Generator[tuple[Signal, Level], Signal, Signal]  # asks with (x_sigma, sigma), is told v_hat, ends with x_0
Sampler = Callable[..., Asking]  # (x, steps, start=1.0): x [batch, channels, length] at level `start`, noise at 1


@torch.no_grad()
def sample(net: Net, eps: Signal, steps: int, progress: str | None = None, sampler: "Sampler | None" = None) -> Signal:
    """From noise eps at sigma = 1 to x_0 at sigma = 0: the sampler asks, net answers. Without a sampler DDIM.

    `progress` names a bar. The same eps gives the same x_0; nothing is clipped.
    """
    walk = Walk((sampler or ddim)(eps, steps))
    with progress_bar(None, progress, steps, show=progress is not None) as bar:
        while not walk.done:
            walk.answer(net(walk.x, walk.sigma))
            if progress:  # a level is read from the device, which has to be waited for
                bar.update(steps - round(steps * walk.level()) - bar.n)
    return walk.x


class Walk:
    """A signal between noise and x_0: what its sampler asks now, until it is `done` and `x` is x_0."""

    def __init__(self, asking: Asking):
        self.asking, self.done = asking, False
        self.x, self.sigma = next(asking)

    def answer(self, v_hat: Signal) -> None:
        """Tell the sampler v_hat."""
        try:
            self.x, self.sigma = self.asking.send(v_hat)
        except StopIteration as end:
            self.x, self.done = end.value, True

    def level(self) -> float:
        """sigma as a number, the same for every item; 0 when done."""
        return 0.0 if self.done else self.sigma[0].item()


def ddim(x: Signal, steps: int, start: float = 1.0) -> Asking:
    """DDIM, the paper's: where v_hat points to, as clean signal and noise, mixed anew for the next level."""
    for sigma, sigma_next in level_pairs(x, steps, start):
        v_hat = yield x, sigma
        x = add_noise(*x_0_hat_eps_hat(x, v_hat, sigma), sigma_next)
    return x


def multistep(x: Signal, steps: int, start: float = 1.0) -> Asking:
    """DDIM of second order in as many calls: v_hat goes on in line with what the call before says (ours).

    The guess before, turned to the present level, stands a whole step behind; the middle of the coming step is half
    a step ahead. Two-step Adams-Bashforth on the angle.
    """
    before = None
    for sigma, sigma_next in level_pairs(x, steps, start):
        v_hat = yield x, sigma
        ahead = v_hat if before is None else v_hat + (v_hat - v_target(*before, sigma)) / 2
        before = x_0_hat_eps_hat(x, v_hat, sigma)
        x = add_noise(*x_0_hat_eps_hat(x, ahead, sigma), sigma_next)
    return x


def heun(x: Signal, steps: int, start: float = 1.0) -> Asking:
    """Heun's method: a DDIM step, a second look from where it ends, then the step with both; 2 steps - 1 calls (ours).

    The last step is plain: at sigma = 0 nothing is left of the noise, so a look from there tells nothing of it.
    """
    for sigma, sigma_next in level_pairs(x, steps, start):
        v_hat = yield x, sigma
        there = add_noise(*x_0_hat_eps_hat(x, v_hat, sigma), sigma_next)
        if sigma_next[0] > 0:
            second = x_0_hat_eps_hat(there, (yield there, sigma_next), sigma_next)
            there = add_noise(*x_0_hat_eps_hat(x, (v_hat + v_target(*second, sigma)) / 2, sigma), sigma_next)
        x = there
    return x


def noisy_ddim(eta: float, generator: torch.Generator) -> Sampler:
    """DDIM with fresh noise in each step (Song et al. 2021): eta 0 is DDIM, 1 as much as DDPM's.

    The share of eps_hat that is replaced has standard deviation eta beta'/beta sqrt(1 - (alpha/alpha')^2).
    """

    def sampler(x: Signal, steps: int, start: float = 1.0) -> Asking:
        for sigma, sigma_next in level_pairs(x, steps, start):
            x_0_hat, eps_hat = x_0_hat_eps_hat(x, (yield x, sigma), sigma)
            (alpha, beta), (alpha_next, beta_next) = alpha_beta(sigma), alpha_beta(sigma_next)
            fresh = eta * beta_next / beta * (1 - (alpha / alpha_next) ** 2).clamp_min(0).sqrt()
            kept = (beta_next**2 - fresh**2).clamp_min(0).sqrt()
            x = alpha_next * x_0_hat + kept * eps_hat + fresh * gaussian_like(x, generator)
        return x

    return sampler


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "multistep": multistep, "heun": heun}


def get_sampler(name: str) -> Sampler:
    """The sampler of that name. Raises ValueError that lists the names there are."""
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def level_pairs(x: Signal, steps: int, start: float = 1.0) -> Iterator[tuple[Level, Level]]:
    """(sigma, sigma_next) of each step, one number an item of x."""
    for now, then in pairwise(levels(steps, start).to(x)):
        yield now.expand(len(x)), then.expand(len(x))


@dataclass(frozen=True)
class Guidance:
    """How strongly v_hat follows the text. The paper's is `scale` alone; the other two are off by default.

    `low`, `high`: levels between which it is guided (Kynkaanniemi et al. 2024), outside of them scale is 1. `rescale`:
    share in which v_hat gets back the spread that it has with the text and without guidance (Lin et al. 2024).
    """

    scale: float
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0

    def __post_init__(self):
        """Raises ValueError for levels that are none, or a share that is none."""
        if not (0 <= self.low <= self.high <= 1 and 0 <= self.rescale <= 1):
            said = f"levels {self.low:g} to {self.high:g}, rescale {self.rescale:g}"
            raise ValueError(f"guidance cannot be so: {said}: choose numbers from 0 to 1, the lower level first")


def guidance(v_uncond: Signal, v_cond: Signal, scale: float) -> Signal:
    """Classifier-free guidance: uncond + scale (cond - uncond). 0 ignores the text, 1 follows it."""
    return v_uncond + scale * (v_cond - v_uncond)


def rescaled(v_hat: Signal, v_cond: Signal, share: float) -> Signal:
    """v_hat with `share` of the way gone back to v_cond's standard deviation, each item's own (Lin et al. 2024)."""
    spread = v_cond.std(dim=(1, 2), keepdim=True) / v_hat.std(dim=(1, 2), keepdim=True)
    return v_hat * torch.lerp(torch.ones_like(spread), spread, share)
