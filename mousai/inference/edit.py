"""Sound that begins from sound: varied, continued, or with gaps made anew (ours).

Both stages go the same way. What is kept is held at every step (`windows.Given`): in stage 2 the latents of the kept
sound, so that the new ones follow from them; in stage 1 the kept waveform itself, so that the new one takes up its
phases. Then the sound as it was is put back, to the bit, and a short cross-fade inside of it leads to the new. Gaps
are whole latent steps: of a step that is half kept the new half would not fit the old.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mousai.dmae import DMAE
from mousai.inference.codec import Stereo
from mousai.inference.windows import Given
from mousai.shapes import Latent, Part, Wave

STEP = 1024  # samples, a latent step
EDGE = 2400  # samples, 50 ms: how much of what is kept may change before a gap, and after it
FADE = EDGE - STEP  # what is left for a cross-fade where a gap is widened to whole steps
BLOCK = 2**18  # samples handed on at once
Span = tuple[int, int]
Decode = Callable[..., Iterator[Part]]  # (z, length, given) -> w


@dataclass(frozen=True)
class Edit:
    """A sound w [2, time] and the `gaps` in it, in samples, that are made anew; the last may reach beyond its end.

    `noise_level`: gaps begin from what is there, noised so far: 0 is its reconstruction, 1 forgets it.
    Raises ValueError where gaps are not in order, or so near that no sound is left between two cross-fades.
    """

    w: Stereo
    gaps: tuple[Span, ...]
    noise_level: float = 1.0

    def __post_init__(self):
        edges = [edge for gap in self.gaps for edge in gap]
        if not edges or edges[0] < 0 or any(start >= end for start, end in self.gaps) or edges[-2] > self.w.shape[-1]:
            raise ValueError(
                f"gaps {self.gaps} are not within {self.w.shape[-1]} samples: say where each begins and ends"
            )
        for (_, end), (start, _) in zip(self.gaps, self.gaps[1:], strict=False):
            if start - end < 2 * FADE:
                raise ValueError(
                    f"gaps follow at samples {end} and {start}: make them one, or leave {2 * FADE} between"
                )
        if not 0 <= self.noise_level <= 1:
            raise ValueError(f"noise level is {self.noise_level}: choose 0, as it was, to 1, all new")
        if self.noise_level < 1 and self.samples > self.w.shape[-1]:
            raise ValueError(
                f"noise level is {self.noise_level}: beyond the end there is nothing to begin from, leave it 1"
            )

    @property
    def samples(self) -> int:
        """Of the result."""
        return max(self.w.shape[-1], self.gaps[-1][1])

    @property
    def kept(self) -> list[Span]:
        """What lies between the gaps."""
        edges = [0, *(edge for gap in self.gaps for edge in gap), self.samples]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    def given(self, z: Latent, spread: Tensor, stride: int, length: int) -> Given:
        """For stage 2, from z [1, 32, steps] of w: the latent steps of `stride` samples that lie in what is kept.

        z is divided by its `spread`, and repeats its last step up to `length`.
        """
        x_0 = F.pad(z / spread, (0, length - z.shape[-1]), mode="replicate")
        ends = [-(-b // stride) if b == self.samples else b // stride for _, b in self.kept]
        spans = [(-(-a // stride), end) for (a, _), end in zip(self.kept, ends, strict=True)]
        return Given(lambda a, b: x_0[..., a:b], spans, self.noise_level)

    def sound(self, dmae: DMAE, z: Latent, decode: Decode) -> Iterator[Part]:
        """Parts of [n, 2, samples] for z [n, 32, steps], from left to right, in memory for a few windows."""
        at = 0
        for gap in self.gaps:
            start, end = self.faded(gap)
            yield from self.original(at, start, z)
            yield from self.patch(gap, dmae, z, decode)
            at = end
        yield from self.original(at, self.w.shape[-1], z)

    def faded(self, gap: Span) -> Span:
        """The gap with its cross-fades, which lie in what is kept; none where the sound begins or ends with it."""
        return max(0, gap[0] - FADE), max(gap[1], min(gap[1] + FADE, self.w.shape[-1]))

    def original(self, a: int, b: int, z: Latent) -> Iterator[Part]:
        """w[:, a:b] for each of z, silence beyond its end."""
        for start in range(a, b, BLOCK):
            end = min(b, start + BLOCK)
            part = self.w[None, :, start:end]
            yield F.pad(part, (0, end - start - part.shape[-1])).to(z).expand(len(z), -1, -1)

    def patch(self, gap: Span, dmae: DMAE, z: Latent, decode: Decode) -> Iterator[Part]:
        """The new sound with its cross-fades, decoded with half a training crop of what is kept on either side."""
        (start, end), stride, around = self.faded(gap), dmae.config.latent_stride, dmae.config.crop // 2
        first, last = max(0, (start - around) // stride), min(z.shape[-1], -(-(end + around) // stride))
        begin, length = first * stride, min(last * stride, self.samples) - first * stride
        known = Given(
            lambda a, b: self.signal(dmae, begin + a, begin + b).to(z), [(a - begin, b - begin) for a, b in self.kept]
        )
        at = begin
        for part in decode(z[..., first:last], length=length, given=known if self.kept else None):
            a, b = max(at, start), min(at + part.shape[-1], end)
            if a < b:
                old = torch.cat([*self.original(a, b, z)], dim=-1)
                yield torch.lerp(old, part[..., a - at : b - at], self.share(gap, a, b).to(z))
            at += part.shape[-1]

    def share(self, gap: Span, a: int, b: int) -> Tensor:
        """The new sound's share of each sample in [a, b), which reaches no further than the cross-fades."""
        at, (start, end) = torch.arange(a, b) + 0.5, self.faded(gap)
        rise = (at - start) / (gap[0] - start) if start < gap[0] else torch.ones(b - a)
        fall = (end - at) / (end - gap[1]) if gap[1] < end else torch.ones(b - a)
        return torch.minimum(rise, fall).clamp(0, 1)

    def signal(self, dmae: DMAE, a: int, b: int) -> Wave:
        """[a, b) of what is diffused, [1, 2, b - a]; before and after the sound is silence."""
        part = self.w[None, :, max(0, a - 1) : b]  # pre-emphasis looks a sample back
        lead = int(a == 0)
        return dmae.to_signal(F.pad(part, (lead, b - a + 1 - lead - part.shape[-1])))[..., 1:]


def varied(w: Stereo, noise_level: float) -> Edit:
    """All of it, begun from itself at that noise level."""
    return Edit(w, ((0, w.shape[-1]),), noise_level)


def continued(w: Stereo, samples: int) -> Edit:
    """It, and what follows, up to that many samples in all. Raises ValueError where that is no more than there are."""
    there = w.shape[-1]
    if samples <= there:
        raise ValueError(
            f"{samples / 48_000:g} s in all, but the sound has {there / 48_000:g} s already: ask for more seconds"
        )
    return Edit(w, ((there // STEP * STEP, samples),))


def inpainted(
    w: Stereo, regions: Sequence[tuple[float, float]], noise_level: float = 1.0, sample_rate: int = 48_000
) -> Edit:
    """It with these regions, from and to seconds, made anew; in any order. Raises ValueError for one outside of it."""
    gaps, there = [], w.shape[-1]
    for start, end in sorted(regions):
        if not 0 <= start < end <= there / sample_rate:
            raise ValueError(
                f"from {start:g} to {end:g} s is no region of {there / sample_rate:g} s of sound: choose times in it"
            )
        first, last = round(start * sample_rate), round(end * sample_rate)
        gaps.append((first // STEP * STEP, min(there, -(-last // STEP) * STEP)))
    return Edit(w, tuple(gaps), noise_level)
