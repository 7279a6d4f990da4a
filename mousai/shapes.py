"""Named tensor shapes, so that a signature says what goes in and what comes out; which lengths fit the U-Net.

The tests turn them into checks (jaxtyping's import hook with beartype, in `tests/conftest.py`); at run time they cost
nothing. `2` is stereo, `magnitude` is 2 channels x 512 bins = 1024, `tokens` is 64 (Appendix, text encoder).
"""

from math import prod

from jaxtyping import Float
from torch import Tensor

Wave = Float[Tensor, "batch 2 time"]  # waveform w, nominally in [-1, 1]
Part = Float[Tensor, "batch 2 _"]  # of a wave; one after another they differ in length
Magnitude = Float[Tensor, "batch magnitude frames"]  # m_w >= 0, channel-major: left bins, then right bins
Latent = Float[Tensor, "batch latent_channels latent_time"]  # z in [-1, 1]
Level = Float[Tensor, " batch"]  # noise level sigma in [0, 1]
Embedding = Float[Tensor, "batch tokens embedding_features"]  # text, one vector a token
Signal = Float[Tensor, "batch channels length"]  # whatever is diffused: w in stage 1, z in stage 2
Activation = Float[Tensor, "batch width length"]  # what goes from layer to layer inside a net


def to_stride(length: int, stride: int, paper_exact: bool = False) -> int:
    """The next multiple of the stride. With `paper_exact` any other length is refused: it fails in their code.

    Raises ValueError that names length and stride.
    """
    if paper_exact and length % stride:
        raise ValueError(f"length {length} does not divide by the stride {stride}: pad it first")
    return -(-length // stride) * stride


def check_latent(steps: int, length: int, factors: tuple[int, ...]) -> None:
    """Raises ValueError unless the latent is as long as the signal is at the inject depth."""
    if steps * prod(factors) != length:
        raise ValueError(f"latent has {steps} steps where the U-Net has {length // prod(factors)}: lengths must match")
