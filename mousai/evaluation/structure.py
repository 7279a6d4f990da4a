"""Figure 6: the level of the segments "1 of n" to "n of n", and of all clips, in generated and in real music.

The paper says "mean amplitude and variation" and gives no unit [?]. Amplitude is here the root mean square of the raw
samples in both channels, full scale 1, and the variation is its standard deviation from clip to clip (ours).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mousai.evaluation.statistics import bootstrap, bootstrap_pair
from mousai.shapes import Latent

Statistic = Callable[[np.ndarray, np.ndarray], float]  # of two sets [n, 1], [m, 1]


def amplitude(w: Tensor) -> float:
    """Root mean square of one clip w [2, time]; full scale is 1."""
    return float(w.detach().double().square().mean().sqrt())


def clipped(w: Tensor) -> float:
    """Share of the samples of w beyond -1 or 1, which a file would clip."""
    return float((w.abs() > 1).double().mean())


def level_db(ours: np.ndarray, real: np.ndarray) -> float:
    """Level of all our clips minus that of all real ones, in dB, from each clip's rms [n], [m]; silence is -120 dB."""
    level = [20 * np.log10(np.sqrt(np.mean(np.square(rms))) + 1e-6) for rms in (ours, real)]
    return float(level[0] - level[1])


def spread(values: np.ndarray) -> float:
    """Standard deviation from clip to clip; 0 for a single clip."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def variation_ratio(ours: np.ndarray, real: np.ndarray) -> float:
    """Our standard deviation from clip to clip over that of real clips; nan where real clips don't vary."""
    below = spread(real.ravel())
    return spread(ours.ravel()) / below if below > 0 else float("nan")


def segments(
    rows: np.ndarray,
    chunks: int,
    groups: Sequence[str],
    statistic: Callable[[np.ndarray], float] = np.mean,
    seed: int = 0,
) -> dict[str, list[float]]:
    """`statistic` of the amplitudes of each segment k = 1..chunks: {value, low, high}, each a list over segments.

    rows [n, 2] of (k, amplitude), one a clip; groups [n]: each clip's tune, as in `bootstrap`. Raises ValueError where
    a segment has no clip.
    """
    table: dict[str, list[float]] = {"value": [], "low": [], "high": []}
    for k in range(1, chunks + 1):
        here = rows[:, 0] == k
        if not here.any():
            raise ValueError(f'no clip is segment "{k} of {chunks}": ask for at least {chunks} clips')
        numbers = bootstrap(rows[here, 1], seed, np.asarray(groups)[here].tolist(), statistic)
        for key, number in zip(table, numbers, strict=True):
            table[key].append(number)
    return table


def shape_differences(rows: np.ndarray, chunks: int, groups: Sequence[str], seed: int = 0) -> dict[str, dict]:
    """What Figure 6 shows, as differences of amplitude, above 0 where it holds: {value, low, high} each (ours).

    intro: segment 2 less segment 1. body: the quietest inner segment less the louder end. ending: the last segment but
    one less the last. rows [n, 2] of (k, amplitude) and groups [n] as in `segments`.
    """
    of_profile = {
        "intro": lambda a: a[1] - a[0],
        "body": lambda a: a[1:-1].min() - max(a[0], a[-1]),
        "ending": lambda a: a[-2] - a[-1],
    }
    found = {}
    for name, difference in of_profile.items():
        statistic = lambda part: float(difference(profile_of(part, chunks)))  # noqa: B023, E731
        found[name] = dict(zip(("value", "low", "high"), bootstrap(rows, seed, groups, statistic), strict=True))
    return found


def beside_real(
    ours: np.ndarray, real: np.ndarray, groups: Sequence[str], statistic: Statistic, seed: int = 0
) -> list[dict[str, float]]:
    """`statistic` of our amplitudes and real ones, for each segment of the real ones: {value, low, high, n, units}.

    ours [n, 2] and real [m, 2] of (k, amplitude); `groups` as in `bootstrap_pair`. n counts our clips, units their
    tunes.
    """
    tunes = np.asarray(groups)
    found = []
    for k in np.unique(real[:, 0]):
        mine, theirs = ours[:, 0] == k, real[:, 0] == k
        names = [*tunes[: len(ours)][mine], *tunes[len(ours) :][theirs]]
        value, low, high = bootstrap_pair(ours[mine, 1:], real[theirs, 1:], statistic, seed, names)
        units = len(set(names[: mine.sum()]))
        found.append({"value": value, "low": low, "high": high, "n": int(mine.sum()), "units": units})
    return found


def profile_of(rows: np.ndarray, chunks: int) -> np.ndarray:
    """Mean amplitude of each segment [chunks] from rows [n, 2] of (k, amplitude); nan where a segment is missing."""
    k = rows[:, 0].astype(int)
    counts, sums = np.bincount(k, minlength=chunks + 1), np.bincount(k, rows[:, 1], minlength=chunks + 1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)[1:]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two amplitude profiles [chunks], in [-1, 1]; 0 where one of them is constant.

    With four segments this is coarse: r of two random profiles is above 0.9 one time in twenty.
    """
    both = np.isfinite(a) & np.isfinite(b)
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale > 1e-12 else 0.0


def shape_correlation(
    generated: np.ndarray, real: np.ndarray, chunks: int, seed: int = 0, groups: Sequence[str] | None = None
) -> tuple[float, float, float]:
    """(r, low, high): the correlation of the two sets' amplitude profiles, with a bootstrap over both sets.

    generated [n, 2] and real [m, 2] of (k, amplitude), one a clip; `groups` as in `bootstrap_pair`.
    """

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return correlation(profile_of(a, chunks), profile_of(b, chunks))

    return bootstrap_pair(generated, real, statistic, seed, groups)


def ends(z: Latent) -> np.ndarray:
    """[n, 2 channels]: each channel's mean over the first quarter of z [n, channels, steps], then over the last."""
    quarter = z.shape[-1] // 4
    return torch.cat([z[..., :quarter].mean(dim=-1), z[..., -quarter:].mean(dim=-1)], dim=1).double().cpu().numpy()


def ends_agree(rows: np.ndarray) -> float:
    """How well the end of a clip fits its beginning (ours): the correlation over clips of the first and the last
    quarter's mean, averaged over channels. rows: as `ends` returns them. About 0 where both ends are independent, 1
    where nothing changes.
    """
    first, last = np.split(rows - rows.mean(axis=0), 2, axis=1)
    scale = np.sqrt((first**2).sum(axis=0) * (last**2).sum(axis=0))
    return float(((first * last).sum(axis=0) / np.maximum(scale, 1e-12)).mean())
