"""Generation that begins from a sound: variation, continuation, inpainting (ours).

Both stages work by replacement (RePaint, Lugmayr et al. 2022): at every step what is known is put back with the noise
of that step. In stage 2 the known latents, so that the new ones follow from them; in stage 1 the known waveform
itself, so that the new one takes up its phases. At the end the known sound is put back to the bit, and a short
cross-fade inside of it leads to the new. Regions are whole latent steps, because of a step that is known by half the
new half would not fit the old.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mousai.dmae import DMAE
from mousai.inference.audio import SAMPLE_RATE, Stereo, as_stereo
from mousai.inference.long import emphasised
from mousai.inference.windows import Replacement
from mousai.shapes import Latent, Part, Wave

STEP = 1024  # samples, a latent step
EDGE = 2400  # samples, 50 ms: how much of the known sound may change before a region, and after it
FADE = EDGE - STEP  # what is left for a cross-fade where a region is widened to whole steps
BLOCK = 2**18  # samples handed on at once
Span = tuple[int, int]
Decode = Callable[..., Iterator[Part]]  # (z, length, replacement) -> w


@dataclass(frozen=True)
class InitAudio:
    """A sound [2, time] that generation begins from, and the regions in it, in samples, that are generated anew.

    The last region may reach beyond the end of the sound. `noise_level`: the regions begin from what is there, noised
    to this level: 0 is its reconstruction, 1 keeps nothing of it.
    Raises ValueError where regions are not in order, or so near that no sound is left between two cross-fades.
    """

    audio: Stereo
    regions: tuple[Span, ...]
    noise_level: float = 1.0

    def __post_init__(self):
        edges = [edge for region in self.regions for edge in region]
        there = self.audio.shape[-1]
        if not edges or edges[0] < 0 or any(start >= end for start, end in self.regions) or edges[-2] > there:
            raise ValueError(f"regions {self.regions} are not within {there} samples: say where each begins and ends")
        for end, start in zip(edges[1:-1:2], edges[2::2], strict=True):
            if start - end < 2 * FADE:
                raise ValueError(
                    f"regions follow at samples {end} and {start}: make them one, or leave {2 * FADE} between"
                )
        if not 0 <= self.noise_level <= 1:
            raise ValueError(f"noise level is {self.noise_level}: choose 0, as it was, to 1, all new")
        if self.noise_level < 1 and self.samples > there:
            raise ValueError(
                f"noise level is {self.noise_level}: beyond the end there is nothing to begin from, leave it 1"
            )

    @property
    def samples(self) -> int:
        """Length of the result."""
        return max(self.audio.shape[-1], self.regions[-1][1])

    @property
    def known(self) -> list[Span]:
        """The spans between the regions, which are kept."""
        edges = [0, *(edge for region in self.regions for edge in region), self.samples]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def latent_replacement(self, x_0: Latent, stride: int) -> Replacement:
        """For stage 2: `x_0` [1, 32, steps] is the sound's latent as it is diffused, `stride` samples a step.

        A latent step is known where all of it lies in what is known.
        """
        ends = [-(-b // stride) if b == self.samples else b // stride for _, b in self.known]
        spans = [(-(-a // stride), end) for (a, _), end in zip(self.known, ends, strict=True)]
        return Replacement(lambda a, b: x_0[..., a:b], spans, self.noise_level)

    def render(self, dmae: DMAE, z: Latent, decode: Decode) -> Iterator[Part]:
        """Parts of w [n, 2, samples] for z [n, 32, steps], from left to right, in memory for a few windows."""
        at = 0
        for region in self.regions:
            start, end = self.with_fades(region)
            yield from self.original(at, start, z)
            yield from self.render_region(region, dmae, z, decode)
            at = end
        yield from self.original(at, self.audio.shape[-1], z)

    def with_fades(self, region: Span) -> Span:
        """The region with its cross-fades, which lie in the known sound; none at the beginning or end of the sound."""
        start, end = region
        return max(0, start - FADE), max(end, min(end + FADE, self.audio.shape[-1]))

    def original(self, a: int, b: int, z: Latent) -> Iterator[Part]:
        """Samples [a, b) of the sound for each of z, silence beyond its end."""
        for start in range(a, b, BLOCK):
            end = min(b, start + BLOCK)
            part = self.audio[None, :, start:end]
            yield F.pad(part, (0, end - start - part.shape[-1])).to(z).expand(len(z), -1, -1)

    def render_region(self, region: Span, dmae: DMAE, z: Latent, decode: Decode) -> Iterator[Part]:
        """The new sound with its cross-fades, decoded with half a training crop of known sound on either side."""
        start, end = self.with_fades(region)
        stride = dmae.config.latent_stride
        context = dmae.config.crop // 2
        first = max(0, (start - context) // stride)
        last = min(z.shape[-1], -(-(end + context) // stride))
        at = first * stride
        length = min(last * stride, self.samples) - at
        for part in decode(z[..., first:last], length=length, replacement=self.wave_replacement(dmae, at, z)):
            a, b = max(at, start), min(at + part.shape[-1], end)
            if a < b:
                old = torch.cat([*self.original(a, b, z)], dim=-1)
                yield torch.lerp(old, part[..., a - at : b - at], self.new_share(region, a, b).to(z))
            at += part.shape[-1]

    def wave_replacement(self, dmae: DMAE, begin: int, z: Latent) -> Replacement | None:
        """For stage 1, counted from sample `begin` on; None where nothing is known."""
        if not self.known:
            return None
        spans = [(a - begin, b - begin) for a, b in self.known]
        return Replacement(lambda a, b: self.diffused(dmae, begin + a, begin + b).to(z), spans)

    def new_share(self, region: Span, a: int, b: int) -> Tensor:
        """The new sound's share, 0 to 1, of each sample in [a, b): a straight line within the cross-fades."""
        at = torch.arange(a, b) + 0.5
        start, end = self.with_fades(region)
        rise = (at - start) / (region[0] - start) if start < region[0] else torch.ones(b - a)
        fall = (end - at) / (end - region[1]) if region[1] < end else torch.ones(b - a)
        return torch.minimum(rise, fall).clamp(0, 1)

    def diffused(self, dmae: DMAE, a: int, b: int) -> Wave:
        """[a, b) of the waveform as stage 1 begins with it, [1, 2, b - a]; before and after the sound is silence."""
        part = self.audio[None, :, max(0, a - 1) : b]  # pre-emphasis depends on the sample before
        lead = int(a == 0)
        return emphasised(dmae, F.pad(part, (lead, b - a + 1 - lead - part.shape[-1])))[..., 1:]


def variation(w: Tensor | np.ndarray, noise_level: float) -> InitAudio:
    """All of w, [2, time] or mono, begun from itself at that noise level."""
    w = as_stereo(w)
    return InitAudio(w, ((0, w.shape[-1]),), noise_level)


def continuation(w: Tensor | np.ndarray, samples: int) -> InitAudio:
    """w, [2, time] or mono, and what follows, `samples` in all. Raises ValueError where that adds none."""
    w = as_stereo(w)
    there = w.shape[-1]
    if samples <= there:
        raise ValueError(
            f"{samples / SAMPLE_RATE:g} s in all, but the sound has {there / SAMPLE_RATE:g} s already: "
            "ask for more seconds"
        )
    return InitAudio(w, ((there // STEP * STEP, samples),))


def inpainting(
    w: Tensor | np.ndarray,
    regions: Sequence[tuple[float, float]],
    noise_level: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
) -> InitAudio:
    """w, [2, time] or mono, with these regions, from and to seconds in any order, generated anew.

    Regions that overlap, or between which no sound is left but two cross-fades, become one.
    Raises ValueError for a region outside of the sound.
    """
    w = as_stereo(w)
    there = w.shape[-1]
    merged: list[Span] = []
    for start, end in sorted(regions):
        if not 0 <= start < end <= there / sample_rate:
            raise ValueError(
                f"from {start:g} to {end:g} s is no region of {there / sample_rate:g} s of sound: choose times in it"
            )
        first = round(start * sample_rate) // STEP * STEP
        last = min(there, -(-round(end * sample_rate) // STEP) * STEP)
        if merged and first - merged[-1][1] < 2 * FADE:
            before = merged.pop()
            merged.append((before[0], max(before[1], last)))
        else:
            merged.append((first, last))
    return InitAudio(w, tuple(merged), noise_level)
