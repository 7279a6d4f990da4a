"""The encoder of the small stage 1: of log magnitudes, with a linear path that starts as their PCA (ours)."""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.config import DMAEConfig, EncoderConfig
from mousai.dmae import MagnitudeEncoder
from mousai.shapes import Latent, Magnitude
from mousai.small.config import SmallEncoderConfig


class SmallEncoder(MagnitudeEncoder):
    """`MagnitudeEncoder` with the departures of `SmallEncoderConfig`."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        small = config if isinstance(config, SmallEncoderConfig) else SmallEncoderConfig()
        frames = prod(config.factors)
        self.log_floor = small.log_floor
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
        return torch.tanh(x)


def log_magnitude(m_w: Magnitude, floor: float) -> Magnitude:
    """log(m_w + floor), shifted and scaled to about zero mean and unit variance. Silence stays finite."""
    return (torch.log(m_w + floor) + 4) / 2


def linear_magnitude(log_m: Magnitude, floor: float) -> Magnitude:
    """The inverse of `log_magnitude`; never negative."""
    return (torch.exp(2 * log_m - 4) - floor).clamp_min(0)


def bin_frequencies(config: DMAEConfig, sample_rate: int = 48_000) -> Float[Tensor, " bins"]:
    """The frequency in Hz of each bin of one channel of m_w."""
    return torch.arange(config.n_fft // 2 + 1) * sample_rate / config.n_fft


def mel_density(frequencies: Float[Tensor, " bands"]) -> Float[Tensor, " bands"]:
    """d mel / d f of the HTK scale, mel = 2595 log10(1 + f / 700), divided by its value at 0 Hz."""
    return 1 / (1 + frequencies / 700)
