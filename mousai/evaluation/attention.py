"""Where a trained U-Net looks: the weights of every attention in one call, which the net itself never writes out."""

import torch
from torch import Tensor

from mousai.attention import Attention, attention_written_out
from mousai.shapes import Embedding, Level, Signal
from mousai.unet import UNet


@torch.no_grad()
def attention_weights(unet: UNet, x: Signal, sigma: Level, embedding: Embedding | None = None) -> dict[str, Tensor]:
    """The name of each attention -> its weights [batch, heads, asking, asked], in the order of the call; what is asked
    is a moment in self-attention, a token in cross-attention. They are >= 0 and sum to 1 over it.

    Memory grows with the square of the length: for pictures of a clip or two.
    """
    found: dict[str, Tensor] = {}
    attentions = {name: module for name, module in unet.named_modules() if isinstance(module, Attention)}
    before = {name: module.attend for name, module in attentions.items()}

    def watched(name: str):
        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
            found[name] = attention_written_out(q, k, torch.eye(k.shape[-2], dtype=k.dtype, device=k.device), mask)
            return found[name] @ v

        return attend

    try:
        for name, module in attentions.items():
            module.attend = watched(name)
        unet(x, sigma, embedding=embedding)
    finally:
        for name, module in attentions.items():
            module.attend = before[name]
    return found


def depth_of(name: str) -> int:
    """How deep a part of the U-Net lies, from its name: "net.inner.inner.items_up.0.self_attention.0" is at depth 2."""
    return name.split(".").count("inner")
