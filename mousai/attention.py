"""Attention as the authors' package has it: of a signal to itself, or to a text."""

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.shapes import Activation, Embedding

# what each cross-attention keeps of one text over all steps: keys, values, which positions are words
Heard = dict[nn.Module, tuple[Tensor, Tensor, Tensor | None]]
FEW_PAIRS = 2**18  # of 512 moments with one another: half a megabyte a head


class Attention(nn.Module):
    """y + attention(y, context): self-attention without context, cross-attention with text as context.

    No positions, no biases, no feed-forward. Text positions whose vector is all zeros are padding and not heard; the
    authors hear padding, so their encoder's states of it are passed on (`TextConfig.paper_exact`).
    `attention` writes out no large matrix of all pairs; `paper_exact` does, with the same result.
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
        self.heads, inner, context = heads, heads * head_features, context_features or width
        self.hears_text = context_features is not None
        self.attend = attention_written_out if paper_exact else attention
        self.norm, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(context)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(context, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Activation, context: Embedding | Heard | None = None) -> Activation:
        y = x.transpose(1, 2).contiguous()  # once; else both norms and the sum copy it
        k, v, mask = context[self] if isinstance(context, dict) else self.listen(y if context is None else context)
        q = self.to_q(self.norm(y)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out = self.attend(q, k, v, mask).transpose(1, 2).flatten(2)
        return (y + self.to_out(out)).transpose(1, 2)

    def listen(self, context: Embedding) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values [batch, heads, length, features]; of a text also which positions are words."""
        both = self.to_kv(self.norm_context(context)).unflatten(-1, (2, self.heads, -1))
        k, v = both.permute(2, 0, 3, 1, 4)
        return k, v, words(context) if self.hears_text else None


def words(context: Embedding) -> Bool[Tensor, "batch 1 1 tokens"]:
    """Which text positions are words: those whose vector is not zero; all of them where there is no word."""
    said = context.any(dim=-1)
    return (said | ~said.any(dim=-1, keepdim=True))[:, None, None]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for [batch, heads, length, d], as torch has it, which never writes out all pairs.

    Where nothing is to be learnt, on a CPU, its bfloat16 has half the speed of two products: there few are written out.
    """
    on_cpu = q.device.type == "cpu" and q.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    few = on_cpu and q.shape[-2] * k.shape[-2] <= FEW_PAIRS
    return (attention_written_out if few else F.scaled_dot_product_attention)(q, k, v, mask)


def attention_written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The same with memory for length x length numbers a head."""
    scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-2, -1)
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1) @ v
