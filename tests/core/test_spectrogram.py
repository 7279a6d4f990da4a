"""The magnitude that stage 1 encodes, and the log-mel spectrogram."""

from math import pi

import librosa
import pytest
import torch
from torch.testing import assert_close

from mousai.spectrogram import log_mel, log_mel_l1, magnitude

EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.fixture
def w(generator) -> torch.Tensor:
    return torch.randn(2, 2, 4096, generator=generator, dtype=torch.float64)


def test_the_papers_crop_becomes_1024_bins_by_1024_frames():
    assert magnitude(torch.zeros(1, 2, 2**18)).shape == (1, 1024, 1024)


def test_a_frame_is_the_fourier_sum_of_the_windowed_waveform_over_the_root_of_n(w):
    n, frame = 1023, 5
    t = torch.arange(n, dtype=torch.float64)
    hann = 0.5 - 0.5 * torch.cos(2 * pi * t / n)
    part = w[..., frame * 256 - n // 2 :][..., :n] * hann
    k = torch.arange(512, dtype=torch.float64)
    waves = torch.exp(-2j * pi * k[:, None] * t / n)
    expected = (part.to(waves.dtype) @ waves.T).abs() / n**0.5
    assert_close(magnitude(w)[..., frame], expected.flatten(1), **EXACT)


def test_left_bins_come_first_then_right_bins(w):
    w[:, 1] = 0
    m_w = magnitude(w)
    assert_close(m_w[:, 512:], torch.zeros(2, 512, 16, dtype=torch.float64), **EXACT)
    assert m_w[:, :512].mean() > 0.1


def test_the_magnitude_is_linear_in_loudness_and_deaf_to_the_sign(w):
    assert_close(magnitude(-3 * w), 3 * magnitude(w), **EXACT)


def test_a_sine_in_the_middle_of_bin_100_is_loudest_there():
    t = torch.arange(8192, dtype=torch.float64)
    tone = torch.sin(2 * pi * 100 / 1023 * t).expand(1, 2, -1)
    assert (magnitude(tone)[0, :512, 4:-4].argmax(dim=0) == 100).all()


def test_silence_is_exactly_zero():
    assert magnitude(torch.zeros(1, 2, 1024)).count_nonzero() == 0


@pytest.mark.parametrize("length", [256, 1000, 4097])
def test_a_length_that_does_not_fit_is_refused_by_number(length):
    with pytest.raises(ValueError, match=f"length {length} must be a multiple of hop 256"):
        magnitude(torch.zeros(1, 2, length))


def test_the_log_mel_picture_of_silence_is_minus_three_everywhere():
    assert_close(log_mel(torch.zeros(1, 2, 4800)), torch.full((1, 80, 10), -3.0))


def test_ten_times_as_loud_is_one_higher_in_the_log_mel_picture(w):
    assert_close(log_mel(1000 * w) - log_mel(100 * w), torch.ones(2, 80, 9, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_log_mel_distance_is_zero_to_itself_and_one_to_ten_times_as_loud(w):
    assert_close(log_mel_l1(w, w), torch.zeros(2, dtype=torch.float64))
    assert_close(log_mel_l1(1000 * w, 100 * w), torch.ones(2, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_log_mel_picture_is_the_mel_filters_on_the_magnitude_of_the_channels_mean():
    w = torch.randn(2, 2, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    window = torch.hann_window(2048, dtype=torch.float64)
    spectrum = torch.stft((w[:, 0] + w[:, 1]) / 2, 2048, 512, window=window, return_complex=True).abs()
    bank = torch.from_numpy(librosa.filters.mel(sr=48_000, n_fft=2048, n_mels=80)).double()
    assert_close(log_mel(w), torch.log10(bank @ spectrum + 1e-3), **EXACT)
