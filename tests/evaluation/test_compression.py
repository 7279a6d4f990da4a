"""What survives the compression, and what half of it costs."""

import numpy as np
from numpy.testing import assert_allclose

from mousai.evaluation import compression
from mousai.evaluation.real import original_set


def tone(hertz: float, loud: float = 0.3) -> np.ndarray:
    time = np.arange(48_000) / 48_000
    return np.tile(loud * np.sin(2 * np.pi * hertz * time), (2, 1)).astype(np.float32)


def test_bass_is_the_level_below_250_hertz_alone():
    low, high = tone(100), tone(1000)
    assert compression.bass_db(low, low) == 0
    assert_allclose(compression.bass_db(2 * low, low), 20 * np.log10(2), rtol=1e-3)
    assert compression.bass_db(low + high, low) < 0.5
    assert compression.bass_db(high, low) > 20


def test_an_original_keeps_everything_and_half_the_compression_costs_less(work):
    originals = original_set(work)
    found = compression.kept(originals, originals)
    assert_allclose([found[name]["value"] for name in compression.ERRORS], 1, atol=1e-5)
    assert_allclose(found["onset_minus_chroma"]["value"], 0, atol=1e-5)
    rows = compression.half_the_compression(work)
    difference = rows["32x_minus_64x"]["logmel_l1"]["value"]
    assert_allclose(difference, rows["32x"]["logmel_l1"]["value"] - rows["64x"]["logmel_l1"]["value"], atol=1e-6)
    assert difference < 0 and rows["32x"]["chroma"]["n"] == min(compression.CLIPS, len(originals))
