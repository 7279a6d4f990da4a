"""Faster sampling on a CPU: copies of both stages with oneDNN layers, channels-last memory and explicit caches (ours).

`optimize_for_cpu(model)` returns a copy of the same class with other layers, whose U-Net is an `AcceleratedUNet`; the
original does not change. The copy's samples are the same up to rounding. It shares weights with the original where it
can, so make a new copy after training the original.
"""

from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.attention import Attention, attention_written_out
from mousai.config import UNetConfig
from mousai.inference.onednn import onednn_layer
from mousai.inference.precision import chosen
from mousai.shapes import Activation, Embedding, Latent, Level, Signal
from mousai.unet import Group, NetLevel, NoiseLevel, UNet, check_inputs

Model = TypeVar("Model", bound=nn.Module)
FEW_PAIRS = 2**18  # pairs of 512 time steps with one another: half a megabyte per head


@dataclass(frozen=True)
class ModulationCache:
    """Outputs of the layers that take the noise level, for all levels of a run, computed once for all windows."""

    sigma: Tensor  # [levels]
    outputs: list[Tensor]  # per layer [levels, outputs], in the order of `AcceleratedUNet.level_layers`

    def at(self, sigma: Level) -> list[Tensor]:
        """Each layer's [1, outputs] at sigma[0], which all items must have. Raises ValueError for other levels."""
        found = (self.sigma == sigma[0]).nonzero()
        if not len(found):
            raise ValueError(f"noise level {sigma[0].item()} is not one of those that were computed")
        row = int(found[0])
        return [output[row : row + 1] for output in self.outputs]


@dataclass(frozen=True)
class TextKV:
    """(keys, values, word mask) of a text in each cross-attention, computed once for all steps."""

    layers: list[tuple[Tensor, Tensor, Tensor | None]]


class AcceleratedUNet(nn.Module):
    """The U-Net of `unet.py` with channels-last activations: [batch, channels, length] whose `mT` is contiguous."""

    def __init__(self, unet: UNet, kind: torch.dtype):
        super().__init__()
        self.config: UNetConfig = unet.config
        self.noise_level: NoiseLevel = accelerated(unet.noise_level, kind)
        self.level_layers = nn.ModuleList()
        self.cross_attentions = nn.ModuleList()
        self.net = AcceleratedLevel(unet.net, kind, self)

    def forward(
        self,
        x: Signal,
        sigma: Level,
        latent: Latent | None = None,
        embedding: Embedding | TextKV | None = None,
        modulation: ModulationCache | None = None,
    ) -> Signal:
        """v_hat, as `UNet.forward`. A `TextKV` may replace the embedding; `modulation` saves computing from sigma."""
        check_inputs(self.config, x, latent, embedding is not None)
        text = self.precompute_text_kv(embedding) if isinstance(embedding, Tensor) else embedding
        rows = self.modulation(sigma) if modulation is None else modulation.at(sigma)
        return self.net(x, rows, latent, [] if text is None else text.layers)

    def modulation(self, sigma: Level) -> list[Tensor]:
        """The output of each layer that takes the noise level, [levels, outputs]."""
        features = F.silu(self.noise_level(sigma))
        return [layer(features) for layer in self.level_layers]

    def precompute_modulation(self, sigma: Level) -> ModulationCache:
        """The cache for the noise levels sigma of a run."""
        return ModulationCache(sigma, self.modulation(sigma))

    def precompute_text_kv(self, embedding: Embedding) -> TextKV:
        """The cache for the text of a run."""
        return TextKV([attention.keys_values(embedding) for attention in self.cross_attentions])  # type: ignore


class AcceleratedLevel(nn.Module):
    """The accelerated `NetLevel`. `rows`: the outputs for the noise level; `text`: `TextKV.layers`."""

    def __init__(self, level: NetLevel, kind: torch.dtype, unet: AcceleratedUNet):
        super().__init__()
        self.factor = level.factor
        self.down = accelerated(level.down, kind)
        self.items_down = nn.ModuleList(AcceleratedGroup(cast(Group, item), kind, unet) for item in level.items_down)
        self.inner = AcceleratedLevel(level.inner, kind, unet) if level.inner is not None else None
        self.items_up = nn.ModuleList(AcceleratedGroup(cast(Group, item), kind, unet) for item in level.items_up)
        self.up = accelerated(level.up, kind)
        self.skip = registered(accelerated(level.skip, kind), unet.level_layers)

    def forward(self, x: Activation, rows: list[Tensor], latent: Latent | None, text: list) -> Activation:
        y = self.down(x)
        for group in self.items_down:
            y = group(y, rows, latent, text)
        if self.inner is not None:
            y = self.inner(y, rows, latent, text)
        for group in self.items_up:
            y = group(y, rows, latent, text)
        if self.factor > 1:
            y = y.mT.repeat_interleave(self.factor, dim=1).mT  # [batch, width, length]
        return x + rows[self.skip][..., None] * self.up(y)


class AcceleratedGroup(nn.Module):
    """The accelerated `Group`, with arguments as in `AcceleratedLevel`."""

    def __init__(self, group: Group, kind: torch.dtype, unet: AcceleratedUNet):
        super().__init__()
        self.resnet = accelerated(group.resnet, kind)
        self.modulation = registered(accelerated(group.modulation.linear, kind), unet.level_layers)
        self.inject = None if group.inject is None else accelerated(group.inject.conv, kind)
        own, cross = (
            [AcceleratedAttention(cast(Attention, part), kind) for part in parts]
            for parts in (group.self_attention, group.cross_attention)
        )
        self.self_attention = nn.ModuleList(own)
        self.cross_attention = nn.ModuleList(cross)
        self.texts = [registered(part, unet.cross_attentions) for part in cross]

    def forward(self, x: Activation, rows: list[Tensor], latent: Latent | None, text: list) -> Activation:
        x = self.resnet(x)
        y = F.layer_norm(x.mT, x.shape[1:2], eps=1e-6)  # [batch, length, width]
        scale, shift = rows[self.modulation][:, None].to(y).chunk(2, dim=-1)
        y = torch.addcmul(shift, y, 1 + scale)
        if self.inject is not None and latent is not None:
            upsampled = latent.mT.repeat_interleave(y.shape[1] // latent.shape[-1], dim=1).to(y)
            y = y + self.inject(torch.cat([y, upsampled], dim=-1).mT).mT
        for attention in self.self_attention:
            y = attention(y, *cast(AcceleratedAttention, attention).keys_values(y))
        for attention, number in zip(self.cross_attention, self.texts, strict=True):
            y = attention(y, *text[number])
        return y.mT


class AcceleratedAttention(nn.Module):
    """The accelerated `Attention`, [batch, length, width] to the same, with keys and values as arguments."""

    def __init__(self, attention: Attention, kind: torch.dtype):
        super().__init__()
        self.layers: Attention = accelerated(attention, kind)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As `Attention.keys_values`."""
        return self.layers.keys_values(context)

    def forward(self, y: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        out = attend(self.layers.queries(y), k, v, mask)
        return y + self.layers.to_out(out.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """`scaled_dot_product_attention`, or in bfloat16 with few pairs two products, which a CPU does twice as fast."""
    few = q.dtype == torch.bfloat16 and q.shape[-2] * k.shape[-2] <= FEW_PAIRS
    return attention_written_out(q, k, v, mask) if few else F.scaled_dot_product_attention(q, k, v, mask)


def registered(layer: nn.Module, layers: nn.ModuleList) -> int:
    """Append the layer to `layers`; return its index."""
    layers.append(layer)
    return len(layers) - 1


def accelerated(module: Model, kind: torch.dtype) -> Model:
    """A copy of the module with faster layers, which multiply in `kind`; it cannot be trained."""
    quick = onednn_layer(module, kind)
    if quick is not None:
        return quick  # type: ignore[return-value]
    return twin(module, {name: accelerated(child, kind) for name, child in module.named_children()})


def twin(module: Model, children: dict[str, nn.Module]) -> Model:
    """A copy of the module, of the same class, with these children and with parameters that need no gradient."""
    made = object.__new__(type(module))
    made.__dict__ = dict(module.__dict__)
    numbers = {name: None if p is None else nn.Parameter(p.detach(), False) for name, p in module._parameters.items()}
    made.__dict__["_parameters"] = numbers
    made.__dict__["_modules"] = {name: children.get(name) for name in module._modules}
    return made


def optimize_for_cpu(model: Model, precision: str = "float32") -> Model:
    """A copy of a stage (`DMAE` or `TCLD`) for sampling on a CPU; on another device the model itself.

    Its U-Net multiplies in `precision`, as `precision.chosen` explains: "float32", "auto" or "fast". All else stays in
    float32. Its backward pass raises RuntimeError.
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        return model
    kind = chosen(precision, device)
    children = {
        name: AcceleratedUNet(child, kind) if isinstance(child, UNet) else accelerated(child, torch.float32)
        for name, child in model.named_children()
    }
    return twin(model, children).eval()


def is_accelerated(model: nn.Module) -> bool:
    """Whether `optimize_for_cpu` made this copy."""
    return any(isinstance(module, AcceleratedUNet) for module in model.children())


def at_levels(model: Model, sigma: Tensor) -> Model:
    """An accelerated model with the `ModulationCache` of these noise levels, for one run; others as they are."""
    if not is_accelerated(model):
        return model
    children = {
        name: RunUNet(child, child.precompute_modulation(sigma)) if isinstance(child, AcceleratedUNet) else child
        for name, child in model.named_children()
    }
    return twin(model, children)


class RunUNet(nn.Module):
    """An `AcceleratedUNet` with the modulation cache of one run."""

    def __init__(self, unet: AcceleratedUNet, modulation: ModulationCache):
        super().__init__()
        self.config = unet.config
        self.unet = unet
        self.modulation = modulation

    def forward(
        self, x: Signal, sigma: Level, latent: Latent | None = None, embedding: Embedding | TextKV | None = None
    ) -> Signal:
        return self.unet(x, sigma, latent, embedding, self.modulation)


def text_conditioning(unet: nn.Module, embedding: Embedding) -> Embedding | TextKV:
    """What to pass as the U-Net's embedding in each step of a run: a `TextKV` if it takes one, else the embedding."""
    return unet.unet.precompute_text_kv(embedding) if isinstance(unet, RunUNet) else embedding
