"""v-diffusion and DDIM (Section 2): what both stages share. Nothing here depends on what the signal is.

sigma in [0, 1] is the noise level: 0 is clean, 1 is pure noise. phi = pi/2 sigma, alpha = cos phi, beta = sin phi.
Signals are [batch, channels, length]; sigma is [batch], one number per item.
"""

from collections.abc import Callable
from itertools import pairwise
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

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


def predict_x0_eps(x_sigma: Signal, v_hat: Signal, sigma: Level) -> tuple[Signal, Signal]:
    """(x_0_hat, eps_hat), the clean signal and the noise that x_sigma and v_hat imply."""
    alpha, beta = alpha_beta(sigma)
    return alpha * x_sigma - beta * v_hat, beta * x_sigma + alpha * v_hat


def diffusion_loss(net: Net, x_0: Signal, eps: Signal, sigma: Level) -> Float[Tensor, " batch"]:
    """Mean of (v_hat - v)^2 over channels and time, per item; its mean over the batch is the paper's loss."""
    v_hat = net(add_noise(x_0, eps, sigma), sigma)
    return (v_hat - v_target(x_0, eps, sigma)).square().mean(dim=(1, 2))


def gaussian_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of x's shape, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def noise_levels(steps: int, start: float = 1.0) -> Float[Tensor, " levels"]:
    """steps + 1 noise levels, evenly spaced from `start` to 0.

    Raises ValueError for fewer than 1 step, or a start outside (0, 1].
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: a sampler needs at least 1")
    if not 0 < start <= 1:
        raise ValueError(f"sampling cannot start at noise level {start}: choose more than 0 and at most 1")
    return torch.linspace(start, 0.0, steps + 1)


@torch.no_grad()
def ddim(net: Net, x: Signal, steps: int, start: float = 1.0) -> Signal:
    """DDIM, the paper's sampler: from x at noise level `start` (1 is pure noise) to x_0. Nothing is clipped."""
    for level, next_level in pairwise(noise_levels(steps, start).to(x)):
        sigma = level.expand(len(x))
        v_hat = net(x, sigma)
        # the clean signal and the noise that v_hat predicts, mixed again at the next level
        x_0_hat, eps_hat = predict_x0_eps(x, v_hat, sigma)
        x = add_noise(x_0_hat, eps_hat, next_level.expand(len(x)))
    return x


def guidance(v_uncond: Signal, v_cond: Signal, scale: float) -> Signal:
    """Classifier-free guidance: uncond + scale (cond - uncond). Scale 0 ignores the text, 1 is v_cond itself."""
    return v_uncond + scale * (v_cond - v_uncond)
