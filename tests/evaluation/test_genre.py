"""Confusion, accuracy and kappa by hand; MFCC features."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mousai.config import GENRES
from mousai.evaluation import (
    genre,
    mfcc,
)


def test_kappa_by_hand():
    # Cohen's own kind of example: agreement 0.7; by chance (25*30 + 25*20)/50^2 = 0.5; kappa 0.4.
    matrix = np.array([[20, 5], [10, 15]])
    assert_allclose([genre.accuracy(matrix), genre.kappa(matrix)], [0.7, 0.4], rtol=1e-12)


def test_kappa_is_one_on_the_diagonal_and_zero_where_every_choice_is_the_same():
    assert genre.kappa(np.diag([3, 4, 5, 6])) == 1
    assert_allclose(genre.kappa(genre.confusion(list(GENRES) * 5, ["Pop"] * 20, GENRES)), 0, atol=1e-12)


def test_confusion_counts_rows_as_true_and_columns_as_chosen():
    matrix = genre.confusion(["Metal", "Metal", "Pop"], ["Pop", "Metal", "Pop"], GENRES)
    assert matrix[GENRES.index("Metal"), GENRES.index("Pop")] == 1
    assert matrix.sum() == 3 and matrix[GENRES.index("Pop")].tolist() == [0, 0, 0, 1]


def test_confusion_refuses_an_unknown_genre():
    with pytest.raises(ValueError, match="unknown genre 'Jazz'"):
        genre.confusion(["Jazz"], ["Pop"], GENRES)


def test_mfcc_features_do_not_depend_on_the_channels_order():
    w = 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    assert_allclose(mfcc.mfcc_features(w), mfcc.mfcc_features(w.flip(0)), rtol=1e-6)
    assert mfcc.mfcc_features(w).shape == (40,)


def test_genre_kept_is_the_share_after_over_the_share_before():
    assert_allclose(genre.accuracy_ratio(np.array([[1.0], [0], [1], [0]]), np.array([[1.0], [1], [1], [1]])), 0.5)
    assert math.isnan(genre.accuracy_ratio(np.ones((2, 1)), np.zeros((2, 1))))
