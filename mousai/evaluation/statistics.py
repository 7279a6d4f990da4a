"""How sure a mean is: a bootstrap over items, and a jackknife for what the bootstrap cannot do."""

from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 2000


def bootstrap(
    values: Sequence[float] | np.ndarray,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    statistic: Callable[[np.ndarray], float] = np.mean,
) -> tuple[float, float, float]:
    """(value, low, high): `statistic` of the values and its 95 % percentile interval over 2,000 resamples (ours).

    values [n, ...], resampled along the first axis, with replacement. `groups` [n] names the piece each value comes
    from: whole pieces are then resampled, because four chunks of one piece are not four independent listeners.
    A resample for which the statistic is nan is passed over. The same seed gives the same bits. Raises ValueError on an
    empty set.
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


def bootstrap_pair(
    a: np.ndarray,
    b: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> tuple[float, float, float]:
    """(value, low, high) of statistic(a, b) for two sets a [n, d], b [m, d], both resampled as in `bootstrap`.

    `groups` names the pieces of a's rows, then of b's: what two sets have of one piece is drawn together.
    """
    stacked = np.concatenate([np.c_[np.zeros(len(a)), a], np.c_[np.ones(len(b)), b]])

    def both(rows: np.ndarray) -> float:
        first, second = rows[rows[:, 0] == 0, 1:], rows[rows[:, 0] == 1, 1:]
        return statistic(first, second) if len(first) and len(second) else np.nan

    return bootstrap(stacked, seed, groups, both)


def members(groups: Sequence) -> list[np.ndarray]:
    """For each group, in order of its name, the positions where it stands."""
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return [np.flatnonzero(index == i) for i in range(index.max() + 1)]


def jackknife(
    statistic: Callable[[np.ndarray], float], rows: np.ndarray, blocks: int = 20
) -> tuple[float, float, float]:
    """(value, low, high): `statistic` of rows [n, d] with value -+ 1.96 jackknife standard errors, never below 0.

    For the Frechet distance: a resample repeats rows, which shrinks its covariance and shifts the distance, so a
    bootstrap interval would miss the value itself. Here 20 times one block is left out instead (ours).
    """
    value = statistic(rows)
    blocks = min(blocks, len(rows))
    kept = [np.delete(rows, np.arange(start, len(rows), blocks), axis=0) for start in range(blocks)]
    left_out = np.array([statistic(part) for part in kept if len(part)])
    if len(left_out) < 2:
        return value, value, value
    error = np.sqrt((len(left_out) - 1) / len(left_out) * ((left_out - left_out.mean()) ** 2).sum())
    return value, float(max(value - 1.96 * error, 0.0)), float(value + 1.96 * error)
