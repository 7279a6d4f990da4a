"""Intervals: closed forms, and the same bits for the same seed."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mousai.evaluation import (
    statistics,
)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


def test_bootstrap_is_the_same_bits_on_a_second_run_and_holds_the_mean(rows):
    first, second = statistics.bootstrap(rows[:, 0], seed=3), statistics.bootstrap(rows[:, 0], seed=3)
    assert first == second
    assert first[1] < first[0] < first[2]
    assert_allclose(first[0], rows[:, 0].mean(), rtol=1e-12)


def test_bootstrap_interval_is_that_of_the_normal_law(rows):
    _, low, high = statistics.bootstrap(np.tile(rows[:, 0], 10))
    assert_allclose(high - low, 2 * 1.96 * rows[:, 0].std() / math.sqrt(600), rtol=0.1)


def test_bootstrap_of_whole_pieces_is_wider_where_chunks_of_a_piece_agree():
    values, titles = np.repeat(np.arange(10.0), 4), [f"tune {i // 4}" for i in range(40)]
    alone, grouped = statistics.bootstrap(values), statistics.bootstrap(values, groups=titles)
    assert grouped[2] - grouped[1] > 1.5 * (alone[2] - alone[1])


def test_bootstrap_of_nothing_says_so():
    with pytest.raises(ValueError, match="bootstrap of 0 values"):
        statistics.bootstrap([])


def test_jackknife_interval_of_a_mean_is_the_textbook_one(rows):
    shifted = rows[:, :1] + 5
    tunes = [f"tune {i}" for i in range(60)]
    value, low, high = statistics.jackknife(shifted, shifted, lambda a, _: float(a.mean()), tunes * 2, blocks=60)
    assert_allclose(high - value, 1.96 * shifted.std(ddof=1) / math.sqrt(60), rtol=1e-9)
    assert_allclose(value - low, high - value, rtol=1e-9)


def test_jackknife_leaves_a_tune_out_of_both_sets_and_takes_its_clips_together(rows):
    tunes = [f"tune {i // 4}" for i in range(40)]
    seen = []
    difference = lambda a, b: seen.append((len(a), len(b))) or float(a.mean() - b.mean())  # noqa: E731
    assert statistics.jackknife(rows[:40], rows[:40], difference, tunes * 2) == (0, 0, 0)
    assert seen == [(40, 40)] + [(36, 36)] * 10
    means = np.repeat(np.random.default_rng(1).standard_normal((10, 1)), 4, axis=0)  # four clips of a tune are alike
    mean = lambda a, b: float(a.mean())  # noqa: E731
    (_, _, by_tune), (_, _, by_clip) = (statistics.jackknife(means, means, mean, g, 40) for g in (tunes * 2, range(80)))
    assert by_tune > 1.5 * by_clip + means.mean() - 1.5 * means.mean()


def test_two_sets_are_resampled_by_tune_together_and_a_constant_ratio_has_no_width():
    real = np.arange(1.0, 9.0)[:, None]
    ratio = lambda a, b: float(a.mean() / b.mean())  # noqa: E731
    assert_allclose(statistics.bootstrap_pair(2 * real, real, ratio, groups=[*"abcdefgh"] * 2), (2, 2, 2), rtol=1e-12)
    _, low, high = statistics.bootstrap_pair(2 * real, real, ratio)
    assert low < 1.7 < 2.3 < high


def test_resamples_without_a_value_are_passed_over():
    value, low, high = statistics.bootstrap([0.0, 0.0, 1.0], statistic=lambda x: 1.0 if x.any() else float("nan"))
    assert (value, low, high) == (1, 1, 1)


def test_three_training_runs_have_students_interval():
    assert_allclose(
        statistics.t_interval([1.0, 2, 3]), (2, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), rtol=1e-4
    )
    assert statistics.t_interval([5.0]) == (5, 5, 5)


def test_a_share_of_all_is_not_certain():
    value, low, high = statistics.proportion(np.ones(20))
    assert (value, high) == (1.0, 1.0) and low == pytest.approx(0.8316, abs=1e-4)  # Clopper and Pearson
    value, low, high = statistics.proportion(np.zeros(24), groups=[i // 3 for i in range(24)])
    assert (value, low) == (0.0, 0.0) and high == pytest.approx(0.3694, abs=1e-4)  # of eight tunes, not of 24 clips
    mixed = np.array([0, 1, 1, 0, 1, 1])
    assert statistics.proportion(mixed, 3) == statistics.bootstrap(mixed, 3)
    split = np.tile([0.0, 1.0], 10)
    assert statistics.proportion(split, groups=["one tune"] * 20) == (0.5, 0.5, 0.5)  # not that of none
