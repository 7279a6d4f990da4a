"""Sound of any length in pieces: what the definition gives, from the noise one call draws, in flat memory."""

from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import SAMPLERS, add_noise, ddim, sample, v_target
from mousai.windows import noise_in_pieces, sample_in_pieces, window_starts

EXACT = {"atol": 1e-12, "rtol": 1e-12}


def noise(length: int) -> torch.Tensor:
    return torch.randn(2, 3, length, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def in_pieces(predict, eps, steps=3, sampler=ddim, **bar) -> torch.Tensor:
    pieces = sample_in_pieces(predict, lambda a, b: eps[..., a:b], eps.shape[-1], steps, sampler, 64, 48, **bar)
    return torch.cat([*pieces], dim=-1)


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
def test_pieces_make_what_the_whole_gives_with_a_net_that_blends_windows(name, length):
    """The net looks at its whole window and where it stands, so every piece depends on all its neighbours."""

    def predict(x, sigma, a, b):
        return (x - 0.5 * x.mean(dim=-1, keepdim=True)).sin() * sigma[:, None, None] + a / 100 + 0.01 * b

    whole = sample(blending(predict), noise(length), 4, sampler=SAMPLERS[name])
    assert_close(in_pieces(predict, noise(length), 4, SAMPLERS[name]), whole, **EXACT)


def test_each_window_sees_its_own_part_and_place():
    eps, widths = noise(200), set()
    x_0 = noise(200).flip(-1)

    def predict(x, sigma, a, b):
        widths.add(b - a)
        assert_close(x, add_noise(x_0[..., a:b], eps[..., a:b], sigma), **EXACT)
        return v_target(x_0[..., a:b], eps[..., a:b], sigma)

    assert_close(in_pieces(predict, eps, 5), x_0, **EXACT)
    assert widths == {64}


def test_where_windows_disagree_the_blend_moves_smoothly_from_one_to_the_other():
    """In one step x_0 is -v_hat."""
    result = -in_pieces(lambda x, sigma, a, b: torch.full_like(x, float(a > 0)), noise(112), 1)[0, 0]
    assert_close(result[:48], torch.zeros(48), check_dtype=False)
    assert_close(result[64:], torch.ones(48), check_dtype=False)
    assert (result[48:64].diff() > 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_is_asked_for_only_a_few_windows_ahead_of_what_is_done(name):
    """So what lies in memory does not grow with the length."""
    asked, calls = 0, 7 if name == "heun" else 4

    def eps(a, b):
        nonlocal asked
        asked = b
        return torch.zeros(1, 1, b - a)

    done, ahead = 0, []
    for piece in sample_in_pieces(lambda x, s, a, b: x, eps, 5000, 4, SAMPLERS[name], 64, 48):
        ahead.append(asked - done)
        done += piece.shape[-1]
    assert done == 5000 and max(ahead) <= 48 * (calls + 2) + 64


def test_the_bar_ends_full_and_moves_before_the_first_piece_is_done(monkeypatch):
    from mousai import windows

    moved = []

    class Bar:
        total, n = 4 * 3, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def update(self, n):
            moved.append(n)
            self.n += n

    bar = Bar()
    monkeypatch.setattr(windows, "progress_bar", lambda *_, **__: bar)
    in_pieces(lambda x, sigma, a, b: x, noise(64 + 48 + 48), 4, progress="z -> w")
    assert bar.n == bar.total and sum(moved[:-1]) >= 6


@pytest.mark.parametrize("shape", [(1, 2, 1024), (3, 2, 4096 + 16)])
def test_noise_in_pieces_is_the_noise_one_call_draws(shape, monkeypatch):
    monkeypatch.setattr("mousai.windows.DRAWN", 1024)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    whole = torch.randn(shape, generator=generators[0])
    piecewise, cuts = noise_in_pieces(shape, generators[1]), [*range(0, shape[-1], 272), shape[-1]]
    assert torch.equal(torch.cat([piecewise(a, b) for a, b in pairwise(cuts)], dim=-1), whole)
    assert torch.equal(*(torch.randn(16, generator=generator) for generator in generators))


def test_a_length_whose_draws_are_not_grouped_is_refused():
    with pytest.raises(ValueError, match="noise of length 100 cannot be drawn in pieces: it must be a multiple of 16"):
        noise_in_pieces((1, 2, 100), torch.Generator())
