"""Is the segment tag followed (ours)? Clips tagged "1 of n" should rise in level, clips tagged "n of n" should fall."""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.data.dataset import Workspace
from mousai.data.records import load_chunk
from mousai.evaluation.statistics import bootstrap, proportion

FRAMES = 16  # equal parts of a clip
FLOOR = 1e-3  # -60 dB, so that silence stays finite


def slope(w: Tensor) -> float:
    """By how many decades the level of one clip w [2, time] rises from its beginning to its end (ours).

    The least-squares slope of log10(rms + 1e-3) over 16 equal parts; 0 for silence, negative where it falls.
    """
    parts = w.detach().double()[:, : w.shape[-1] // FRAMES * FRAMES].unflatten(1, (FRAMES, -1))
    level = torch.log10(parts.square().mean(dim=(0, 2)).sqrt() + FLOOR)
    place = (torch.arange(FRAMES, dtype=torch.float64) + 0.5) / FRAMES - 0.5
    return float((place * level).sum() / place.square().sum())


def tag_share(rows: np.ndarray, chunks: int, threshold: float) -> float:
    """How often the tags "1 of n" and "n of n" are followed: the mean of the two tags' shares, so that chance is 0.5.

    rows [clips, 2] of (k, slope). "1 of n" is followed where the slope is above the threshold, "n of n" where it is
    not; other tags do not count. nan where one of the two has no clip.
    """
    first, last = (rows[rows[:, 0] == k, 1] > threshold for k in (1, chunks))
    return float((first.mean() + 1 - last.mean()) / 2) if len(first) and len(last) else np.nan


def tag_threshold(rows: np.ndarray, chunks: int) -> float:
    """The threshold with the largest `tag_share` on rows [clips, 2] of (k, slope); of several the median."""
    slopes = np.unique(rows[np.isin(rows[:, 0], (1, chunks)), 1])
    between = (slopes[1:] + slopes[:-1]) / 2
    shares = np.array([tag_share(rows, chunks, threshold) for threshold in between])
    return float(np.median(between[shares == shares.max()]))


def tag_followed(
    rows: np.ndarray, titles: Sequence[str], chunks: int, threshold: float, seed: int = 0
) -> dict[str, float]:
    """{value, low, high, n} of `tag_share`: n counts the clips of the two tags; whole tunes are resampled.

    titles [clips]: the tune of each row.
    """
    ends = np.isin(rows[:, 0], (1, chunks))

    def both(part: np.ndarray) -> float:
        return tag_share(part, chunks, threshold)

    tunes = np.asarray(titles)[ends].tolist()
    value, low, high = bootstrap(rows[ends], seed, tunes, both)
    if value in (0, 1):  # every tag is followed, or none
        value, low, high = proportion(np.full(len(tunes), value), seed, tunes)
    return {"value": value, "low": low, "high": high, "n": int(ends.sum())}


def tag_permuted(rows: np.ndarray, chunks: int, threshold: float, seed: int = 0, draws: int = 500) -> dict[str, float]:
    """The floor: `tag_share` with the two tags permuted at random over the clips; mean of the draws and their central
    95 %.
    """
    ends = rows[np.isin(rows[:, 0], (1, chunks))]
    rng = np.random.default_rng(seed)
    shares = [tag_share(np.c_[rng.permutation(ends[:, 0]), ends[:, 1]], chunks, threshold) for _ in range(draws)]
    low, high = np.percentile(shares, [2.5, 97.5])
    return {"value": float(np.mean(shares)), "low": float(low), "high": float(high), "n": len(ends)}


def train_slopes(work: Workspace) -> np.ndarray:
    """(k, slope) of the first and the last chunk of every train piece [2 pieces, 2]; cached."""
    path = work.runs / "slopes" / f"{work.data.key}.safetensors"
    if not path.is_file():
        items = [(record, k) for record in work.data.records("train") for k in (1, record.chunks)]
        rows = [(float(k), slope(torch.from_numpy(load_chunk(record, k, work.root)))) for record, k in items]
        save_tensors({"rows": torch.tensor(rows, dtype=torch.float64)}, path)
    return load_file(path)["rows"].numpy()
