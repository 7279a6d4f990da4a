"""What the network contributes: per noise level, its loss over that of the best prediction without a network (ours).

A ratio of 1.0 means that the network does nothing. In stage 1 of the small profiles the prediction without it is
v_hat = 0, since what they diffuse has unit variance (`mousai.small.whitening`). Everywhere else it is the best linear
stationary prediction (Wiener 1949), computed with the spectrum of the same clips.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.diffusion import add_noise, alpha_beta, ddim, gaussian_like, v_target
from mousai.dmae import DMAE
from mousai.inference.long import to_signal
from mousai.shapes import Embedding, Latent, Level, Signal, Wave
from mousai.small.dmae import Condition, SmallDMAE
from mousai.spectrogram import log_mel_l1
from mousai.tcld import TCLD
from mousai.unet import Group

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
Errors = Callable[[Signal, Level, Signal], tuple[Tensor, Tensor]]  # (x_sigma, sigma, v) -> with, without the network


@torch.no_grad()
def dmae_network_ratio(
    dmae: DMAE,
    w: Wave,
    generator: torch.Generator,
    sigmas: tuple[float, ...] = SIGMAS,
    octaves: int | None = None,
) -> dict[float, float]:
    """Stage 1 on crops w [batch, 2, crop]: noise level -> ratio.

    In a small stage 1 on bands, quiet bands count as much as loud ones, and `octaves` counts only that many of the
    lowest octaves; the default is all.
    """
    z = dmae.encode_crop(w)
    x_0 = to_signal(dmae, w, z)
    condition = dmae.condition(z) if isinstance(dmae, SmallDMAE) else None
    if not isinstance(dmae, SmallDMAE) or condition is None:
        return linear_ratio(lambda x, sigma: dmae.net(x, sigma, z), x_0, generator, sigmas)

    def errors(x: Wave, sigma: Level, v: Wave) -> tuple[Tensor, Tensor]:
        both = (dmae.net(x, sigma, z, condition) - v, v)  # without the network v_hat is 0
        with_network, without = (torch.cat([o.flatten() for o in dmae.octaves.analyse(e)[:octaves]]) for e in both)
        return with_network, without

    return ratios(errors, x_0, generator, sigmas)


def without_network(dmae: SmallDMAE) -> SmallDMAE:
    """A copy with shared weights whose v_hat is 0, so that it decodes z to noise with the predicted spectrum."""
    removed = copy.copy(dmae)
    removed.network = lambda groups, sigma, injected: torch.zeros_like(groups)  # type: ignore[method-assign]
    return removed


def without_attention(tcld: TCLD) -> TCLD:
    """A copy in which every self-attention returns its input; the attention to the text stays."""
    removed = copy.deepcopy(tcld)
    for module in removed.unet.modules():
        if isinstance(module, Group):
            module.self_attention = nn.ModuleList()
    return removed


@torch.no_grad()
def condition_ratios(
    dmae: SmallDMAE, w: Wave, groups: Sequence[str], generator: torch.Generator, steps: int
) -> dict[str, float]:
    """How a small stage 1 uses z, as sampled: log-mel L1 with another clip's z over that with the clip's own.

    "inject": the U-Net gets the other z, the magnitude head the own. "head": the reverse. "both": both get the other.
    All are sampled from the same noise in `steps` steps of DDIM, without refinement. The losses of two heads cannot be
    compared, because the head also sets the unit of the noise; their sounds can.

    Latents are exchanged within equal `groups` (segment tags, for example), so that differences in level do not count.
    Raises ValueError where a group has a single clip, or the model has no magnitude head.
    """
    if dmae.head is None:
        raise ValueError("this stage 1 has no magnitude head: its z acts through inject alone, use `linear_ratio`")
    z = dmae.encode_crop(w)
    other = z[exchanged(groups)]
    eps = gaussian_like(w, generator)

    def error(condition: Condition | None) -> float:
        x_0 = ddim(lambda x, sigma: dmae.net(x, sigma, z, condition), eps, steps)
        return log_mel_l1(dmae.to_wave(dmae.coloured(x_0, condition)), w).mean().item()

    own = error(dmae.condition(z))
    return {
        "inject": error(dmae.condition(z, injected=other)) / own,
        "head": error(dmae.condition(other, injected=z)) / own,
        "both": error(dmae.condition(other)) / own,
    }


def exchanged(groups: Sequence[str]) -> list[int]:
    """For each index the next one in the same group, cyclically. Raises ValueError where a group has a single one."""
    order = list(range(len(groups)))
    for group in set(groups):
        members = [i for i, name in enumerate(groups) if name == group]
        if len(members) < 2:
            raise ValueError(f"group {group!r} has one clip alone, nothing can be exchanged: take more clips")
        for i, following in zip(members, members[1:] + members[:1], strict=True):
            order[i] = following
    return order


@torch.no_grad()
def tcld_network_ratio(
    tcld: TCLD, z: Latent, embedding: Embedding, generator: torch.Generator, sigmas: tuple[float, ...] = SIGMAS
) -> dict[float, float]:
    """Stage 2 on latents z with the embeddings of their captions, without guidance: noise level -> ratio."""
    net = lambda x, sigma: tcld.unet(x, sigma, embedding=embedding)  # noqa: E731
    return linear_ratio(net, z / tcld.latent_std, generator, sigmas)


def linear_ratio(
    net: Callable[[Signal, Level], Signal], x_0: Signal, generator: torch.Generator, sigmas: tuple[float, ...] = SIGMAS
) -> dict[float, float]:
    """Noise level -> loss of `net` over that of the best linear stationary prediction (`wiener`)."""
    power = spectrum(x_0)
    return ratios(lambda x, sigma, v: (net(x, sigma) - v, wiener(x, sigma, power) - v), x_0, generator, sigmas)


def ratios(
    errors: Errors, x_0: Signal, generator: torch.Generator, sigmas: tuple[float, ...] = SIGMAS
) -> dict[float, float]:
    """Noise level -> mean square of `errors` (v_hat - v) with the network over that without it, on the same noise."""
    found = {}
    for sigma in sigmas:
        eps = gaussian_like(x_0, generator)
        level = x_0.new_full((len(x_0),), sigma)
        with_network, without = errors(add_noise(x_0, eps, level), level, v_target(x_0, eps, level))
        found[sigma] = (with_network.square().mean() / without.square().mean()).item()
    return found


def spectrum(x_0: Signal) -> Float[Tensor, "channels frequencies"]:
    """Mean power of each channel at each frequency over the items; white noise of unit variance has 1."""
    return torch.fft.rfft(x_0, norm="ortho").abs().square().mean(dim=0)


def wiener(x: Signal, sigma: Level, power: Float[Tensor, "channels frequencies"]) -> Signal:
    """The best linear stationary v_hat: alpha beta (1 - S) / (alpha^2 S + beta^2) times x at each frequency.

    S is the clean signal's `power` there; the noise's is 1.
    """
    alpha, beta = alpha_beta(sigma)
    gain = alpha * beta * (1 - power) / (alpha**2 * power + beta**2)
    return torch.fft.irfft(gain * torch.fft.rfft(x), n=x.shape[-1])
