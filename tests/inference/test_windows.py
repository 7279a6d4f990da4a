"""Signals of any length in chunks: what the definition gives, from the noise one call draws, in flat memory."""

from itertools import pairwise
from math import cos, pi, sin

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, v_target
from mousai.inference.samplers import DDIM, SAMPLERS, sample
from mousai.inference.windows import (
    Replacement,
    Windows,
    blended,
    in_windows,
    noise_in_chunks,
    sample_in_chunks,
    window_starts,
)

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def noise(length: int) -> torch.Tensor:
    return torch.randn(2, 3, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def each(predict):
    """A net that is asked for one window at a time, where several come at once."""

    def net(x, sigma, spans):
        windows = zip(x.chunk(len(spans)), sigma.chunk(len(spans)), spans, strict=True)
        return torch.cat([predict(x, sigma, a, b) for x, sigma, (a, b) in windows])

    return net


def in_chunks(predict, eps, steps=3, sampler=DDIM, known=None, together=1, bar=None) -> torch.Tensor:
    known = known or Replacement(lambda a, b: eps[..., :0])
    begin = known.begin(lambda a, b: eps[..., a:b])
    state = lambda a, b: sampler(begin(a, b), steps, known.start)  # noqa: E731
    windows = Windows(64, 48, together)
    return torch.cat([*sample_in_chunks(known.replacing(each(predict)), state, eps.shape[-1], windows, bar)], dim=-1)


def blending(predict):
    """The definition: a net for the whole signal, which cross-fades what `predict` says of each window."""

    def net(x, sigma):
        length, total, weight = x.shape[-1], torch.zeros_like(x), torch.zeros(x.shape[-1], dtype=x.dtype)
        if length <= 64:
            return predict(x, sigma, 0, length)
        fade = torch.tensor([min(i, 65 - i) for i in range(1, 65)], dtype=x.dtype)
        for a in window_starts(length, 64, 48):
            total[..., a : a + 64] += fade * predict(x[..., a : a + 64], sigma, a, a + 64)
            weight[a : a + 64] += fade
        return total / weight

    return net


@pytest.mark.parametrize("length", [1, 63, 64, 65, 96, 100, 128, 1000])
def test_windows_cover_every_sample_and_end_flush(length):
    starts = window_starts(length, 64, 48)
    covered = torch.zeros(max(length, 64))
    for start in starts:
        covered[start : start + 64] += 1
    assert covered[:length].min() >= 1
    assert starts[0] == 0 and starts[-1] == max(0, length - 64)
    assert all(0 < b - a <= 48 for a, b in pairwise(starts))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [40, 64, 65, 100, 112, 125, 333])
@pytest.mark.parametrize("together", [1, 2, 3, 100])
def test_chunks_make_what_the_whole_gives_with_a_net_that_blends_windows(name, length, together):
    """The net looks at its whole window and where it stands, so every piece depends on all its neighbours."""

    def predict(x, sigma, a, b):
        return (x - 0.5 * x.mean(dim=-1, keepdim=True)).sin() * sigma[:, None, None] + a / 100 + 0.01 * b

    whole = sample(blending(predict), SAMPLERS[name](noise(length), 4))
    net = blended(each(predict), length, Windows(64, 48, together))
    assert_close(sample(net, SAMPLERS[name](noise(length), 4)), whole, **EXACT)
    assert_close(in_chunks(predict, noise(length), 4, SAMPLERS[name], together=together), whole, **EXACT)


def test_each_window_sees_its_own_part_and_place():
    eps, widths = noise(200), set()
    x_0 = noise(200).flip(-1)

    def predict(x, sigma, a, b):
        widths.add(b - a)
        assert_close(x, add_noise(x_0[..., a:b], eps[..., a:b], sigma), **EXACT)
        return v_target(x_0[..., a:b], eps[..., a:b], sigma)

    assert_close(in_chunks(predict, eps, 5), x_0, **EXACT)
    assert widths == {64}


def test_where_windows_disagree_the_blend_moves_smoothly_from_one_to_the_other():
    """In one step x_0 is -v_hat."""
    result = -in_chunks(lambda x, sigma, a, b: torch.full_like(x, float(a > 0)), noise(112), 1)[0, 0]
    assert_close(result[:48], torch.zeros(48), check_dtype=False)
    assert_close(result[64:], torch.ones(48), check_dtype=False)
    assert (result[48:64].diff() > 0).all()


KNOWN = [(0, 70), (100, 150), (190, 300)]


@pytest.mark.parametrize("together", [1, 2, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_known_is_itself_with_the_noise_of_the_beginning_at_every_step_and_at_the_end(name, together):
    eps, x_0, seen = noise(333), noise(333).flip(-1), []
    known = Replacement(lambda a, b: x_0[..., a:b], KNOWN)

    def predict(x, sigma, a, b):
        inside = known.mask(a, b)
        assert_close(x[..., inside], add_noise(x_0[..., a:b], eps[..., a:b], sigma)[..., inside], atol=1e-10, rtol=0)
        seen.append((a, b))
        return x.sin()

    made = in_chunks(predict, eps, 4, SAMPLERS[name], known, together)
    kept = known.mask(0, 333)
    assert kept.sum() == 70 + 50 + 110 and kept[69] and not kept[70] and kept[100] and not kept[150]
    assert_close(made[..., kept], x_0[..., kept], atol=1e-10, rtol=0)
    assert (made[..., ~kept] - x_0[..., ~kept]).abs().min(dim=-1).values.max() > 0
    asked = {(a, a + 64) for a in window_starts(333, 64, 48)} - {(0, 64), (192, 256)}  # of these all is kept
    assert set(seen) == asked


def test_what_is_not_known_follows_from_what_is():
    eps, x_0 = noise(64), noise(64).flip(-1)
    both = [Replacement(lambda a, b, y=y: y[..., a:b], [(0, 32)]) for y in (x_0, x_0 + 1)]
    made = [in_chunks(lambda x, s, a, b: x.mean(dim=-1, keepdim=True) + x, eps, known=one) for one in both]
    assert (made[0] - made[1])[..., 32:].abs().min() > 1e-3


@pytest.mark.parametrize("level", [0.3, 0.7])
def test_below_level_one_sampling_begins_from_what_is_there(level):
    """A net that says 0 leaves x at its angle: each step keeps cos of the angle between two levels of it."""
    eps, x_0 = noise(200), noise(200).flip(-1)
    made = in_chunks(
        lambda x, s, a, b: torch.zeros_like(x), eps, 2, known=Replacement(lambda a, b: x_0[..., a:b], (), level)
    )
    expected = cos(pi / 4 * level) ** 2 * (cos(pi / 2 * level) * x_0 + sin(pi / 2 * level) * eps)
    assert_close(made, expected, atol=1e-6, rtol=0)  # levels are float32


def test_at_level_one_nothing_is_left_of_it_to_the_bit():
    eps, known = noise(200), Replacement(lambda a, b: pytest.fail("asked"), (), 1.0)
    assert torch.equal(
        in_chunks(lambda x, s, a, b: x.sin(), eps, known=known), in_chunks(lambda x, s, a, b: x.sin(), eps)
    )


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_is_asked_for_only_a_few_windows_ahead_of_what_is_done(name, together):
    """So what lies in memory does not grow with the length."""
    asked, calls = 0, 7 if name == "heun" else 4

    def eps(a, b):
        nonlocal asked
        asked = b
        return torch.zeros(1, 1, b - a)

    done, ahead = 0, []
    begin = lambda a, b: SAMPLERS[name](eps(a, b), 4)  # noqa: E731
    for piece in sample_in_chunks(lambda x, s, spans: x, begin, 5000, Windows(64, 48, together)):
        ahead.append(asked - done)
        done += piece.shape[-1]
    assert done == 5000 and max(ahead) <= 48 * (calls + together + 1) + 64


@pytest.mark.parametrize("together", [1, 2, 4])
def test_so_many_windows_go_through_the_net_at_once(together):
    sizes = []

    def predict(x, sigma, spans):
        assert x.shape == (2 * len(spans), 3, 64) and len(sigma) == 2 * len(spans)
        sizes.append(len(spans))
        return x

    [*sample_in_chunks(predict, lambda a, b: DDIM(noise(b - a), 9), 48 * 40 + 16, Windows(64, 48, together))]
    assert sum(sizes) == 9 * 40 and max(sizes) == together
    assert sorted(sizes)[len(sizes) // 2] == together


def test_the_bar_moves_by_every_step_of_every_chunk_and_before_the_first_is_done():
    class Bar:
        def __init__(self):
            self.moved = []

        def update(self, n):
            self.moved.append(n)

    bar, done = Bar(), []
    known = Replacement(lambda a, b: noise(b - a))
    state = lambda a, b: DDIM(noise(b - a), 4)  # noqa: E731
    for _ in sample_in_chunks(known.replacing(each(lambda x, s, a, b: x)), state, 160, Windows(64, 48), bar):
        done.append(sum(bar.moved))
    assert done[-1] == 4 * 3 and done[0] > 4


@pytest.mark.parametrize("shape", [(1, 2, 1024), (3, 2, 4096 + 16)])
def test_noise_in_chunks_is_the_noise_one_call_draws(shape, monkeypatch):
    monkeypatch.setattr("mousai.inference.windows.DRAWN", 1024)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    whole = torch.randn(shape, generator=generators[0])
    piecewise, cuts = noise_in_chunks(shape, generators[1]), [*range(0, shape[-1], 272), shape[-1]]
    assert torch.equal(torch.cat([piecewise(a, b) for a, b in pairwise(cuts)], dim=-1), whole)
    assert torch.equal(*(torch.randn(16, generator=generator) for generator in generators))


def test_noise_in_chunks_of_several_generators_is_that_of_each_item():
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    both = noise_in_chunks((2, 2, 64), generators)(0, 64)
    alone = [torch.randn(1, 2, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    assert torch.equal(both, torch.cat(alone))


def test_a_length_whose_draws_are_not_grouped_is_refused():
    with pytest.raises(ValueError, match="noise of length 100 cannot be drawn in pieces: it must be a multiple of 16"):
        noise_in_chunks((1, 2, 100), torch.Generator())


@pytest.mark.parametrize("length", [40, 64, 100, 161])
@pytest.mark.parametrize("cut", [7, 48, 200])
def test_a_signal_changed_in_windows_is_the_signal_changed_whole(length, cut):
    """Where the change depends on the place alone; parts come in any size, and out between the windows' starts."""
    x = noise(length)
    factor = torch.linspace(1, 2, length, dtype=x.dtype)
    parts = [*in_windows(iter(x.split(cut, dim=-1)), lambda y, span: y * factor[slice(*span)], length, Windows(64, 48))]
    assert_close(torch.cat(parts, dim=-1), x * factor, atol=1e-6, rtol=1e-6)
    starts = window_starts(length, 64, 48)
    assert [part.shape[-1] for part in parts] == [b - a for a, b in zip(starts, [*starts[1:], length], strict=True)]


def test_windows_that_overlap_are_cross_faded():
    parts = in_windows(iter([torch.zeros(1, 2, 112)]), lambda y, span: y + span[0], 112, Windows(64, 48))
    made = torch.cat([*parts], dim=-1)[0, 0]
    assert (made[:48] == 0).all() and (made[64:] == 48).all()
    assert (made[48:64].diff() > 0).all()
