"""Signals longer than the network was trained on: overlapping windows, cross-faded at every step (ours).

All windows share one noise, and their predictions are blended at each step, so that windows agree; sampled separately
they would leave seams. `blended` does this for a whole signal. `sample_in_chunks` gives the same result in chunks from
left to right, each advanced as soon as the windows over it allow, so that memory does not grow with length.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from mousai.diffusion import Net, add_noise
from mousai.inference.samplers import SamplerState, v_towards
from mousai.shapes import Level, Signal

Span = tuple[int, int]
# (x_sigma[..., a:b] of some windows, concatenated along the batch; sigma; each window's (a, b)) -> v_hat of each
Predict = Callable[[Signal, Level, Sequence[Span]], Signal]
Noise = Callable[[int, int], Signal]  # (a, b) -> eps[..., a:b]; called once for each chunk, from left to right
DRAWN = 2**20  # numbers drawn at once while a generator is advanced to the next row


@dataclass(frozen=True)
class Windows:
    """How a signal is cut: windows of `size`, `hop` apart, of which one network evaluation takes up to `together`."""

    size: int
    hop: int
    together: int = 1

    def starts(self, length: int) -> list[int]:
        """The starts of the windows over [0, length)."""
        return window_starts(length, self.size, self.hop)


@dataclass(frozen=True)
class Replacement:
    """An inpainting mask and its signal: `known` spans are kept, the rest is sampled from noise level `start`.

    `x_0`: (a, b) -> [1 or batch, channels, b - a] of the clean signal. It is called for windows with known spans,
    and below noise level 1 for all, because sampling then begins from it.
    """

    x_0: Callable[[int, int], Tensor]
    known: Sequence[Span] = ()
    start: float = 1.0

    def begin(self, noise: Noise) -> Noise:
        """(a, b) -> the signal at level `start`, where sampling begins: x_0 with this noise; at 1 the noise itself."""
        if self.start == 1:
            return noise

        def noisy(a: int, b: int) -> Signal:
            eps = noise(a, b)
            return add_noise(self.x_0(a, b).expand_as(eps), eps, eps.new_full((len(eps),), self.start))

        return noisy

    def replacing(self, predict: Predict) -> Predict:
        """`predict`, but known spans get the v that leads to x_0, so at each step they are x_0 with the initial noise.

        This is replacement (Song et al. 2021; RePaint, Lugmayr et al. 2022), written as a v so that it works with every
        sampler. Where all of a window is known, the network is not evaluated.
        """

        def replace(x: Signal, sigma: Level, spans: Sequence[Span]) -> Signal:
            if len(spans) > 1:  # each window by itself, because their known spans differ
                each = zip(x.chunk(len(spans)), sigma.chunk(len(spans)), spans, strict=True)
                return torch.cat([replace(x, sigma, [span]) for x, sigma, span in each])
            known = self.mask(*spans[0])
            if not known.any():
                return predict(x, sigma, spans)
            towards = v_towards(self.x_0(*spans[0]).expand_as(x), x, sigma)
            return towards if known.all() else torch.where(known.to(x.device), towards, predict(x, sigma, spans))

        return replace if self.known else predict

    def mask(self, a: int, b: int) -> Bool[Tensor, " _"]:
        """True at positions of [a, b) that are known."""
        known = torch.zeros(b - a, dtype=torch.bool)
        for start, end in self.known:
            known[max(0, start - a) : max(0, end - a)] = True
        return known


def window_starts(length: int, window: int, hop: int) -> list[int]:
    """Starts of windows that cover [0, length): `hop` apart, except that the last one ends at `length`."""
    if length <= window:
        return [0]
    return [*range(0, length - window, hop), length - window]


def cross_fade(n: int) -> Tensor:
    """Weights [n] of a window in cross-fades: a triangle, nowhere 0."""
    ramp = torch.linspace(0, 1, n + 2, dtype=torch.float64)[1:-1]
    return torch.minimum(ramp, ramp.flip(0))


def blended(predict: Predict, length: int, windows: Windows) -> Net:
    """(x, sigma) -> v_hat of a whole signal of that length, cross-faded from `predict` of each window."""
    starts, size = windows.starts(length), min(length, windows.size)
    fade = cross_fade(size) if len(starts) > 1 else torch.ones(size)

    def net(x: Signal, sigma: Level) -> Signal:
        total, weight, weights = torch.zeros_like(x), x.new_zeros(length), fade.to(x)
        for i in range(0, len(starts), windows.together):
            group = starts[i : i + windows.together]
            batch = torch.cat([x[..., a : a + size] for a in group])  # [windows * batch, channels, size]
            v_hat = predict(batch, sigma.repeat(len(group)), [(a, a + size) for a in group])
            for a, part in zip(group, v_hat.chunk(len(group)), strict=True):
                total[..., a : a + size] += weights * part
                weight[a : a + size] += weights
        return total / weight

    return net


@torch.no_grad()
def sample_in_chunks(
    predict: Predict,
    sampler: Callable[[int, int], SamplerState],
    length: int,
    windows: Windows,
    bar: Any = None,
) -> Iterator[Signal]:
    """Chunks of x_0 from left to right, `length` in all: the same as `sample` with the `blended` network gives.

    A chunk lies between the starts of two windows. `sampler`: (a, b) -> the `SamplerState` of [a, b). `bar` shows the
    steps that the windows have made.
    """
    starts, buffers = windows.starts(length), []
    fade = cross_fade(windows.size) if length > windows.size else torch.ones(length)
    spans = [*pairwise([*starts, length])]
    for i in range(0, len(spans), windows.together):
        ready = [Chunk(a, b, sampler(a, b)) for a, b in spans[i : i + windows.together]]
        for evaluation in count():  # as many as the sampler asks for
            if not ready or ready[0].state.done:
                break
            if evaluation == len(buffers):
                buffers.append(StepBuffer(predict, fade, windows.together, bar))
            ready = buffers[evaluation].take(ready)
        yield from (chunk.state.x for chunk in ready)


def in_windows(
    parts: Iterator[Signal], change: Callable[[Signal, Span], Signal], length: int, windows: Windows
) -> Iterator[Signal]:
    """Apply `change`(window, its span) to each window of a signal that comes in parts, and cross-fade the results.

    A part is yielded as soon as no later window overlaps it, so that memory does not grow with length.
    """
    starts, size = windows.starts(length), min(length, windows.size)
    fade = cross_fade(size) if len(starts) > 1 else torch.ones(size)
    held = next(parts)  # the signal from `first` on
    first = 0
    tail, weight = None, torch.zeros(0)  # weighted sum of the windows so far, from `first` on, and of their weights
    for a, following in pairwise([*starts, length]):
        while first + held.shape[-1] < a + size:
            held = torch.cat([held, next(parts)], dim=-1)
        made = change(held[..., :size], (a, a + size)) * fade.to(held)
        if tail is not None:
            made[..., : tail.shape[-1]] += tail
        weight = fade + F.pad(weight, (0, size - len(weight)))
        n = following - a
        yield made[..., :n] / weight[:n].to(held)
        tail, weight, held, first = made[..., n:], weight[n:], held[..., n:], following


class Chunk:
    """The signal in [a, b), and the weighted sum of v_hat from those windows over it that have been evaluated."""

    def __init__(self, a: int, b: int, state: SamplerState):
        self.a, self.b, self.state = a, b, state
        self.total = torch.zeros_like(state.x)
        self.weight = state.x.new_zeros(b - a)

    def add(self, v_hat: Signal, fade: Tensor, a: int) -> None:
        """Add the part of a window's v_hat that lies in this chunk. The window starts at `a`, not after this chunk."""
        part, weight = (tensor[..., self.a - a : self.b - a] for tensor in (v_hat * fade, fade))
        self.total[..., : part.shape[-1]] += part  # a window may end within the chunk
        self.weight[: len(weight)] += weight

    def advance(self) -> int:
        """Advance the sampler, once all windows over the chunk are added; return the steps made (Heun: 0 or 1)."""
        before = self.state.step
        self.state.advance(self.total / self.weight)
        self.total.zero_()
        self.weight.zero_()
        return self.state.step - before


class StepBuffer:
    """One of the network evaluations (number i of every window). Chunks pass through from left to right; each waits
    here until all windows over it are evaluated.
    """

    def __init__(self, predict: Predict, fade: Tensor, together: int, bar: Any):
        self.predict, self.fade, self.together, self.bar = predict, fade, together, bar
        self.waiting: list[Chunk] = []

    def take(self, chunks: list[Chunk]) -> list[Chunk]:
        """Add chunks; return those, from the left, whose windows have all been evaluated."""
        through: list[Chunk] = []
        self.waiting = [*self.waiting, *chunks]
        ready = sum(chunk.a + len(self.fade) <= self.waiting[-1].b for chunk in self.waiting)
        while len(through) < ready:
            now = min(self.together, ready - len(through))
            self.evaluate(now)
            through = [*through, *self.waiting[:now]]
            self.waiting = self.waiting[now:]
        return through

    def evaluate(self, ready: int) -> None:
        """Evaluate the windows that begin at the first `ready` chunks, add them to all, and advance these chunks."""
        n, first, sigma = len(self.fade), self.waiting[0].a, self.waiting[0].state.sigma
        x = torch.cat([chunk.state.x for chunk in self.waiting], dim=-1)
        starts = [chunk.a for chunk in self.waiting[:ready]]
        batch = torch.cat([x[..., a - first : a - first + n] for a in starts])
        v_hat = self.predict(batch, sigma.repeat(ready), [(a, a + n) for a in starts])
        fade = self.fade.to(x)
        for i, (a, part) in enumerate(zip(starts, v_hat.chunk(ready), strict=True)):
            for chunk in self.waiting[i:]:
                chunk.add(part, fade, a)
            moved = self.waiting[i].advance()
            if self.bar is not None:
                self.bar.update(moved)


def noise_in_chunks(shape: tuple[int, int, int], generator: torch.Generator | Sequence[torch.Generator]) -> Noise:
    """Parts of the noise [batch, channels, length] that one `torch.randn` would draw, without keeping all of it.

    Each row has a copy of the generator in the state where the row begins. `generator` (one, or one per item) ends in
    the same state as after one call. Parts must be multiples of 16 long, because torch draws in groups of 16. Raises
    ValueError where `length` is not.
    """
    batch, channels, length = shape
    if not isinstance(generator, torch.Generator):
        each = [noise_in_chunks((1, channels, length), own) for own in generator]
        return lambda a, b: torch.cat([noise(a, b) for noise in each])
    if length % 16:
        raise ValueError(f"noise of length {length} cannot be drawn in pieces: it must be a multiple of 16")
    rows = []
    for _ in range(batch * channels):
        rows.append(torch.Generator().set_state(generator.get_state()))
        for start in range(0, length, DRAWN):
            torch.randn(min(DRAWN, length - start), generator=generator)

    def noise(a: int, b: int) -> Tensor:
        return torch.stack([torch.randn(b - a, generator=row) for row in rows]).view(batch, channels, b - a)

    return noise
