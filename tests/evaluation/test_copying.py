"""Distance to the nearest training clip."""

import numpy as np
import pytest
from helpers.clips import no_words
from numpy.testing import assert_allclose

from mousai.evaluation import copying, in_domain


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


def test_a_copy_is_at_distance_zero_and_another_direction_is_not():
    train = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert_allclose(copying.nearest(np.array([[3.0, 0, 0], [1, 1, 0], [0, 0, 2]]), train), [0, 1 - 0.5**0.5, 1])


def test_copying_ratio_is_that_of_the_medians():
    real, titles = np.array([0.2, 0.4, 0.4, 0.9]), [f"tune {i}" for i in range(8)]
    assert copying.copying_ratio(np.zeros(4), real, titles) == (0, 0, 0)
    value, low, high = copying.copying_ratio(np.array([0.1, 0.2, 0.2, 5]), real, titles)
    assert_allclose(value, 0.5) and low < 0.5 < high


def test_training_clips_are_embedded_once_and_a_planted_one_is_found(work, monkeypatch):
    model = in_domain.InDomain(in_domain.InDomainNet().eval(), no_words, "0" * 64, {})
    rows, seconds = copying.train_embeddings(work, model)
    monkeypatch.setattr(in_domain.InDomain, "embed_audio", lambda *_: pytest.fail("embedded again"))
    again, same = copying.train_embeddings(work, model)
    assert len(rows) == 4 * len(work.data.records("train")) and seconds == same > 0
    assert_allclose(again, rows)
    assert_allclose(copying.nearest(rows[3:4], rows), 0, atol=1e-6)


def test_planted_copies_are_of_different_tunes_and_are_changed(work):
    chunks = work.data.chunks("train", 8)
    for change in copying.COPIES.values():
        w = chunks[0][2][:, :48_000]
        changed = change(w)
        assert changed.shape[0] == 2 and changed.dtype == np.float32 and np.isfinite(changed).all()
        assert changed.shape != w.shape or np.abs(changed - w).max() > 0.01


def test_a_twentieth_of_real_music_lies_below_the_threshold_of_a_copy():
    real = np.linspace(0.1, 0.5, 401)
    assert_allclose((real < copying.threshold(real)).mean(), 0.05, atol=0.003)


def test_diversity_tells_clips_of_one_prompt_from_those_of_others():
    rows = np.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    assert_allclose(copying.diversity(rows, ["a", "a", "b", "b"], same=True), 0, atol=1e-12)
    assert_allclose(copying.diversity(rows, ["a", "a", "b", "b"], same=False), 1)
    assert np.isnan(copying.diversity(rows, ["a", "b", "c", "d"], same=True)).all()
