"""Matrix products by oneDNN, for sampling in float32 on a CPU (ours).

torch sends float32 products to MKL, which leaves half of an AMD core's vector width unused, and convolutions to oneDNN,
which does not: 512 to 1024 wide, on one core of a Zen 5, 82 to 97 GFLOP/s against 181 to 227. The same sums in another
order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, without gradients: x [..., n] times weight [m, n], either with any strides, plus bias [m]."""
    if ONEDNN is None or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    return ONEDNN(dense(x), dense(weight), bias, "none", [], "")


def dense(x: Tensor) -> Tensor:
    """Itself, or a copy where its rows, or its columns, do not follow one another without a gap.

    On a processor without AVX-512 oneDNN multiplies a slice of a wider matrix one number at a time: a thousandth of the
    speed.
    """
    return x if x.is_contiguous() or (x.ndim > 1 and x.mT.is_contiguous()) else x.contiguous()


class Product(nn.Linear):
    """A linear layer that calls `product`."""

    def __init__(self, linear: nn.Linear):
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, input: Tensor) -> Tensor:
        return product(input, self.weight, self.bias)


class Pointwise(nn.Conv1d):
    """A convolution of one tap: at each moment the same product."""

    def __init__(self, conv: nn.Conv1d):
        super().__init__(conv.in_channels, conv.out_channels, 1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Tensor) -> Tensor:
        made = torch.stack([product(self.weight[..., 0], one.mT) for one in input])
        return made if self.bias is None else made.add_(self.bias[:, None])
