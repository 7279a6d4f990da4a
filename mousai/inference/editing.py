"""Generation that begins from a sound: variation, continuation, inpainting (ours).

Both stages work by replacement (RePaint, Lugmayr et al. 2022): at every step the known part is put back with that
step's noise. Stage 2 puts back the known latents, so that the new ones fit them; stage 1 puts back the known waveform,
so that the new one continues its phases. At the end the known samples are put back exactly, and short cross-fades lead
from them to the new sound. Regions are whole latent steps, because one latent step cannot be half known.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mousai.dmae import DMAE
from mousai.inference.audio import MAX_SECONDS, SAMPLE_RATE, Stereo, as_stereo
from mousai.inference.checks import number, shown, whole
from mousai.inference.long import emphasised
from mousai.inference.windows import Replacement
from mousai.shapes import Latent, Part, Wave

STEP = 1024  # samples, a latent step
EDGE = 2400  # samples, 50 ms: how much known sound may change before and after what the user names
FADE = EDGE - STEP  # samples of a cross-fade: the rest of EDGE once a region is widened to whole steps
BLOCK = 2**18  # samples in a part
Span = tuple[int, int]
Decode = Callable[..., Iterator[Part]]  # (z, length, replacement) -> w


@dataclass(frozen=True)
class InitAudio:
    """A sound [2, time] that generation begins from, and its regions, in samples, that are generated anew.

    The last region may reach beyond the end of the sound. Sampling in a region begins from the sound there, noised to
    `noise_level`: 0 gives its reconstruction, 1 keeps nothing of it. Raises ValueError where regions are not in order
    or leave no room for two cross-fades between them, where the noise level is outside [0, 1], or below 1 while a
    region passes the end, or where a sample is not finite.
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
        number("noise level", self.noise_level, 0, 1, "choose 0, as it was, to 1, all new")
        if self.noise_level < 1 and self.samples > there:
            raise ValueError(
                f"noise level is {self.noise_level}: a continuation has no sound to start from, so it must stay 1"
            )
        if not all(part.isfinite().all() for part in self.audio.split(BLOCK, dim=-1)):
            raise ValueError("audio holds samples that are not finite (NaN): set them to 0, or cut them out")

    @property
    def samples(self) -> int:
        """Length of the result in samples."""
        return max(self.audio.shape[-1], self.regions[-1][1])

    @property
    def known(self) -> list[Span]:
        """The spans between the regions, which are kept."""
        edges = [0, *(edge for region in self.regions for edge in region), self.samples]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def latent_replacement(self, x_0: Latent, stride: int) -> Replacement:
        """The replacement for stage 2. `x_0` [1, 32, steps] is the sound's z / latent_std, `stride` samples per step.

        A latent step is known where all its samples are.
        """
        ends = [-(-b // stride) if b == self.samples else b // stride for _, b in self.known]
        spans = [(-(-a // stride), end) for (a, _), end in zip(self.known, ends, strict=True)]
        return Replacement(lambda a, b: x_0[..., a:b], spans, self.noise_level)

    def render(self, dmae: DMAE, z: Latent, decode: Decode) -> Iterator[Part]:
        """z [n, 32, steps] -> parts of w [n, 2, samples] from left to right, with few windows in memory at once."""
        at = 0
        for region in self.regions:
            start, end = self.with_fades(region)
            yield from self.original(at, start, z)
            yield from self.render_region(region, dmae, z, decode)
            at = end
        yield from self.original(at, self.audio.shape[-1], z)

    def with_fades(self, region: Span) -> Span:
        """The region with its cross-fades in the known sound on both sides; there is none at an end of the sound."""
        start, end = region
        return max(0, start - FADE), max(end, min(end + FADE, self.audio.shape[-1]))

    def original(self, a: int, b: int, z: Latent) -> Iterator[Part]:
        """Parts of samples [a, b) of the sound, repeated for each item of z; silence beyond its end."""
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
        """The replacement for stage 1, whose sample 0 is sample `begin` of the sound; None where nothing is known."""
        if not self.known:
            return None
        spans = [(a - begin, b - begin) for a, b in self.known]
        return Replacement(lambda a, b: self.diffused(dmae, begin + a, begin + b).to(z), spans)

    def new_share(self, region: Span, a: int, b: int) -> Tensor:
        """The new sound's share, 0 to 1, of each sample in [a, b); it is linear within the cross-fades."""
        at = torch.arange(a, b) + 0.5
        start, end = self.with_fades(region)
        rise = (at - start) / (region[0] - start) if start < region[0] else torch.ones(b - a)
        fall = (end - at) / (end - region[1]) if region[1] < end else torch.ones(b - a)
        return torch.minimum(rise, fall).clamp(0, 1)

    def diffused(self, dmae: DMAE, a: int, b: int) -> Wave:
        """Samples [a, b) as `long.emphasised` makes them, [1, 2, b - a]; silence before and after the sound."""
        part = self.audio[None, :, max(0, a - 1) : b]  # pre-emphasis depends on the sample before
        lead = int(a == 0)
        return emphasised(dmae, F.pad(part, (lead, b - a + 1 - lead - part.shape[-1])))[..., 1:]


def variation(w: Tensor | np.ndarray, noise_level: float) -> InitAudio:
    """A variation of all of w, [2, time] or mono, from `noise_level`: 0 is its reconstruction, 1 all new."""
    w = as_stereo(w)
    return InitAudio(w, ((0, w.shape[-1]),), noise_level)


def continuation(w: Tensor | np.ndarray, samples: int) -> InitAudio:
    """w, [2, time] or mono, and its continuation, `samples` in all. Raises ValueError where that is not more than w."""
    w = as_stereo(w)
    there = w.shape[-1]
    samples = whole("samples", samples, 1, MAX_SECONDS * SAMPLE_RATE)
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
    """w, [2, time] or mono, with `regions`, (from, to) in seconds and in any order, generated anew.

    Regions that overlap, or that leave no room for two cross-fades between them, become one.
    Raises ValueError for a region outside of the sound.
    """
    w = as_stereo(w)
    there = w.shape[-1]
    merged: list[Span] = []
    try:
        pairs = sorted((number("from", start), number("to", end)) for start, end in regions)
    except (TypeError, ValueError):
        raise ValueError(f"regions is {shown(regions)}: give pairs (from, to) in seconds, such as [(2, 4)]") from None
    for start, end in pairs:
        if not 0 <= start < end <= there / sample_rate:
            raise ValueError(
                f"from {start:g} to {end:g} s is not within the {there / sample_rate:g} s of sound: choose times in it"
            )
        first = round(start * sample_rate) // STEP * STEP
        last = min(there, -(-round(end * sample_rate) // STEP) * STEP)
        if merged and first - merged[-1][1] < 2 * FADE:
            before = merged.pop()
            merged.append((before[0], max(before[1], last)))
        else:
            merged.append((first, last))
    return InitAudio(w, tuple(merged), noise_level)
