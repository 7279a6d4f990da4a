"""The one 1-D U-Net of both stages, to the semantics of the authors' packages (parity in `tests/test_parity.py`).

    level i:  x ── down (strided conv) ── items ── level i + 1 ── items ── up (nearest, conv 3) ──(x + s(sigma) y)──>
    items:    Resnet, Modulation, [Inject], [self-attention], [cross-attention], repeated

There is no stem, no head and no middle block: level 0, with factor 1, is both ends. Skips are added, scaled by the
noise level, never concatenated.
"""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.attention import Attention, Heard
from mousai.config import UNetConfig
from mousai.shapes import Activation, Embedding, Latent, Level, Signal, check_latent, to_stride
from mousai.training.activation_checkpointing import Recomputed

Features = Float[Tensor, "batch features"]
Told = dict[nn.Module, Tensor]  # what each linear layer that hears the noise level makes of one sigma
Levels = dict[float, Told]


class NoiseLevel(nn.Module):
    """sigma -> features: learned random Fourier features, then an MLP whose second layer is applied twice.

    The sharing is an accident of the authors' code that the published weights depend on. 2 x 128 waves plus sigma: 257.
    """

    def __init__(self, features: int, frequencies: int = 128):
        super().__init__()
        self.freqs = nn.Parameter(torch.randn(frequencies))
        self.proj = nn.Linear(2 * frequencies + 1, features)
        self.mlp = nn.Linear(features, features)

    def forward(self, sigma: Level) -> Features:
        w = 2 * pi * sigma[:, None] * self.freqs
        h = F.gelu(self.proj(torch.cat([sigma[:, None], w.sin(), w.cos()], dim=-1)))
        return F.gelu(self.mlp(F.gelu(self.mlp(h))))


class Resnet(Recomputed):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), width and length unchanged."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, width), nn.Conv1d(width, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width), nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Activation) -> Activation:
        h = self.conv1(F.silu(self.norm1(x)))
        h = F.silu(self.norm2(h))  # under the same name: of a long signal each is much memory
        return x + self.conv2(h)


class Modulation(nn.Module):
    """The noise level scales and shifts each channel after a LayerNorm over channels. Not residual: it replaces x."""

    def __init__(self, width: int, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * width)

    def forward(self, x: Activation, features: Features | Told) -> Activation:
        scale, shift = told(self.linear, features)[..., None].chunk(2, dim=1)
        normed = channel_norm(x)
        return torch.addcmul(shift.to(normed), normed, 1 + scale.to(normed))


def told(linear: nn.Module, features: Features | Told) -> Tensor:
    """What a layer makes of the noise level; looked up where all levels were gone through before."""
    return features[linear] if isinstance(features, dict) else linear(F.silu(features))


def channel_norm(x: Activation) -> Activation:
    """LayerNorm over channels, at each moment by itself."""
    return norm_by_products(x) if x.device.type == "cpu" and not innermost(x) else norm_channels_last(x)


def innermost(x: Activation) -> bool:
    """Whether channels lie innermost in memory."""
    return x.mT.is_contiguous() and not x.is_contiguous()


def repeated(x: Activation, times: int) -> Float[Tensor, "batch width _"]:
    """Each moment so many times, channels innermost where they were."""
    return x.mT.repeat_interleave(times, dim=1).mT if innermost(x) else x.repeat_interleave(times, dim=-1)


def joined(x: Activation, y: Signal) -> Float[Tensor, "batch _ length"]:
    """One's channels after the other's, in x's precision, and innermost where x's are."""
    y = y.to(x.dtype)
    return torch.cat([x.mT, y.mT], dim=-1).mT if innermost(x) else torch.cat([x, y], dim=1)


def norm_channels_last(x: Activation) -> Activation:
    """As torch has it."""
    return F.layer_norm(x.transpose(1, 2), (x.shape[1],), eps=1e-6).transpose(1, 2)


def norm_by_products(x: Activation) -> Activation:
    """The same with sums over channels as products with ones: what torch's gives is copied back by the next convolution
    on a CPU, a tenth of stage 1's time (`mousai bench`). Sums stay float32 at least.
    """
    with torch.autocast("cpu", enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        mean_of = x.new_full((1, x.shape[1]), 1 / x.shape[1])
        centred = x - mean_of @ x
        return centred * (mean_of @ centred.square() + 1e-6).rsqrt()


class Inject(nn.Module):
    """x + 1x1 conv of [x, latent]: where z enters the DMAE (depth 4, on the way down and up)."""

    def __init__(self, width: int, latent_channels: int):
        super().__init__()
        self.conv = nn.Conv1d(width + latent_channels, width, 1)

    def forward(self, x: Activation, latent: Latent) -> Activation:
        steps, length = latent.shape[-1], x.shape[-1]
        if length % steps:
            raise ValueError(f"latent has {steps} steps where the U-Net has {length}: lengths must match")
        return x + self.conv(joined(x, repeated(latent, length // steps)))


class Group(Recomputed):
    """One repetition of the items at a depth, in the authors' order."""

    def __init__(self, config: UNetConfig, depth: int):
        super().__init__()
        width, heads, exact = config.channels[depth], (config.heads, config.head_features), config.paper_exact.attention
        self.resnet = Resnet(width, config.groups)
        self.modulation = Modulation(width, config.features)
        self.inject = Inject(width, config.inject_channels) if injects(config, depth) else None
        self.self_attention = nn.ModuleList(
            Attention(width, *heads, paper_exact=exact) for _ in range(config.attentions[depth])
        )
        self.cross_attention = nn.ModuleList(
            Attention(width, *heads, config.embedding_features, exact) for _ in range(config.cross_attentions[depth])
        )

    def forward(
        self, x: Activation, features: Features | Told, latent: Latent | None, embedding: Embedding | Heard | None
    ) -> Activation:
        x = self.modulation(self.resnet(x), features)
        if self.inject is not None and latent is not None:
            x = self.inject(x, latent)
        for attention in self.self_attention:
            x = attention(x)
        for attention in self.cross_attention:
            x = attention(x, embedding)
        return x


class NetLevel(nn.Module):
    """One depth and, inside it, all deeper ones."""

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
        if config.skip_start is not None:
            nn.init.constant_(self.skip.bias, config.skip_start)

    def forward(
        self, x: Activation, features: Features | Told, latent: Latent | None, embedding: Embedding | Heard | None
    ) -> Activation:
        y = self.down(x)
        for group in self.items_down:
            y = group(y, features, latent, embedding)
        if self.inner is not None:
            y = self.inner(y, features, latent, embedding)
        for group in self.items_up:
            y = group(y, features, latent, embedding)
        y = self.up(y if self.factor == 1 else repeated(y, self.factor))
        return x + told(self.skip, features)[..., None] * y


class UNet(nn.Module):
    """v_hat = f(x_sigma, sigma | latent, embedding). Input and output [batch, in_channels, length]."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        check_unet_config(config)
        self.config = config
        self.noise_level = NoiseLevel(config.features)
        self.net = NetLevel(config, 0)

    def forward(
        self,
        x: Signal,
        sigma: Level,
        latent: Latent | None = None,
        embedding: Embedding | Heard | None = None,
        levels: Levels | None = None,
    ) -> Signal:
        """v_hat; `levels` from `tell`, where sigma is the same for every item.

        Raises ValueError where the length does not divide by the stride, or a condition is missing or unheard."""
        config = self.config
        to_stride(x.shape[-1], config.stride, paper_exact=True)
        if (latent is not None) != (config.inject_depth is not None):
            raise ValueError("a latent is needed exactly where the U-Net has an inject depth")
        if latent is not None and config.inject_depth is not None:
            check_latent(latent.shape[-1], x.shape[-1], config.factors[: config.inject_depth + 1])
        if (embedding is not None) != any(config.cross_attentions):
            raise ValueError("a text embedding is needed exactly where the U-Net has cross-attention")
        features = self.noise_level(sigma) if levels is None else levels[sigma[0].item()]
        return self.net(x, features, latent, embedding)

    def tell(self, sigma: Level) -> Levels:
        """All that depends on the noise level alone, for each sigma: read once for all steps and windows."""
        features = self.noise_level(sigma)
        layers: list[nn.Module] = [module.linear for module in self.modules() if isinstance(module, Modulation)]
        layers += [module.skip for module in self.modules() if isinstance(module, NetLevel)]
        everything = {linear: told(linear, features) for linear in layers}
        at = lambda i: {linear: rows[i : i + 1] for linear, rows in everything.items()}  # noqa: E731
        return {s: at(i) for i, s in enumerate(sigma.tolist())}

    def hear(self, embedding: Embedding) -> Heard:
        """Every cross-attention's keys and values of a text: passed in its place, it is read once for all steps."""
        cross = [module for module in self.modules() if isinstance(module, Attention) and module.hears_text]
        return {attention: attention.listen(embedding) for attention in cross}


def injects(config: UNetConfig, depth: int) -> bool:
    """Whether the latent enters at this depth."""
    deepest = -1 if config.inject_depth is None else config.inject_depth
    return depth == deepest or (config.inject_everywhere and depth < deepest)


def check_unet_config(config: UNetConfig) -> None:
    """Raises ValueError for lists of unequal length, or a width that GroupNorm cannot divide."""
    lists = ("channels", "factors", "items", "attentions", "cross_attentions")
    lengths = {name: len(getattr(config, name)) for name in lists}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"one entry per depth, but the lists have lengths {lengths}")
    for width in config.channels:
        if config.groups < 1 or width % config.groups:
            raise ValueError(f"{width} channels do not divide by {config.groups} GroupNorm groups")


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
