"""The one 1-D U-Net of both stages. It computes what the authors' does (`tests/core/test_parity.py`; Section 3).

    level i:  x ── down (strided conv) ── items ── level i + 1 ── items ── up (nearest, conv 3) ──(x + s(sigma) y)──>
    items:    Resnet, Modulation, [Inject], [self-attention], [cross-attention], repeated

There is no first or last layer outside the levels and no middle block: level 0, with factor 1, is both ends. Each
level adds its output y to its input x, scaled per channel by s, which the noise level determines.
"""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.attention import Attention
from mousai.config import UNetConfig
from mousai.shapes import Activation, Embedding, Latent, Level, Signal, check_latent, to_stride

Features = Float[Tensor, "batch features"]  # of the noise level


class NoiseLevel(nn.Module):
    """sigma [batch] -> features [batch, 1024]: learned Fourier features, then an MLP whose last layer is applied twice.

    In the authors' code two layers share their weights by accident, and the published weights depend on it. The MLP's
    inputs are 257: sine and cosine of 128 waves, and sigma.
    """

    def __init__(self, features: int, frequencies: int = 128):
        super().__init__()
        self.freqs = nn.Parameter(torch.randn(frequencies))
        self.proj = nn.Linear(2 * frequencies + 1, features)
        self.mlp = nn.Linear(features, features)

    def forward(self, sigma: Level) -> Features:
        w = 2 * pi * sigma[:, None] * self.freqs  # [batch, 128]
        h = F.gelu(self.proj(torch.cat([sigma[:, None], w.sin(), w.cos()], dim=-1)))
        return F.gelu(self.mlp(F.gelu(self.mlp(h))))


class Resnet(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), width and length unchanged."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Activation) -> Activation:
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h))  # the name h is used again so that the first convolution's output is freed
        return x + self.conv2(h)


class Modulation(nn.Module):
    """The noise level scales and shifts each channel, after a LayerNorm over channels (elsewhere adaLN or FiLM).

    Not residual: the result replaces x.
    """

    def __init__(self, width: int, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * width)

    def forward(self, x: Activation, features: Features) -> Activation:
        scale, shift = self.linear(F.silu(features))[..., None].chunk(2, dim=1)  # each [batch, width, 1]
        return channel_norm(x) * (1 + scale) + shift


def channel_norm(x: Activation) -> Activation:
    """LayerNorm over channels, separately at each time step; without learned weights."""
    return F.layer_norm(x.transpose(1, 2), (x.shape[1],), eps=1e-6).transpose(1, 2)


class Inject(nn.Module):
    """x + 1x1 conv of [x, latent]: z enters stage 1 here, at depth 4, on the way down and up."""

    def __init__(self, width: int, latent_channels: int):
        super().__init__()
        self.conv = nn.Conv1d(width + latent_channels, width, 1)

    def forward(self, x: Activation, latent: Latent) -> Activation:
        repeats, rest = divmod(x.shape[-1], latent.shape[-1])
        if rest:
            raise ValueError(
                f"latent has {latent.shape[-1]} steps where the U-Net has {x.shape[-1]}: lengths must match"
            )
        latent = latent.repeat_interleave(repeats, dim=-1)  # to the length of x
        return x + self.conv(torch.cat([x, latent], dim=1))


class Group(nn.Module):
    """The items of a depth, once, in the authors' order."""

    def __init__(self, config: UNetConfig, depth: int):
        super().__init__()
        width, heads, exact = config.channels[depth], (config.heads, config.head_features), config.paper_exact.attention
        self.resnet = Resnet(width, config.groups)
        self.modulation = Modulation(width, config.features)
        self.inject = Inject(width, config.inject_channels) if config.injects(depth) else None
        self.self_attention = nn.ModuleList(
            Attention(width, *heads, paper_exact=exact) for _ in range(config.attentions[depth])
        )
        self.cross_attention = nn.ModuleList(
            Attention(width, *heads, config.embedding_features, exact) for _ in range(config.cross_attentions[depth])
        )

    def forward(
        self, x: Activation, features: Features, latent: Latent | None, embedding: Embedding | None
    ) -> Activation:
        x = self.resnet(x)
        x = self.modulation(x, features)
        if self.inject is not None and latent is not None:
            x = self.inject(x, latent)
        for attention in self.self_attention:
            x = attention(x)
        for attention in self.cross_attention:
            x = attention(x, embedding)
        return x


class NetLevel(nn.Module):
    """One level of the U-Net, and inside it all deeper ones."""

    def __init__(self, config: UNetConfig, depth: int):
        super().__init__()
        outside, width = (config.in_channels, *config.channels)[depth : depth + 2]
        self.factor = config.factors[depth]
        self.down = nn.Conv1d(outside, width, self.factor, stride=self.factor)
        self.items_down = nn.ModuleList(Group(config, depth) for _ in range(config.items[depth]))
        self.inner = NetLevel(config, depth + 1) if depth + 1 < len(config.channels) else None
        self.items_up = nn.ModuleList(Group(config, depth) for _ in range(config.items[depth]))
        self.up = nn.Conv1d(width, outside, 3, padding=1)
        self.skip = nn.Linear(config.features, outside)

    def forward(
        self, x: Activation, features: Features, latent: Latent | None, embedding: Embedding | None
    ) -> Activation:
        y = self.down(x)  # [batch, width, length / factor]
        for group in self.items_down:
            y = group(y, features, latent, embedding)
        if self.inner is not None:
            y = self.inner(y, features, latent, embedding)
        for group in self.items_up:
            y = group(y, features, latent, embedding)
        y = self.up(y.repeat_interleave(self.factor, dim=-1))  # [batch, outside, length]
        return x + self.skip(F.silu(features))[..., None] * y


class UNet(nn.Module):
    """v_hat = f(x_sigma, sigma | latent, embedding). Input and output [batch, in_channels, length]."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        check_unet_config(config)
        self.config = config
        self.noise_level = NoiseLevel(config.features)
        self.net = NetLevel(config, 0)

    def forward(
        self, x: Signal, sigma: Level, latent: Latent | None = None, embedding: Embedding | None = None
    ) -> Signal:
        """v_hat of x at noise level sigma. Raises ValueError where the length is not a multiple of the stride, or
        where a latent or an embedding is missing or has no layer that takes it."""
        check_inputs(self.config, x, latent, embedding is not None)
        return self.net(x, self.noise_level(sigma), latent, embedding)


def check_inputs(config: UNetConfig, x: Signal, latent: Latent | None, has_text: bool) -> None:
    """Raise ValueError as `UNet.forward` says."""
    to_stride(x.shape[-1], config.stride, paper_exact=True)
    if (latent is not None) != (config.inject_depth is not None):
        raise ValueError("a latent is needed exactly where the U-Net has an inject depth")
    if latent is not None and config.inject_depth is not None:
        check_latent(latent.shape[-1], x.shape[-1], config.factors[: config.inject_depth + 1])
    if has_text != any(config.cross_attentions):
        raise ValueError("a text embedding is needed exactly where the U-Net has cross-attention")


def check_unet_config(config: UNetConfig) -> None:
    """Raise ValueError for tuples of unequal length, or a width that is not a multiple of the GroupNorm groups."""
    lists = ("channels", "factors", "items", "attentions", "cross_attentions")
    lengths = {name: len(getattr(config, name)) for name in lists}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"one entry per depth, but the lists have lengths {lengths}")
    for width in config.channels:
        if config.groups < 1 or width % config.groups:
            raise ValueError(f"{width} channels are not a multiple of {config.groups} GroupNorm groups")


def count_parameters(module: nn.Module) -> int:
    """Number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())
