"""Figure 6: how loud the segments "1 of n" to "n of n" are, in what we generate and in real music.

The paper says "mean amplitude and variation" and gives no unit [?]; here are root mean square and mean |x|, both of the
raw samples in both channels, and the variation is the standard deviation from clip to clip (ours).
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from mousai.evaluation.statistics import bootstrap

MEASURES = ("rms", "mean_abs")


def amplitude(w: Tensor) -> tuple[float, float]:
    """(root mean square, mean |x|) of one clip w [2, time], in the unit of its samples, full scale 1."""
    w = w.detach().double()
    return float(w.square().mean().sqrt()), float(w.abs().mean())


def segments(values: np.ndarray, ks: Sequence[int], chunks: int, seed: int = 0) -> dict[str, list[float]]:
    """Mean, its 95 % interval and the standard deviation for each segment k = 1..chunks.

    values [n]: one amplitude a clip; ks [n]: which segment it is. Raises ValueError where a segment has no clip.
    """
    table: dict[str, list[float]] = {"mean": [], "low": [], "high": [], "std": []}
    for k in range(1, chunks + 1):
        part = np.asarray(values, dtype=np.float64)[np.asarray(ks) == k]
        if len(part) == 0:
            raise ValueError(f'no clip is segment "{k} of {chunks}": ask for at least {chunks} clips')
        for key, number in zip(("mean", "low", "high"), bootstrap(part, seed), strict=True):
            table[key].append(number)
        table["std"].append(float(part.std(ddof=1)) if len(part) > 1 else 0.0)
    return table


def profile_of(rows: np.ndarray, chunks: int) -> np.ndarray:
    """Mean amplitude of each segment [chunks] from rows [n, 2] of (k, amplitude); nan where a segment is missing."""
    k = rows[:, 0].astype(int)
    counts, sums = np.bincount(k, minlength=chunks + 1), np.bincount(k, rows[:, 1], minlength=chunks + 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)[1:]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two amplitude profiles [chunks], in [-1, 1]; 0 where one is flat, because it has no shape.

    With four segments this is a coarse number: r of two random profiles is above 0.9 one time in twenty.
    """
    both = np.isfinite(a) & np.isfinite(b)
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale > 1e-12 else 0.0


def shape_correlation(
    generated: np.ndarray, real: np.ndarray, chunks: int, seed: int = 0
) -> tuple[float, float, float]:
    """(r, low, high): how alike the two amplitude profiles are, with a bootstrap over the clips of both sets.

    generated [n, 2] and real [m, 2] hold (k, amplitude) for each clip.
    """
    stacked = np.concatenate([np.c_[generated, np.zeros(len(generated))], np.c_[real, np.ones(len(real))]])

    def statistic(rows: np.ndarray) -> float:
        return correlation(profile_of(rows[rows[:, 2] == 0], chunks), profile_of(rows[rows[:, 2] == 1], chunks))

    return bootstrap(stacked, seed, statistic=statistic)
