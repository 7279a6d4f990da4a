"""Figure 6: how loud the segments "1 of n" to "n of n" are, in what we generate and in real music; and how loud all is.

The paper says "mean amplitude and variation" and gives no unit [?]; here are root mean square and mean |x|, both of the
raw samples in both channels, and the variation is the standard deviation from clip to clip (ours).
"""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.config import Profile
from mousai.data.embedded import data_dir, load_records
from mousai.data.records import load_chunk
from mousai.evaluation.statistics import bootstrap, bootstrap_pair
from mousai.files import home
from mousai.shapes import Latent

MEASURES = ("rms", "mean_abs")
FRAMES, FLOOR = 16, 1e-3  # of `slope`: equal parts of a clip; -60 dB, so that silence stays finite


def amplitude(w: Tensor) -> tuple[float, float]:
    """(root mean square, mean |x|) of one clip w [2, time], in the unit of its samples, full scale 1."""
    w = w.detach().double()
    return float(w.square().mean().sqrt()), float(w.abs().mean())


def clipped(w: Tensor) -> float:
    """Share of the samples of w that a file cannot hold: beyond -1 or 1."""
    return float((w.abs() > 1).double().mean())


def side_over_mid(w: Tensor) -> float:
    """Energy of left minus right over that of left plus right, of all clips w [batch, 2, time]; 0 is mono, 1 unlike."""
    left, right = w.double().unbind(1)
    return float((left - right).square().sum() / (left + right).square().sum())


def level_db(ours: np.ndarray, real: np.ndarray) -> float:
    """Level of all clips of ours over that of all real ones in decibels, from each clip's rms; silence is -120 dB."""
    level = [20 * np.log10(np.sqrt(np.mean(np.square(rms))) + 1e-6) for rms in (ours, real)]
    return float(level[0] - level[1])


def segments(
    values: np.ndarray, ks: Sequence[int], chunks: int, seed: int = 0, groups: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Mean, its 95 % interval and the standard deviation for each segment k = 1..chunks.

    values [n]: one amplitude a clip; ks [n]: which segment it is; groups [n]: its tune, as `bootstrap` wants it.
    Raises ValueError where a segment has no clip.
    """
    table: dict[str, list[float]] = {"mean": [], "low": [], "high": [], "std": []}
    for k in range(1, chunks + 1):
        here = np.asarray(ks) == k
        part = np.asarray(values, dtype=np.float64)[here]
        tunes = None if groups is None else np.asarray(groups)[here].tolist()
        if len(part) == 0:
            raise ValueError(f'no clip is segment "{k} of {chunks}": ask for at least {chunks} clips')
        for key, number in zip(("mean", "low", "high"), bootstrap(part, seed, tunes), strict=True):
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
    generated: np.ndarray, real: np.ndarray, chunks: int, seed: int = 0, groups: Sequence[str] | None = None
) -> tuple[float, float, float]:
    """(r, low, high): how alike the two amplitude profiles are, with a bootstrap over the clips of both sets.

    generated [n, 2] and real [m, 2] hold (k, amplitude) for each clip; `groups` as in `bootstrap_pair`.
    """

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return correlation(profile_of(a, chunks), profile_of(b, chunks))

    return bootstrap_pair(generated, real, statistic, seed, groups)


def slope(w: Tensor) -> float:
    """By how many powers of ten the level of one clip w [2, time] rises from its beginning to its end (ours).

    The least-squares slope of log10(rms + 1e-3) over 16 equal parts; 0 for silence, negative where it falls.
    """
    parts = w.detach().double()[:, : w.shape[-1] // FRAMES * FRAMES].unflatten(1, (FRAMES, -1))
    level = torch.log10(parts.square().mean(dim=(0, 2)).sqrt() + FLOOR)
    place = (torch.arange(FRAMES, dtype=torch.float64) + 0.5) / FRAMES - 0.5
    return float((place * level).sum() / place.square().sum())


def tag_share(rows: np.ndarray, chunks: int, threshold: float) -> float:
    """How often "1 of n" is told from "n of n" by ear: the mean of the two tags' shares, so chance is exactly 0.5.

    rows [n, 2] of (k, slope). A beginning is followed by a slope above the threshold, an ending by one that is not;
    other tags do not count. nan where one of the two has no clip.
    """
    first, last = (rows[rows[:, 0] == k, 1] > threshold for k in (1, chunks))
    return float((first.mean() + 1 - last.mean()) / 2) if len(first) and len(last) else np.nan


def tag_threshold(rows: np.ndarray, chunks: int) -> float:
    """The slope that tells beginnings from endings best in rows [n, 2] of (k, slope); the middle one of equals."""
    slopes = np.unique(rows[np.isin(rows[:, 0], (1, chunks)), 1])
    between = (slopes[1:] + slopes[:-1]) / 2
    shares = np.array([tag_share(rows, chunks, threshold) for threshold in between])
    return float(np.median(between[shares == shares.max()]))


def tag_followed(
    rows: np.ndarray, titles: Sequence[str], chunks: int, threshold: float, seed: int = 0
) -> dict[str, float]:
    """{value, low, high, n} of `tag_share`; n counts the clips of the two tags, whole tunes are resampled."""
    ends = np.isin(rows[:, 0], (1, chunks))
    share = lambda part: tag_share(part, chunks, threshold)  # noqa: E731
    value, low, high = bootstrap(rows[ends], seed, np.asarray(titles)[ends].tolist(), share)
    return {"value": value, "low": low, "high": high, "n": int(ends.sum())}


def tag_dealt(rows: np.ndarray, chunks: int, threshold: float, seed: int = 0, deals: int = 500) -> dict[str, float]:
    """The floor: `tag_share` with the two tags dealt to the clips at random, mean and 95 % of the deals."""
    ends, rng = rows[np.isin(rows[:, 0], (1, chunks))], np.random.default_rng(seed)
    shares = [tag_share(np.c_[rng.permutation(ends[:, 0]), ends[:, 1]], chunks, threshold) for _ in range(deals)]
    low, high = np.percentile(shares, [2.5, 97.5])
    return {"value": float(np.mean(shares)), "low": float(low), "high": float(high), "n": len(ends)}


def train_slopes(profile: Profile) -> np.ndarray:
    """(k, slope) of the first and the last chunk of every train piece [2 pieces, 2]; computed once, then read."""
    path = home() / "listeners" / f"slopes-{data_dir(profile).name}.safetensors"
    if not path.is_file():
        root, records = data_dir(profile), load_records(profile, "train")
        items = [(record, k) for record in records for k in (1, record.chunks)]
        rows = [(float(k), slope(torch.from_numpy(load_chunk(record, k, root)))) for record, k in items]
        save_tensors({"rows": torch.tensor(rows, dtype=torch.float64)}, path)
    return load_file(path)["rows"].numpy()


def ends(z: Latent) -> np.ndarray:
    """Each channel's mean over the first and over the last quarter of a clip: z [n, channels, steps] to
    [n, 2 channels], first quarters first.
    """
    quarter = z.shape[-1] // 4
    return torch.cat([z[..., :quarter].mean(dim=-1), z[..., -quarter:].mean(dim=-1)], dim=1).double().cpu().numpy()


def ends_agree(rows: np.ndarray) -> float:
    """How much the end of a clip knows of its beginning (ours): the correlation over clips of the two quarters' means,
    averaged over channels; rows as `ends` gives them. About 0 where the ends were made apart, 1 where nothing changes.
    """
    first, last = np.split(rows - rows.mean(axis=0), 2, axis=1)
    scale = np.sqrt((first**2).sum(axis=0) * (last**2).sum(axis=0))
    return float(((first * last).sum(axis=0) / np.maximum(scale, 1e-12)).mean())
