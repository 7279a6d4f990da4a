"""Whether beginnings rise and endings fall."""

import math

import numpy as np
import pytest
import torch

from mousai.evaluation import (
    segment_tags,
)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


def fade(first: float, last: float) -> torch.Tensor:
    noise = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise * torch.logspace(math.log10(first), math.log10(last), 16_000)


def test_slope_measures_a_planted_fade_in_powers_of_ten():
    assert segment_tags.slope(fade(0.3, 3)) == pytest.approx(1, abs=0.05)
    assert segment_tags.slope(fade(3, 0.3)) == pytest.approx(-1, abs=0.05)
    assert segment_tags.slope(torch.zeros(2, 16_000)) == pytest.approx(0, abs=1e-12)
    assert segment_tags.slope(torch.cat([torch.zeros(2, 16_000), fade(1, 1)], dim=1)) > 2


def test_beginnings_rise_and_endings_fall_whatever_the_threshold_is_near():
    rows = np.array([[1, 0.9], [1, 0.5], [2, -5], [3, 5], [4, -0.5], [4, -0.7]])
    threshold = segment_tags.tag_threshold(rows, 4)
    assert threshold == 0 and segment_tags.tag_share(rows, 4, threshold) == 1
    assert segment_tags.tag_share(rows * [1, -1], 4, threshold) == 0
    row = segment_tags.tag_followed(rows, [*"abcdef"], 4, threshold)
    assert (row["value"], row["n"]) == (1, 4)


def test_one_answer_for_all_is_chance_however_many_of_each_tag_there_are():
    rows = np.array([[1, 1.0]] * 9 + [[4, 1.0]] * 3)
    assert segment_tags.tag_share(rows, 4, 0.0) == 0.5 and math.isnan(segment_tags.tag_share(rows[:9], 4, 0.0))


def test_permuted_tags_are_at_chance():
    rows = np.c_[np.tile([1.0, 4.0], 20), np.tile([0.5, -0.5], 20)]
    permuted = segment_tags.tag_permuted(rows, 4, 0.0)
    assert permuted["value"] == pytest.approx(0.5, abs=0.02) and permuted["low"] < 0.5 < permuted["high"] < 0.75


def test_slopes_of_the_train_split_are_of_its_first_and_last_chunks(work):
    rows = segment_tags.train_slopes(work)
    assert rows[:, 0].tolist() == [1, 4] * len(work.data.records("train"))
    assert np.abs(rows[:, 1]).max() < 0.1 and np.array_equal(rows, segment_tags.train_slopes(work))


def test_where_every_clip_rises_half_of_the_tags_are_followed_and_the_interval_holds_it():
    rows = np.array([[k, 1.0] for k in (1, 4) for _ in range(10)])
    found = segment_tags.tag_followed(rows, [f"tune {i}" for i in range(20)], 4, 0.0)
    assert found["low"] <= found["value"] == 0.5 <= found["high"]
