"""Layers that use oneDNN directly, for faster sampling on a CPU (ours).

torch sends float32 matrix products to MKL, which uses half of an AMD core's vector width, and convolutions to oneDNN,
which uses all of it: 82 to 97 against 181 to 227 GFLOP/s for widths of 512 to 1024 on one core of a Zen 5. oneDNN needs
weights in its own memory order, and torch reorders them at every call, which takes up to half the time of a short
convolution. Here weights are reordered once, and activations are channels-last, as in attention. Results differ by
rounding, because sums are taken in another order. In bfloat16, where a processor multiplies it, the gain is smaller:
445 instead of 300 to 400 GFLOP/s on two cores of a Zen 4.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
NO_POINTWISE = ("none", [], "")  # no activation after the product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` without gradients: x [..., n] times weight [m, n], plus bias [m]; any strides are accepted."""
    if ONEDNN is None or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    return ONEDNN(dense(x), dense(weight), bias, *NO_POINTWISE)


def dense(x: Tensor) -> Tensor:
    """x, or a contiguous copy if neither its rows nor its columns lie in memory without gaps.

    On a processor without AVX-512 oneDNN multiplies a slice of a wider matrix one number at a time, a thousand times
    slower.
    """
    return x if x.is_contiguous() or (x.ndim > 1 and x.mT.is_contiguous()) else x.contiguous()


class RefuseBackward(torch.autograd.Function):
    """The identity, whose backward pass raises RuntimeError: an accelerated copy cannot be trained."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, requires_grad: Tensor) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError("this copy was made by `optimize_for_cpu`, for sampling alone: train the original")


def refuse_backward(y: Tensor) -> Tensor:
    """y; where gradients are recorded, its backward pass raises RuntimeError."""
    return RefuseBackward.apply(y, torch.ones((), requires_grad=True)) if torch.is_grad_enabled() else y  # type: ignore


class OneDNNLinear(nn.Module):
    """A linear layer, or a convolution of kernel size 1, with weights in oneDNN's memory order."""

    def __init__(self, layer: nn.Linear | nn.Conv1d, kind: torch.dtype = torch.float32):
        super().__init__()
        self.over_time = isinstance(layer, nn.Conv1d)
        self.kind = kind
        self.bias = cast(layer.bias, kind)
        weight = cast(layer.weight, kind).flatten(1)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"weight": self.weight.to_dense()}  # a tensor in oneDNN's order cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"weight": torch.ops.mkldnn._reorder_linear_weight(state["weight"])})

    def forward(self, x: Tensor) -> Tensor:
        assert ONEDNN is not None
        with torch.no_grad():
            y = ONEDNN(dense(x.mT if self.over_time else x).to(self.kind), self.weight, self.bias, *NO_POINTWISE)
        return refuse_backward(y.mT if self.over_time else y)


class OneDNNConv1d(nn.Module):
    """A convolution that reorders its weights for oneDNN whenever the shape of its input changes."""

    def __init__(self, conv: nn.Conv1d, kind: torch.dtype = torch.float32):
        super().__init__()
        self.weight = cast(conv.weight, kind)
        self.bias = cast(conv.bias, kind)
        self.how = (0, int(conv.padding[0])), (1, conv.stride[0]), (1, 1), conv.groups  # padding, stride, ... in 2-D
        self.size: torch.Size | None = None
        self.laid_out: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"size": None, "laid_out": None}

    @torch.no_grad()
    def convolved(self, x: Tensor) -> Tensor:
        """The convolution of x, without gradients."""
        x = x[:, :, None].to(self.weight.dtype, memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)  # a slice of a longer one is channels-last, but has gaps
        if x.shape != self.size:
            weight = self.weight[:, :, None].contiguous()
            self.laid_out = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.how, x.shape)
            self.size = x.shape
        return torch.ops.mkldnn._convolution_pointwise(x, self.laid_out, self.bias, *self.how, *NO_POINTWISE)[:, :, 0]

    def forward(self, x: Tensor) -> Tensor:
        return refuse_backward(self.convolved(x))


class ChannelsLastGroupNorm(nn.GroupNorm):
    """GroupNorm that keeps activations channels-last; torch's does so only for 4-D input."""

    def __init__(self, norm: nn.GroupNorm):
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, device="meta")
        self.weight = nn.Parameter(cast(norm.weight, norm.weight.dtype), requires_grad=False)
        self.bias = nn.Parameter(cast(norm.bias, norm.bias.dtype), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input[:, :, None])[:, :, 0]


def cast(weight: Any, kind: torch.dtype) -> Any:
    """A weight in the type `kind`, not copied if it has that type already; None stays None."""
    return None if weight is None else weight.detach().to(kind)


def onednn_layer(layer: nn.Module, kind: torch.dtype = torch.float32) -> nn.Module | None:
    """A faster layer that does the same and multiplies in `kind`; None without oneDNN, or for other kinds of layers."""
    if ONEDNN is None or next(layer.parameters(recurse=False), torch.empty(0)).dtype != torch.float32:
        return None
    if isinstance(layer, nn.Linear):
        return OneDNNLinear(layer, kind)
    if isinstance(layer, nn.GroupNorm):
        return ChannelsLastGroupNorm(layer)
    if not isinstance(layer, nn.Conv1d) or isinstance(layer.padding, str):
        return None
    if (layer.dilation, layer.padding_mode) != ((1,), "zeros"):
        return None
    one_tap = (layer.kernel_size, layer.stride, layer.padding, layer.groups) == ((1,), (1,), (0,), 1)
    return OneDNNLinear(layer, kind) if one_tap else OneDNNConv1d(layer, kind)
