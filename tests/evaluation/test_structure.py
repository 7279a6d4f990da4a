"""Level over segments: closed forms and planted fades."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mousai.evaluation import (
    structure,
)


def test_amplitude_of_a_sine_is_its_closed_form():
    wave = torch.sin(2 * math.pi * torch.arange(48_000) / 480).expand(2, -1)
    assert_allclose(structure.amplitude(0.5 * wave), 0.5 / math.sqrt(2), rtol=1e-3)


def test_segments_find_a_planted_fade_and_its_spread():
    ks = np.tile([1, 2, 3, 4], 25)
    values = np.array([0.1, 0.3, 0.3, 0.1])[ks - 1] + 0.01 * np.random.default_rng(0).standard_normal(100)
    rows, tunes = np.c_[ks, values], [f"tune {i}" for i in range(100)]
    mean, spread = (structure.segments(rows, 4, tunes, statistic) for statistic in (np.mean, np.std))
    assert_allclose(mean["value"], [0.1, 0.3, 0.3, 0.1], atol=0.006)
    assert_allclose(spread["value"], [0.01] * 4, rtol=0.5)
    assert all(
        low < value < high for low, value, high in zip(spread["low"], spread["value"], spread["high"], strict=True)
    )
    with pytest.raises(ValueError, match='no clip is segment "5 of 5"'):
        structure.segments(rows, 5, tunes)


def test_level_and_variation_stand_beside_real_music_segment_by_segment():
    ks, tunes = np.tile([1.0, 2, 3, 4], 10), [f"tune {i // 4}" for i in range(40)]
    level = np.array([0.1, 0.3, 0.2, 0.1])[ks.astype(int) - 1] * (
        1 + 0.2 * np.random.default_rng(0).standard_normal(40)
    )
    real = np.c_[ks, level]
    ours = np.c_[ks, level * np.array([0.5, 1, 1, 2])[ks.astype(int) - 1]]
    decibels = structure.beside_real(ours, real, tunes * 2, structure.level_db)
    assert_allclose([row["value"] for row in decibels], [-6.02, 0, 0, 6.02], atol=0.01)
    assert [(row["n"], row["units"]) for row in decibels] == [(10, 10)] * 4
    varies = structure.beside_real(ours, real, tunes * 2, structure.variation_ratio)
    assert_allclose([[row["value"], row["low"]] for row in varies], [[0.5] * 2, [1] * 2, [1] * 2, [2] * 2], rtol=1e-6)
    assert np.isnan(structure.variation_ratio(level, np.ones(3)))


def test_shape_correlation_sees_form_and_not_level():
    ks = np.tile([1.0, 2, 3, 4], 10)
    real = np.c_[ks, np.array([0.1, 0.3, 0.2, 0.1])[ks.astype(int) - 1]]
    louder, flat = real * [1, 3] + [0, 0.5], real * [1, 0]
    assert_allclose(structure.shape_correlation(louder, real, 4), (1, 1, 1), rtol=1e-9)
    assert structure.shape_correlation(flat, real, 4)[0] == 0
    assert structure.correlation(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])) == pytest.approx(-1)


def test_the_three_parts_of_the_form_are_above_0_where_they_are_there():
    ks = np.tile([1.0, 2, 3, 4], 10)
    tunes = [f"tune {i // 4}" for i in range(40)]
    level = np.array([0.1, 0.3, 0.2, 0.15])
    found = structure.shape_differences(np.c_[ks, level[ks.astype(int) - 1]], 4, tunes)
    assert [round(found[part]["value"], 9) for part in ("intro", "body", "ending")] == [0.2, 0.05, 0.05]
    rng = np.random.default_rng(0)
    noisy = structure.shape_differences(np.c_[ks, 0.2 + 0.05 * rng.standard_normal(40)], 4, tunes)
    assert noisy["intro"]["low"] < 0 < noisy["intro"]["high"]


def test_ends_agree_where_the_end_of_a_clip_repeats_its_beginning_and_not_where_it_is_anothers():
    start = torch.randn(200, 6, 10, generator=torch.Generator().manual_seed(0))
    middle = torch.zeros(200, 6, 20)
    same, other = torch.cat([start, middle, start], 2), torch.cat([start, middle, start.roll(1, 0)], 2)
    turned = torch.cat([start, middle, 3 - 2 * start], 2)  # knows it, as its opposite: a correlation, not a distance
    agree = [structure.ends_agree(structure.ends(z)) for z in (same, turned, other, torch.ones(200, 6, 40))]
    assert_allclose(agree[:2], [1, -1], atol=1e-9)
    assert abs(agree[2]) < 0.1 and agree[3] == 0
    assert structure.ends(same).shape == (200, 12)


def test_twice_the_amplitude_is_six_decibels_and_silence_is_finite():
    rms = np.array([0.1, 0.2, 0.3])
    assert_allclose(structure.level_db(2 * rms, rms), 20 * math.log10(2), rtol=1e-4)
    assert structure.level_db(rms, rms) == 0 and -121 < structure.level_db(0 * rms, rms) < -90


def test_clipped_counts_only_what_lies_beyond_full_scale():
    assert structure.clipped(torch.tensor([[0.5, 1.0, -1.0, 1.5], [0, -1.01, 0, 0]])) == 0.25


def test_shape_correlation_draws_whole_tunes():
    ks = np.tile([1.0, 2, 3, 4], 10)
    level = np.array([0.1, 0.3, 0.2, 0.1])[ks.astype(int) - 1] + 0.1 * np.random.default_rng(0).standard_normal(40)
    real = np.c_[ks, level]
    same = structure.shape_correlation(real, real, 4, groups=[f"tune {i // 4}" for i in range(40)] * 2)
    assert_allclose(same, (1, 1, 1), rtol=1e-9)
