"""The Fréchet distance: closed forms and planted shifts."""

import math

import numpy as np
import pytest
import torch
from helpers.clips import clip_set
from numpy.testing import assert_allclose

from mousai.evaluation import (
    distance,
    mfcc,
)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2; independent axes add.
    base = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # both standard deviations sqrt(4/3)
    std = math.sqrt(4 / 3)
    a, b = base * [2.0, 0.5] + [1.0, 0.0], base * [3.0, 0.25] + [0.0, -2.0]
    expected = 1 + 4 + std**2 * ((2 - 3) ** 2 + (0.5 - 0.25) ** 2)
    assert_allclose(distance.frechet_distance(a, b), expected, rtol=1e-12)


def test_frechet_distance_agrees_with_the_matrix_square_root(rows):
    from scipy.linalg import sqrtm

    mix = np.random.default_rng(1).standard_normal((5, 5))
    other = rows[::-1] @ mix + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = distance.gaussian(rows), distance.gaussian(other)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert_allclose(distance.frechet_distance(rows, other), expected, rtol=1e-9)


def test_frechet_distance_is_zero_for_equal_sets_in_any_order(rows):
    assert_allclose(distance.frechet_distance(rows, rows[::-1]), 0, atol=1e-12)


def test_frechet_distance_finds_a_planted_shift(rows):
    assert_allclose(distance.frechet_distance(rows, rows + np.array([3, 0, 0, 4, 0])), 25, rtol=1e-9)


def test_frechet_distance_is_real_and_finite_with_fewer_rows_than_dimensions():
    few = np.random.default_rng(2).standard_normal((2, 6, 40))
    assert 0 < distance.frechet_distance(few[0], few[1]) < 1000


def test_frechet_distance_of_one_row_says_what_it_needs():
    with pytest.raises(ValueError, match="at least 2 rows"):
        distance.frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


class Level:
    """An embedding of two numbers: the level of each channel."""

    name, sha256 = "level", "0" * 64

    def embed_audio(self, w):
        return w.square().mean(dim=-1).sqrt()

    def embed_clips(self, clips):
        return torch.cat([self.embed_audio(clips[i][None]) for i in range(len(clips))]).numpy()


def test_all_rows_of_a_distance_have_equally_many_clips_and_a_louder_set_is_farther():
    waves = 0.1 * torch.randn(12, 2, 400, generator=torch.Generator().manual_seed(0))
    reference, short, louder = (clip_set(x, ["Pop"] * len(x)) for x in (waves[6:], waves[:5], 3 * waves))
    rows = distance.distances(Level(), {"real": short, "louder": louder}, reference)  # type: ignore[arg-type]
    for measure in ("fd", "kd"):
        assert [(row["n"], row["units"]) for row in rows[measure].values()] == [(5, 5), (5, 5)]
    assert rows["fd"]["louder"]["value"] > 0.05 > 100 * rows["fd"]["real"]["value"]
    assert rows["kd"]["louder"]["low"] > 0.05 > 10 * abs(rows["kd"]["real"]["value"])


def test_the_embedding_of_formulas_counts_in_units_of_the_references_spread():
    waves = 0.1 * torch.randn(6, 2, 9600, generator=torch.Generator().manual_seed(0))
    waves = waves * torch.linspace(0.5, 1, 6)[:, None, None]
    reference = clip_set(waves, ["Pop"] * 6)
    space = mfcc.MfccSpace(reference)
    assert_allclose(space.embed_clips(reference).std(axis=0), 1, rtol=1e-5)
    rows = distance.distances(space, {"real": reference, "louder": clip_set(3 * waves, ["Pop"] * 6)}, reference)
    assert rows["fd"]["real"]["value"] < 1e-4 < 1 < rows["fd"]["louder"]["value"]
