"""The small stage 1's encoder: log magnitudes, and a linear path that starts as their PCA (ours)."""

from math import prod

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.config import EncoderConfig
from mousai.dmae import MagnitudeEncoder, PatchFrontEnd
from mousai.shapes import Latent, Magnitude
from mousai.small.config import SmallEncoderConfig


class SmallEncoder(MagnitudeEncoder):
    """`MagnitudeEncoder` with the departures of `SmallEncoderConfig`."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        small = config if isinstance(config, SmallEncoderConfig) else SmallEncoderConfig()
        frames = prod(config.factors)
        self.log_floor = small.log_floor
        self.norm_before_tanh = small.norm_before_tanh
        self.straight = None
        if small.pca_start:
            self.straight = nn.Conv1d(config.in_channels, config.latent_channels, frames, stride=frames)

    def forward(self, m_w: Magnitude) -> Latent:
        m_w = m_w if self.log_floor is None else log_magnitude(m_w, self.log_floor)
        x = self.to_in(m_w)
        for down in self.downs:
            x = down(x)
        x = self.to_out(x)
        if self.straight is not None:
            x = x + self.straight(m_w)
        if self.norm_before_tanh:  # over channels, at each step by itself: z's spread is the same for crop and chunk
            x = F.layer_norm(x.transpose(1, 2), x.shape[1:2]).transpose(1, 2)
        return torch.tanh(x)


def log_magnitude(m_w: Magnitude, floor: float) -> Magnitude:
    """log(m_w + floor), brought to about zero mean and unit size. Silence stays finite."""
    return (torch.log(m_w + floor) + 4) / 2


def linear_magnitude(log_m: Magnitude, floor: float) -> Magnitude:
    """`log_magnitude` undone; never negative."""
    return (torch.exp(2 * log_m - 4) - floor).clamp_min(0)


@torch.no_grad()
def start_from_dct(front: PatchFrontEnd) -> None:
    """Let the front end begin as a DCT and its inverse."""
    channels, _, patch = front.analysis.weight.shape
    front.analysis.weight.copy_(dct_basis(patch, channels))
    front.synthesis.weight.copy_(dct_basis(patch, channels))


def dct_basis(patch: int, channels: int) -> Float[Tensor, "channels 2 patch"]:
    """Orthonormal DCT of mid and side, low bands first: its transpose undoes it exactly.

    Raises ValueError unless there are as many channels as stereo samples in a patch.
    """
    if channels != 2 * patch:
        raise ValueError(f"{channels} patch channels: an exact inverse pair needs 2 x {patch}")
    bands = torch.from_numpy(dct(np.eye(patch), norm="ortho", axis=0)).float()  # [band, sample]
    mid_side = torch.stack([torch.stack([bands, bands], 1), torch.stack([bands, -bands], 1)], 1) / 2**0.5
    return mid_side.reshape(channels, 2, patch)
