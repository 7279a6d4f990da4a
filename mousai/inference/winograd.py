"""Convolutions of three taps with half the multiplications, for sampling in float32 on a CPU (ours).

Winograd's F(4, 3): four outputs of a 3-tap filter take 12 products one by one, but are fixed by the product of two
polynomials at six points. Values at those points are sums of few inputs, the weights' can be had beforehand, and over
channels the six are six matrix products. The same numbers to about 1e-5 (Winograd 1980; Lavin and Gray 2016).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.inference.onednn import by_onednn, product

WIDE = 512  # channels; with fewer, what is saved is lost again on the sums (`mousai bench`)
POINTS = 6  # polynomials at 0, 1, -1, 2, -2 and infinity
OF_INPUT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
OF_INPUT += [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
OF_WEIGHT = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # / 24, but the first / 24 * 4
TO_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class Winograd(nn.Module):
    """`nn.Conv1d(channels, width, 3, padding=1)`, its weights seen from the six points: twice as many numbers."""

    weight: Tensor
    of_input: Tensor
    to_output: Tensor

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.bias = conv.bias
        of_weight = conv.weight.new_tensor(OF_WEIGHT) / 24
        self.register_buffer("weight", torch.einsum("pk,oik->poi", of_weight, conv.weight.detach()).contiguous())
        self.register_buffer("of_input", conv.weight.new_tensor(OF_INPUT))
        self.register_buffer("to_output", conv.weight.new_tensor(TO_OUTPUT))

    def forward(self, x: Float[Tensor, "batch channels length"]) -> Float[Tensor, "batch width length"]:
        batch, channels, length = x.shape
        tiles = -(-length // 4)
        padded = F.pad(x, (1, 1 + 4 * tiles - length))
        rows = padded.stride()
        seen = padded.as_strided((POINTS, channels, batch, tiles), (1, rows[1], rows[0], 4)).reshape(POINTS, -1)
        at_points = (self.of_input @ seen).view(POINTS, channels, batch * tiles)
        products = torch.stack([product(w, x.mT) for w, x in zip(self.weight, at_points, strict=True)])
        if self.bias is not None:  # what is added at point 1 is in each of the four outputs, once
            products[1] += self.bias[:, None]
        four = (self.to_output @ products.view(POINTS, -1)).view(4, -1, batch, tiles)
        return four.permute(2, 1, 3, 0).reshape(batch, -1, 4 * tiles)[..., :length]


def quicken(model: nn.Module, kind: torch.dtype = torch.float32) -> nn.Module:
    """The model with its products and convolutions replaced, in place, by such as multiply in that kind; others stay.

    For sampling alone: it can no longer be trained, nor its weights be saved.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if quick := quicker(child, kind):
                setattr(module, name, quick)
    return model


def quicker(layer: nn.Module, kind: torch.dtype) -> nn.Module | None:
    """What does the same in less time, where there is such a thing."""
    if kind != torch.float32 or not isinstance(layer, nn.Conv1d) or min(layer.in_channels, layer.out_channels) < WIDE:
        return by_onednn(layer, kind)
    same = (layer.kernel_size, layer.padding, layer.stride, layer.dilation, layer.groups)
    return Winograd(layer) if same == ((3,), (1,), (1,), (1,), 1) else by_onednn(layer)
