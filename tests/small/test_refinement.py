"""A waveform with another magnitude, its phases kept."""

import pytest
import torch
from torch.testing import assert_close

from mousai.small.refinement import with_magnitude
from mousai.spectrogram import magnitude

EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.fixture
def w(generator) -> torch.Tensor:
    return torch.randn(2, 2, 4096, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("n_fft", "hop"), [(1023, 256), (127, 32)])
def test_with_its_own_magnitude_a_waveform_is_itself(w, n_fft, hop):
    assert_close(with_magnitude(w, magnitude(w, n_fft, hop), n_fft, hop), w, atol=1e-9, rtol=0)


def test_with_its_magnitude_tripled_a_waveform_is_three_times_as_loud(w):
    """So the phase stays, and each channel has its own magnitude."""
    loud = torch.tensor([3.0, 1.0], dtype=torch.float64)[:, None]
    m_w = torch.cat([3 * magnitude(w)[:, :512], magnitude(w)[:, 512:]], dim=1)
    assert_close(with_magnitude(w, m_w), loud * w, atol=1e-9, rtol=0)


def test_another_magnitude_comes_nearer_at_every_step(w):
    """Griffin and Lim's theorem: the distance never grows. Overlapping frames keep it from zero."""
    target, x, distances = magnitude(torch.roll(w, 700, dims=-1) * 2), w, []
    for _ in range(4):
        distances.append((magnitude(x) - target).norm().item())
        x = with_magnitude(x, target)
    assert distances == sorted(distances, reverse=True) and distances[1] < 0.8 * distances[0]


def test_silence_can_be_given_a_magnitude_and_have_it_taken(w):
    assert with_magnitude(torch.zeros_like(w), magnitude(w)).isfinite().all()
    assert_close(with_magnitude(w, torch.zeros_like(magnitude(w))), torch.zeros_like(w), **EXACT)
