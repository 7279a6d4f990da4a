"""Signals longer than the net was trained on: overlapping windows, cross-faded at every step (ours).

Blending the *predictions*, from one global noise, keeps windows in agreement; decoding them apart would leave seams.
The signal goes through the steps piece by piece from the left, each as far as the windows over it allow, so memory does
not grow with length.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mousai.diffusion import Sampler, Walk, add_noise, v_towards
from mousai.progress import progress_bar
from mousai.shapes import Level, Signal

Span = tuple[int, int]
# (x_sigma[..., a:b] of these windows, one after another along the batch, sigma, each window's (a, b)) -> v_hat
Predict = Callable[[Signal, Level, Sequence[Span]], Signal]
DRAWN = 2**20  # numbers drawn at a time on the way to the next row
Noise = Callable[[int, int], Signal]  # (a, b) -> eps[..., a:b], asked once each, from left to right


@dataclass(frozen=True)
class Given:
    """A signal that is there before sampling: what is in the `kept` spans stays, the rest begins from it at `level`.

    `x_0`: (a, b) -> that part of it, [1 or batch, channels, b - a]; asked for kept windows, below level 1 for all.
    """

    x_0: Callable[[int, int], Tensor]
    kept: Sequence[Span] = ()
    level: float = 1.0

    def noised(self, noise: Noise) -> Noise:
        """Where sampling begins: x_0 with that noise, at `level`; at 1 the noise alone, to the bit."""
        if self.level == 1:
            return noise

        def begin(a: int, b: int) -> Signal:
            eps = noise(a, b)
            return add_noise(self.x_0(a, b).expand_as(eps), eps, eps.new_full((len(eps),), self.level))

        return begin

    def holding(self, predict: Predict) -> Predict:
        """`predict`, but what is kept is led to x_0: at each step it is x_0 with the noise of the beginning.

        That is replacement (Song et al. 2021; Lugmayr et al. 2022), said as a v, so that every sampler understands it.
        Where all of a window is kept, the net is not asked.
        """

        def hold(x: Signal, sigma: Level, spans: Sequence[Span]) -> Signal:
            if len(spans) > 1:  # each window by itself: what is kept differs
                each = zip(x.chunk(len(spans)), sigma.chunk(len(spans)), spans, strict=True)
                return torch.cat([hold(x, sigma, [span]) for x, sigma, span in each])
            kept = self.mask(*spans[0])
            if not kept.any():
                return predict(x, sigma, spans)
            towards = v_towards(self.x_0(*spans[0]).expand_as(x), x, sigma)
            return towards if kept.all() else torch.where(kept.to(x.device), towards, predict(x, sigma, spans))

        return hold if self.kept else predict

    def mask(self, a: int, b: int) -> Bool[Tensor, " _"]:
        """Which of [a, b) is kept."""
        kept = torch.zeros(b - a, dtype=torch.bool)
        for start, end in self.kept:
            kept[max(0, start - a) : max(0, end - a)] = True
        return kept


def window_starts(length: int, window: int, hop: int) -> list[int]:
    """Starts of windows that cover [0, length): `hop` apart, the last one flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, hop), length - window]


@torch.no_grad()
def sample_in_pieces(
    predict: Predict,
    noise: Noise,
    length: int,
    steps: int,
    sampler: Sampler,
    window: int,
    hop: int,
    progress: str | None = None,
    given: Given | None = None,
    together: int = 1,
) -> Iterator[Signal]:
    """x_0 of that length, its pieces from left to right, as `diffusion.sample` of the whole would give it with a net
    that blends windows. A piece is what lies between the starts of two windows. `steps` lead down from the level at
    which what is `given` begins. Up to `together` windows go through the net at once, for which it is read once.
    """
    starts, calls, level = window_starts(length, window, hop), [], 1.0
    if given is not None:
        noise, predict, level = given.noised(noise), given.holding(predict), given.level
    fade = cross_fade(window) if length > window else torch.ones(length)
    with progress_bar(None, progress, len(starts) * steps, show=progress is not None) as bar:
        predict = watched(predict, bar, steps, level) if progress else predict
        spans = [*pairwise([*starts, length])]
        for i in range(0, len(spans), together):
            ready = [Piece(a, b, Walk(sampler(noise(a, b), steps, level))) for a, b in spans[i : i + together]]
            for call in count():  # as many calls of the net as the sampler asks for
                if not ready or ready[0].walk.done:
                    break
                if call == len(calls):
                    calls.append(Call(predict, fade, together))
                ready = calls[call].take(ready)
            yield from (piece.walk.x for piece in ready)
        bar.update(bar.total - bar.n)


def watched(predict: Predict, bar: Any, steps: int, level: float) -> Predict:
    """predict, moving the bar on by the steps that a window has behind it on its way down from `level`."""
    behind = {}

    def watching(x: Signal, sigma: Level, spans: Sequence[Span]) -> Signal:
        now = steps - round(steps * sigma[0].item() / level)
        for a, _ in spans:
            bar.update(now - behind.get(a, 0))
            behind[a] = now
        return predict(x, sigma, spans)

    return watching


class Piece:
    """The signal within [a, b), and what the windows over it have said so far of its v_hat."""

    def __init__(self, a: int, b: int, walk: Walk):
        self.a, self.b, self.walk = a, b, walk
        self.total, self.weight = torch.zeros_like(walk.x), walk.x.new_zeros(b - a)

    def hear(self, v_hat: Signal, fade: Tensor, a: int) -> None:
        """Add what concerns this piece of a window that begins at `a`, before this piece or with it."""
        said, weight = (tensor[..., self.a - a : self.b - a] for tensor in (v_hat * fade, fade))
        self.total[..., : said.shape[-1]] += said  # a window may end within the piece
        self.weight[: len(weight)] += weight

    def step(self) -> None:
        """All windows over it have spoken."""
        self.walk.answer(self.total / self.weight)
        self.total.zero_()
        self.weight.zero_()


class Call:
    """One call of the net, the same for all windows; pieces pass from left to right and wait for what overlaps them."""

    def __init__(self, predict: Predict, fade: Tensor, together: int):
        self.predict, self.fade, self.together, self.waiting = predict, fade, together, []

    def take(self, pieces: list[Piece]) -> list[Piece]:
        """Some more pieces; returns those that are through."""
        through, self.waiting = [], [*self.waiting, *pieces]
        ready = sum(piece.a + len(self.fade) <= self.waiting[-1].b for piece in self.waiting)
        while len(through) < ready:
            now = min(self.together, ready - len(through))
            self.look(now)
            through, self.waiting = [*through, *self.waiting[:now]], self.waiting[now:]
        return through

    def look(self, ready: int) -> None:
        """The windows that begin with the first pieces: every piece under them hears them, the first are complete."""
        n, first, sigma = len(self.fade), self.waiting[0].a, self.waiting[0].walk.sigma
        x = torch.cat([piece.walk.x for piece in self.waiting], dim=-1)
        starts = [piece.a for piece in self.waiting[:ready]]
        windows = torch.cat([x[..., a - first : a - first + n] for a in starts])
        v_hat, self.fade = self.predict(windows, sigma.repeat(ready), [(a, a + n) for a in starts]), self.fade.to(x)
        for i, (a, said) in enumerate(zip(starts, v_hat.chunk(ready), strict=True)):
            for piece in self.waiting[i:]:
                piece.hear(said, self.fade, a)
            self.waiting[i].step()


def cross_fade(n: int) -> Tensor:
    """A triangle, never 0: where two windows overlap, the nearer middle has the greater say."""
    ramp = torch.linspace(0, 1, n + 2, dtype=torch.float64)[1:-1]
    return torch.minimum(ramp, ramp.flip(0))


def noise_in_pieces(shape: tuple[int, int, int], generator: torch.Generator) -> Noise:
    """Standard normal noise [batch, channels, length], the very numbers that one `torch.randn` gives, without holding
    it: each row has a generator of its own, set to where the row begins.

    `generator` is left where that one call would leave it. Lengths are multiples of 16, for so the draws are grouped.
    """
    batch, channels, length = shape
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
