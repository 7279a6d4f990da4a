"""An orthonormal transform with narrow bands at low frequencies, for melodies, and wide ones above, for drums (ours).

The paper diffuses the waveform itself. A small model predicts a variance for each number of this transform and draws
the rest at random, so the transform decides how much is left to chance. With bands of one fixed width (an
MDCT) either notes run into one another or drums smear. Here bands are 12 Hz wide below 750 Hz, 23 Hz up to 1,500 Hz,
47 Hz up to 3 kHz and 94 Hz in the whole range above; frames per second grow with the width. (The code calls each of
these four ranges an octave, though the last spans three.) The transform acts on mid and side.

It is built like the MDCT, but along frequency: a DCT-IV of the whole clip, cut into bands with tapered edges, then a
DCT-IV of each band (local cosine bases: Coifman and Meyer 1991; in frequency, Auscher, Weiss and Wickerhauser 1992).
White noise stays white, so the diffusion does not change.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.shapes import Wave

Bands = list[Float[Tensor, "batch _ _"]]  # per octave [batch, 2 x bands, frames]: the bands of mid, then of side


@dataclass(frozen=True)
class Octaves:
    """`plan`: (number of bands, width) of each octave from low to high, in units of the sample rate / (2 * `units`).

    At 48 kHz and 2,048 units a unit is 11.7 Hz. The widths of all bands sum to `units`; each octave begins at a
    multiple of its width.
    """

    plan: tuple[tuple[int, int], ...] = ((64, 1), (32, 2), (32, 4), (224, 8))
    units: int = 2048

    def analyse(self, x: Wave) -> Bands:
        """Waveform -> bands of its mid and side. Raises ValueError unless its length is a multiple of 2 * `units`."""
        edges = self.edges(x.shape[-1])
        spectrum = overlap_edges(dct4(mid_side(x)), edges, 1.0)
        octaves = []
        for start, bands, width in self.octaves(x.shape[-1]):
            part = spectrum[..., start : start + bands * width].unflatten(-1, (bands, width))
            octaves.append((dct4(part) * alternation(start // width, bands, width).to(x)).flatten(1, 2))
        return octaves

    def synthesise(self, octaves: Bands) -> Wave:
        """The inverse of `analyse`, which is its transpose."""
        length = sum(octave.shape[1] // 2 * octave.shape[2] for octave in octaves)
        parts = []
        for (start, bands, width), octave in zip(self.octaves(length), octaves, strict=True):
            bands_of_channels = octave.unflatten(1, (2, bands))
            parts.append(dct4(bands_of_channels * alternation(start // width, bands, width).to(octave)).flatten(-2))
        return mid_side(dct4(overlap_edges(torch.cat(parts, dim=-1), self.edges(length), -1.0)))

    def octaves(self, length: int) -> list[tuple[int, int, int]]:
        """(first coefficient, number of bands, coefficients per band) of each octave, for `length` samples."""
        if length % (2 * self.units):
            raise ValueError(f"length {length} is not a multiple of {2 * self.units}: pad the waveform first")
        start, found = 0, []
        for bands, width in self.plan:
            coefficients = width * length // self.units
            found.append((start, bands, coefficients))
            start += bands * coefficients
        return found

    def edges(self, length: int) -> tuple[int, ...]:
        """Where the bands begin and end, in coefficients of the whole clip's DCT-IV."""
        found = [0]
        for _, bands, width in self.octaves(length):
            start = found[-1]
            found.extend(start + width * (i + 1) for i in range(bands))
        return tuple(found)

    def frequencies(self, sample_rate: int = 48_000) -> list[Float[Tensor, " bands"]]:
        """The middle of each band in Hz, octave by octave."""
        unit = sample_rate / (2 * self.units)
        start, found = 0, []
        for bands, width in self.plan:
            found.append((start + width * (torch.arange(bands) + 0.5)) * unit)
            start += bands * width
        return found


def mid_side(x: Wave) -> Wave:
    """(left, right) -> (left + right, left - right) / sqrt(2), and back: its own inverse.

    Most music is nearly the same left and right, so the second channel is then quiet and nearly uncorrelated.
    """
    return torch.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], dim=1) / 2**0.5


def dct4(x: Tensor) -> Tensor:
    """Orthonormal DCT-IV over the last axis, its own inverse, by a complex FFT of half the length."""
    n = x.shape[-1]
    twiddle = dct4_twiddle(n, x.dtype).to(x.device)
    folded = torch.complex(x[..., 0::2], x[..., 1::2].flip(-1))
    y = torch.fft.fft(folded * twiddle) * twiddle
    return torch.stack([y.real, -y.imag.flip(-1)], dim=-1).flatten(-2) * (2 / n) ** 0.5


@lru_cache(64)
def dct4_twiddle(n: int, dtype: torch.dtype) -> Tensor:
    """exp(-i pi (k + 1/8) / n) for k below n / 2."""
    angle = -pi * (torch.arange(n // 2, dtype=torch.float64) + 1 / 8) / n
    twiddle = torch.polar(torch.ones_like(angle), angle)
    return twiddle.to(torch.complex128 if dtype == torch.float64 else torch.complex64)


def alternation(first: int, bands: int, width: int) -> Float[Tensor, "bands width"]:
    """Signs, +1 or -1. A delay by one frame flips the sign of every second band; these signs undo that.

    Without them a convolution over frames would have to learn each band's pattern twice.
    """
    odd = (torch.arange(first, first + bands)[:, None] * torch.arange(width)) % 2
    return 1.0 - 2.0 * odd


def overlap_edges(spectrum: Tensor, edges: tuple[int, ...], sign: float) -> Tensor:
    """Rotate pairs of coefficients around each edge, so that neighbouring bands overlap; `sign` -1 undoes it."""
    keep, mix, partner = edge_rotations(edges)
    return keep.to(spectrum) * spectrum + sign * mix.to(spectrum) * spectrum[..., partner.to(spectrum.device)]


@lru_cache(16)
def edge_rotations(edges: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """(cosine, sine, index of the partner) of each coefficient's rotation; far from an edge it is the identity."""
    keep = torch.ones(edges[-1], dtype=torch.float64)
    mix = torch.zeros(edges[-1], dtype=torch.float64)
    partner = torch.arange(edges[-1])
    for (left, edge), (_, right) in pairwise(pairwise(edges)):
        half = min(edge - left, right - edge) // 2
        position = (torch.arange(2 * half, dtype=torch.float64) + 0.5) / (2 * half)
        taper = torch.sin(pi / 2 * torch.sin(pi / 2 * position) ** 2)  # taper^2 + its mirror's^2 = 1
        above = torch.arange(edge, edge + half)
        below = torch.arange(edge - 1, edge - half - 1, -1)
        keep[above] = keep[below] = taper[half:]
        mix[above] = taper[:half].flip(0)
        mix[below] = -taper[:half].flip(0)
        partner[above] = below
        partner[below] = above
    return keep, mix, partner
