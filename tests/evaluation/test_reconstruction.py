"""Each measure of a reconstruction sees what it is there for, and nothing where nothing differs."""

import numpy as np
import pytest
import torch

from mousai.evaluation.reconstruction import (
    clip_features,
    kernel_difference,
    kernel_distance,
    long_term_spectrum,
    reconstruction_measures,
    side_over_mid,
)

RATE = 48_000


def tones(pitches: list[float], width: float = 0.2) -> torch.Tensor:
    """Notes of a quarter of a second, plucked, stereo: [1, 2, time]."""
    t = torch.arange(RATE // 4) / RATE
    notes = [
        torch.exp(-8 * t) * sum(torch.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 6)) for pitch in pitches
    ]
    mono = 0.2 * torch.cat(notes)
    return torch.stack([mono, (1 - width) * mono])[None]


SONG = tones([262, 330, 392, 523, 392, 330, 262, 196])


def test_a_copy_is_the_same_by_every_measure():
    found = reconstruction_measures(SONG, SONG)
    for name in ("logmel_l1", "mrstft", "ltas_db", "level_db", "contrast_db"):
        assert found[name] == pytest.approx(0, abs=1e-6), name
    for name in ("chroma", "onset"):
        assert found[name] == pytest.approx(1, abs=1e-5), name
    assert found["side_over_mid"] == pytest.approx(0.2 / 1.8, rel=1e-5)


def test_side_over_mid_is_0_in_mono_and_1_where_channels_have_nothing_in_common():
    w = np.random.default_rng(0).standard_normal((2, 2**16))
    assert side_over_mid(np.stack([w[0], w[0]]), w) == 0
    assert side_over_mid(w, w) == pytest.approx(1, abs=0.05)
    assert side_over_mid(np.array([[3.0, 0.0], [1.0, 0.0]]), w) == pytest.approx(2 / 4)


def test_half_as_loud_is_6_db():
    found = reconstruction_measures(0.5 * SONG, SONG)
    assert found["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert found["ltas_db"] == pytest.approx(6.02, abs=0.3)
    assert found["chroma"] == pytest.approx(1, abs=1e-3)


def test_another_melody_in_the_same_beat_is_seen_by_chroma():
    other = tones([277, 349, 415, 554, 415, 349, 277, 208])  # a semitone up
    found = reconstruction_measures(other, SONG)
    assert found["chroma"] < 0.8
    assert found["onset"] > 0.9


def test_another_beat_is_seen_by_onsets():
    late = SONG.roll(RATE // 8, -1)
    assert reconstruction_measures(late, SONG)["onset"] < 0.5


def test_noise_between_the_partials_is_seen_by_contrast():
    noise = torch.randn(SONG.shape, generator=torch.Generator().manual_seed(0))
    noisy = SONG + 0.02 * noise
    assert reconstruction_measures(noisy, SONG)["contrast_db"] > 3


def test_silence_is_finite():
    for w, original in ((0 * SONG, SONG), (SONG, 0 * SONG)):
        for name, values in reconstruction_measures(w, original).items():
            assert np.isfinite(values).all(), name


def test_features_of_originals_that_are_known_change_nothing():
    noisy = SONG + 0.02 * torch.randn(SONG.shape, generator=torch.Generator().manual_seed(0))
    known = clip_features(SONG)
    for name, values in reconstruction_measures(noisy, SONG).items():
        np.testing.assert_array_equal(reconstruction_measures(noisy, SONG, known)[name], values, name)


def test_clips_of_another_length_are_refused():
    with pytest.raises(ValueError, match="cut them alike"):
        reconstruction_measures(SONG, SONG[..., :1000])


def test_the_long_term_spectrum_of_white_noise_rises_with_the_width_of_the_bands():
    noise = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    spectrum = long_term_spectrum(noise)
    assert spectrum.shape == (80,)
    assert np.ptp(spectrum) < 6  # librosa's mel filters have unit area


def test_the_kernel_distance_is_unbiased_and_sees_a_shift():
    rng = np.random.default_rng(0)
    same = [kernel_distance(rng.standard_normal((20, 8)), rng.standard_normal((20, 8))) for _ in range(200)]
    assert abs(np.mean(same)) < 2 * np.std(same) / np.sqrt(len(same))
    assert kernel_distance(rng.standard_normal((50, 8)), rng.standard_normal((50, 8)) + 1) > 5 * np.std(same)
    with pytest.raises(ValueError, match="at least two"):
        kernel_distance(np.zeros((1, 8)), np.zeros((5, 8)))


def test_which_of_two_sets_is_nearer_is_told_pair_by_pair():
    rng = np.random.default_rng(0)
    original = rng.standard_normal((60, 8))
    near, far = original + 0.1 * rng.standard_normal((60, 8)), original + 1.0
    tunes = [f"tune {i // 2}" for i in range(60)]
    value, low, high = kernel_difference(original, near, far, tunes)
    assert low < value < high < 0
    assert kernel_difference(original, far, near, tunes)[0] == pytest.approx(-value)
    same = kernel_difference(original, near, near, tunes)
    assert same == (0.0, 0.0, 0.0)
