"""The octave basis: orthonormal, its own way back, bands where they should be, the same at every frame."""

from math import pi

import pytest
import torch
from torch.testing import assert_close

from mousai.small.octaves import Octaves, dct4, mid_side

EXACT = {"atol": 1e-12, "rtol": 1e-12}
PLAN = ((8, 1), (4, 2), (4, 4))  # bands of 1, 2 and 4 units, 32 in all


@pytest.fixture(scope="module")
def octaves() -> Octaves:
    return Octaves(PLAN, units=32)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("length", [64, 64 * 9])
def test_it_is_orthonormal_and_its_transpose_undoes_it(octaves, length):
    x = noise(3, 2, length)
    bands = octaves.analyse(x)
    assert [octave.shape for octave in bands] == [(3, 2 * n, w * length // 32) for n, w in PLAN]
    assert_close(octaves.synthesise(bands), x, **EXACT)
    assert_close(sum(octave.square().sum() for octave in bands), x.square().sum(), **EXACT)


def test_every_band_alone_comes_back_as_itself(octaves):
    bands = octaves.analyse(torch.zeros(1, 2, 128, dtype=torch.float64))
    for i, octave in enumerate(bands):
        changed = [part.clone() for part in bands]
        changed[i] = noise(*octave.shape)
        for found, expected in zip(octaves.analyse(octaves.synthesise(changed)), changed, strict=True):
            assert_close(found, expected, **EXACT)


@pytest.mark.parametrize(("right", "channel"), [(1.0, 0), (-1.0, 1)])
@pytest.mark.parametrize(("unit", "octave", "band"), [(2.5, 0, 2), (9.0, 1, 0), (15.0, 1, 3), (26.0, 2, 2)])
def test_a_sine_sounds_in_its_own_band_mid_before_side(octaves, right, channel, unit, octave, band):
    """A unit is the sample rate over 2 * units; band k of width w lies from k w to (k + 1) w units."""
    t = torch.arange(64 * 16, dtype=torch.float64)
    sine = torch.sin(2 * pi * unit / 64 * t + 0.3)
    energy = [part.square().sum(dim=(0, 2)) for part in octaves.analyse(torch.stack([sine, right * sine])[None])]
    whole = torch.cat(energy).sum()
    assert energy[octave][channel * PLAN[octave][0] + band] > 0.9 * whole


def test_a_sound_a_frame_later_is_the_same_numbers_a_frame_later(octaves):
    """So that a convolution over frames meets the same pattern at every frame."""
    x = torch.zeros(1, 2, 64 * 32, dtype=torch.float64)
    x[..., 600:900] = noise(1, 2, 300)
    for width, early, late in zip((1, 2, 4), octaves.analyse(x), octaves.analyse(x.roll(64, -1)), strict=True):
        shifted = early.roll(2 * width, -1)  # 64 samples are two frames of the slowest octave
        assert (shifted - late).norm() < 0.01 * late.norm()


def test_frequencies_are_the_middles_of_the_bands(octaves):
    found = octaves.frequencies(48_000)
    assert [len(part) for part in found] == [8, 4, 4]
    assert found[0][0] == 375 and found[1][0] == 9 * 750 and found[2][-1] == 30 * 750


def test_a_length_that_does_not_fit_is_refused_by_number(octaves):
    with pytest.raises(ValueError, match="length 96 is not a multiple of 64: pad the waveform first"):
        octaves.analyse(noise(1, 2, 96))


def test_the_dct_is_the_fourth_kind():
    n = 8
    k = torch.arange(n, dtype=torch.float64) + 0.5
    matrix = (2 / n) ** 0.5 * torch.cos(pi / n * k[:, None] * k)
    x = noise(3, n)
    assert_close(dct4(x), x @ matrix.T, **EXACT)


def test_mid_and_side_are_their_own_inverse():
    x = noise(2, 2, 5)
    assert_close(mid_side(mid_side(x)), x, **EXACT)
    assert mid_side(torch.ones(1, 2, 3))[0, 1].abs().max() == 0
