"""Named tensor shapes, so that a signature says what goes in and what comes out.

The tests turn them into checks (jaxtyping's import hook with beartype, in `tests/conftest.py`); at run time they cost
nothing. `2` is stereo, `magnitude` is 2 channels x 512 bins = 1024, `tokens` is 64 (Appendix, text encoder).
"""

from jaxtyping import Float
from torch import Tensor

Wave = Float[Tensor, "batch 2 time"]  # waveform w, nominally in [-1, 1]
Part = Float[Tensor, "batch 2 _"]  # of a wave; one after another they differ in length
Magnitude = Float[Tensor, "batch magnitude frames"]  # m_w >= 0, channel-major: left bins, then right bins
Latent = Float[Tensor, "batch latent_channels latent_time"]  # z in [-1, 1]
Level = Float[Tensor, " batch"]  # noise level sigma in [0, 1]
Embedding = Float[Tensor, "batch tokens embedding_features"]  # text, one vector a token
Signal = Float[Tensor, "batch channels length"]  # whatever is diffused: w in stage 1, z in stage 2
