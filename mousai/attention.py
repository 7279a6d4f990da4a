"""Attention as in the authors' package: self-attention, and cross-attention to a text (Section 3.2)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.shapes import Activation, Embedding

Heads = Float[Tensor, "batch heads _ head_features"]
Mask = Bool[Tensor, "batch 1 1 tokens"]


class Attention(nn.Module):
    """x + attention(x, context): self-attention without context, cross-attention with a text as context.

    No positions, no biases, no feed-forward layer. Text positions whose vector is all zeros are padding and masked. The
    authors mask nothing, so `TextConfig.paper_exact` passes on the encoder's states of padding, which are not zero.
    `paper_exact` writes out the matrix of all pairs, as their code does; the result is the same.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_features: int,
        context_features: int | None = None,
        paper_exact: bool = False,
    ):
        super().__init__()
        inner = heads * head_features
        self.heads = heads
        self.is_cross = context_features is not None
        self.attend = attention_written_out if paper_exact else F.scaled_dot_product_attention
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(context_features or width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(context_features or width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Activation, context: Embedding | None = None) -> Activation:
        y = x.transpose(1, 2)  # [batch, length, width]
        k, v, mask = self.keys_values(y if context is None else context)
        out = self.attend(self.queries(y), k, v, mask)  # [batch, heads, length, head_features]
        y = y + self.to_out(out.transpose(1, 2).flatten(2))
        return y.transpose(1, 2)

    def queries(self, y: Float[Tensor, "batch length width"]) -> Heads:
        """The queries, one per time step and head."""
        return self.to_q(self.norm(y)).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, context: Float[Tensor, "batch _ _"]) -> tuple[Heads, Heads, Mask | None]:
        """Keys and values of the context, and the mask of its words; the mask is None in self-attention."""
        k, v = self.to_kv(self.norm_context(context)).chunk(2, dim=-1)  # each [batch, tokens, heads * head_features]
        k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (k, v))
        return k, v, word_mask(context) if self.is_cross else None


def word_mask(context: Embedding) -> Mask:
    """True at text positions that are words: those whose vector is not zero. Without any word, all are True."""
    words = context.any(dim=-1)
    return (words | ~words.any(dim=-1, keepdim=True))[:, None, None]


def attention_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for [batch, heads, length, d], with the matrix of all pairs in memory."""
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1) @ v
