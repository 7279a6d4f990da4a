"""The magnitude head: a small network that predicts magnitudes from z, before any diffusion (ours)."""

from collections.abc import Sequence
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.shapes import Activation, Latent, Magnitude
from mousai.small.octaves import Bands
from mousai.unet import Resnet

Hidden = Float[Tensor, "batch hidden latent_time"]  # z and the output of the head's convolutions, concatenated


class StepsToFrames(nn.Module):
    """One linear layer from latent steps [batch, inside, steps] to [batch, numbers, steps * rate].

    `rate`: frames per latent step, a whole number or 1 over a whole number.
    """

    def __init__(self, inside: int, numbers: int, rate: Fraction):
        super().__init__()
        self.numbers = numbers
        steps, frames = rate.denominator, rate.numerator
        if steps == 1:
            self.conv = nn.Conv1d(inside, numbers * frames, 1)
        else:
            self.conv = nn.Conv1d(inside, numbers, 2 * steps, stride=steps, padding=steps // 2)

    def forward(self, h: Float[Tensor, "batch inside steps"]) -> Activation:
        return frames_in_time(self.conv(h), self.numbers)


def frames_in_time(x: Float[Tensor, "batch _ steps"], numbers: int) -> Activation:
    """[batch, numbers x frames, steps] -> [batch, numbers, steps x frames], channels-last in memory."""
    return x.unflatten(1, (numbers, -1)).permute(0, 3, 2, 1).flatten(1, 2).mT


class MagnitudeHead(nn.Module):
    """z -> the log standard deviation of each band, and the log magnitude m_w.

    A few convolutions over latent steps, then one linear layer for each output. `width`: channels of the convolutions.
    `octaves`: (bands, frames per latent step) of each. `magnitude`, `frames`: channels of m_w, its frames per latent
    step.
    """

    def __init__(
        self, latent_channels: int, width: int, octaves: Sequence[tuple[int, Fraction]], magnitude: int, frames: int
    ):
        super().__init__()
        inside = latent_channels + width
        self.trunk = nn.Sequential(
            nn.Conv1d(latent_channels, width, 3, padding=1), Resnet(width, width // 16), Resnet(width, width // 16)
        )
        self.to_log_g = nn.ModuleList(StepsToFrames(inside, 2 * bands, rate) for bands, rate in octaves)
        self.to_magnitude = StepsToFrames(inside, magnitude, Fraction(frames))

    def hidden(self, z: Latent) -> Hidden:
        """z and the output of the convolutions: the input of the linear layers."""
        return torch.cat([z, self.trunk(z).to(z)], dim=1)

    def log_g(self, h: Hidden) -> Bands:
        """log g of each band, octave by octave: the log of its standard deviation."""
        return [layer(h).to(h) for layer in self.to_log_g]

    def magnitude(self, h: Hidden) -> Magnitude:
        """m_w as `encoder.log_magnitude` scales it, for the latent steps in `h`."""
        return self.to_magnitude(h).to(h)
