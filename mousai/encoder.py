"""Stage 1's encoder: m_w -> z, 1024 magnitudes a frame to 32 numbers every four frames (Section 3.1)."""

from math import prod

import torch
from torch import nn
from torch.nn import functional as F

from mousai.config import EncoderConfig
from mousai.shapes import Activation, Latent, Magnitude
from mousai.training.activation_checkpointing import Recomputed
from mousai.unet import Resnet


class ResnetIn(Recomputed):
    """The encoder's first block, 1024 -> channels: like `Resnet` with one group and a 1x1 shortcut."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(1, inside), nn.Conv1d(inside, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(1, width), nn.Conv1d(width, width, 3, padding=1)
        self.shortcut = nn.Conv1d(inside, width, 1)

    def forward(self, x: Magnitude) -> Activation:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class MagnitudeEncoder(nn.Module):
    """m_w [batch, 1024, frames] -> z [batch, 32, frames / 4], squeezed into [-1, 1] by tanh; no KL term."""

    def __init__(self, config: EncoderConfig, groups: int = 8):
        super().__init__()
        width = config.channels
        self.log_floor = config.log_floor
        self.to_in = ResnetIn(config.in_channels, width)
        self.downs = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 2 * factor + 1, stride=factor, padding=factor),
                *(Resnet(width, groups) for _ in range(blocks)),
            )
            for factor, blocks in zip(config.factors, config.blocks, strict=True)
        )
        self.norm_before_tanh, frames = config.norm_before_tanh, prod(config.factors)
        self.to_out = nn.Conv1d(width, config.latent_channels, 1)
        numbers = (config.in_channels, config.latent_channels)
        self.straight = nn.Conv1d(*numbers, frames, stride=frames) if config.pca_start else None

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
    """log(m_w + floor), brought to about zero mean and unit size. Silence stays finite (ours)."""
    return (torch.log(m_w + floor) + 4) / 2


def linear_magnitude(log_m: Magnitude, floor: float) -> Magnitude:
    """`log_magnitude` undone; never negative."""
    return (torch.exp(2 * log_m - 4) - floor).clamp_min(0)
