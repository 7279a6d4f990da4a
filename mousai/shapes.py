"""Named tensor shapes, so that a signature says what goes in and what comes out; and which lengths fit the U-Net.

In the tests these annotations are checked (jaxtyping's import hook with beartype, in `tests/conftest.py`); otherwise
they do nothing. `2` is stereo, `magnitude` is 2 channels x 512 bins = 1024, `tokens` is 64 (Appendix, text encoder).
"""

from math import prod

from jaxtyping import Float
from torch import Tensor

Wave = Float[Tensor, "batch 2 time"]  # waveform w, nominally in [-1, 1]
Part = Float[Tensor, "batch 2 _"]  # a part of a waveform; parts of one waveform may differ in length
Magnitude = Float[Tensor, "batch magnitude frames"]  # m_w >= 0, channel-major: left bins, then right bins
Latent = Float[Tensor, "batch latent_channels latent_time"]  # z in [-1, 1]
Level = Float[Tensor, " batch"]  # noise level sigma in [0, 1]
Embedding = Float[Tensor, "batch tokens embedding_features"]  # of a text, one vector per token
Signal = Float[Tensor, "batch channels length"]  # whatever is diffused: w in stage 1, z in stage 2
Activation = Float[Tensor, "batch width length"]  # between layers of a network


def to_stride(length: int, stride: int, paper_exact: bool = False) -> int:
    """`length` rounded up to a multiple of the stride.

    With `paper_exact` raises ValueError where it is not one already, because the authors' code fails there.
    """
    if paper_exact and length % stride:
        raise ValueError(f"length {length} is not a multiple of the stride {stride}: pad it first")
    return -(-length // stride) * stride


def check_latent(steps: int, length: int, factors: tuple[int, ...]) -> None:
    """Raise ValueError unless the latent is as long as the signal is at the inject depth, `length` over `factors`."""
    if steps * prod(factors) != length:
        raise ValueError(f"latent has {steps} steps where the U-Net has {length // prod(factors)}: lengths must match")
