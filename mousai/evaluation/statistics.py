"""How sure a number is: intervals by bootstrap, and by jackknife for distances, where a bootstrap is biased."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

DRAWS = 2000


def bootstrap(
    values: Sequence[float] | np.ndarray,
    seed: int = 0,
    groups: Sequence | None = None,
    statistic: Callable[[np.ndarray], float] = np.mean,
) -> tuple[float, float, float]:
    """(value, low, high): `statistic` of the values and its 95 % percentile interval over 2,000 resamples (ours).

    values [n, ...] are resampled along the first axis, with replacement. groups [n]: the piece each value comes from;
    whole pieces are then resampled, because four chunks of one piece are not four independent observations. Resamples
    whose statistic is nan are ignored. The same seed gives the same result. Raises ValueError for no values.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        raise ValueError("bootstrap of 0 values: there is nothing to average, ask for at least one clip")
    pieces = members(range(len(values)) if groups is None else groups)
    picks = np.random.default_rng(seed).integers(0, len(pieces), (DRAWS, len(pieces)))
    alone = all(len(piece) == 1 for piece in pieces)
    order = np.concatenate(pieces)
    draws = [statistic(values[order[row] if alone else np.concatenate([pieces[i] for i in row])]) for row in picks]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(statistic(values)), float(low), float(high)


def proportion(hits: np.ndarray, seed: int = 0, groups: Sequence | None = None) -> tuple[float, float, float]:
    """(share, low, high) of yes-or-no values [n]; `bootstrap`, except where all agree (ours).

    20 hits of 20 do not make a share of 1 certain, but every resample has 20 too. The exact binomial interval (Clopper
    and Pearson 1934) is used then, with the number of groups as the number of trials.
    """
    value, low, high = bootstrap(hits, seed, groups)
    if value in (0, 1):
        n = len(hits if groups is None else set(groups))
        low, high = binomtest(round(value) * n, n).proportion_ci(method="exact")
    return value, float(low), float(high)


def bootstrap_pair(
    a: np.ndarray,
    b: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int = 0,
    groups: Sequence | None = None,
) -> tuple[float, float, float]:
    """(value, low, high) of statistic(a, b) for two sets a [n, d], b [m, d], both resampled as in `bootstrap`.

    groups [n + m]: the pieces of a's rows, then of b's. Rows of both sets from one piece are drawn together.
    """
    stacked = np.concatenate([np.c_[np.zeros(len(a)), a], np.c_[np.ones(len(b)), b]])

    def both(rows: np.ndarray) -> float:
        first, second = rows[rows[:, 0] == 0, 1:], rows[rows[:, 0] == 1, 1:]
        return statistic(first, second) if len(first) and len(second) else np.nan

    return bootstrap(stacked, seed, groups, both)


def members(groups: Sequence) -> list[np.ndarray]:
    """For each group, in the order of the names, the positions of its members."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return [np.flatnonzero(index == i) for i in range(index.max() + 1)]


def jackknife(
    a: np.ndarray,
    b: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    groups: Sequence,
    blocks: int = 20,
) -> tuple[float, float, float]:
    """(value, low, high): statistic(a, b) of rows a [n, d], b [m, d], with 1.96 jackknife standard errors (ours).

    This is for distances between two sets. A bootstrap repeats rows, which shrinks a covariance and shifts the
    distance, so that its interval may miss the value itself. Here each of `blocks` blocks of pieces is left out of both
    sets once. groups [n + m]: the pieces of a's rows, then of b's. Low and high equal the value where there are too few
    pieces.
    """
    value = statistic(a, b)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    blocks = min(blocks, len(names))
    left_out = []
    for block in range(blocks):
        kept = place % blocks != block
        first, second = a[kept[: len(a)]], b[kept[len(a) :]]
        if min(len(first), len(second)) > 1:
            left_out.append(statistic(first, second))
    if len(left_out) < 2:
        return value, value, value
    spread = np.asarray(left_out) - np.mean(left_out)
    error = 1.96 * np.sqrt((len(left_out) - 1) / len(left_out) * (spread**2).sum())
    return value, float(value - error), float(value + error)


def t_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high) of a few independent values, such as training runs, with Student's 95 % interval.

    Low and high equal the mean where there is only one value.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    error = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - error, mean + error
