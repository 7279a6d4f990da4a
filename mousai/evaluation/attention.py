"""The weights of every attention in one call of a trained U-Net, which the net itself never keeps."""

import torch
from torch import Tensor

from mousai.attention import Attention
from mousai.shapes import Activation, Embedding, Level, Signal
from mousai.unet import UNet


@torch.no_grad()
def attention_weights(unet: UNet, x: Signal, sigma: Level, embedding: Embedding | None = None) -> dict[str, Tensor]:
    """The name of each attention -> its weights [batch, heads, queries, keys], in the order of the call.

    Keys are time steps in self-attention, text tokens in cross-attention. Weights are >= 0 and sum to 1 over the keys.
    Memory grows with the square of the length, so this is for figures of a clip or two.
    """
    found: dict[str, Tensor] = {}
    attentions = {module: name for name, module in unet.named_modules() if isinstance(module, Attention)}

    def keep(module: Attention, inputs: tuple) -> None:
        found[attentions[module]] = weights(module, *inputs)

    hooks = [module.register_forward_pre_hook(keep) for module in attentions]
    try:
        unet(x, sigma, embedding=embedding)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def weights(attention: Attention, x: Activation, context: Embedding | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) of one attention, [batch, heads, queries, keys], from its inputs x and context."""
    y = x.transpose(1, 2)
    q = attention.queries(y)
    k, _, mask = attention.keys_values(y if context is None else context)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)


def depth_of(name: str) -> int:
    """How deep a part of the U-Net lies, from its name: "net.inner.inner.items_up.0.self_attention.0" is at depth 2."""
    return name.split(".").count("inner")
