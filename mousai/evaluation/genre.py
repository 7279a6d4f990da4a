"""Figure 5: which genre a classifier chooses for a clip, as a confusion matrix with accuracy and Cohen's kappa.

The classifiers are the in-domain audio-text model, zero-shot, and one on MFCC statistics (`mfcc`).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.samples import ClipSet

Matrix = Int[np.ndarray, "genres genres"]


def confusion(true: Sequence[str], chosen: Sequence[str], genres: Sequence[str]) -> Matrix:
    """Counts: rows are the prompted genres, columns the chosen ones, both in the order of `genres`.

    Raises ValueError for a genre that is not listed, or where the lists differ in length.
    """
    if len(true) != len(chosen):
        raise ValueError(f"{len(true)} true genres and {len(chosen)} choices: one choice a clip is needed")
    unknown = sorted((set(true) | set(chosen)) - set(genres))
    if unknown:
        raise ValueError(f"unknown genre {unknown[0]!r}: choose from {', '.join(genres)}")
    matrix = np.zeros((len(genres), len(genres)), dtype=np.int64)
    for row, column in zip(true, chosen, strict=True):
        matrix[genres.index(row), genres.index(column)] += 1
    return matrix


def accuracy(matrix: Matrix) -> float:
    """Share of clips on the diagonal; chance is 1/n with n genres, 1/4 in Figure 5."""
    return float(np.trace(matrix) / matrix.sum())


def kappa(matrix: Matrix) -> float:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e): agreement beyond what the row and column totals give by chance.

    0 where all clips are in one cell of the diagonal, because then nothing is distinguished.
    """
    total = matrix.sum()
    expected = float((matrix.sum(axis=0) * matrix.sum(axis=1)).sum() / total**2)
    return 0.0 if expected == 1 else (accuracy(matrix) - expected) / (1 - expected)


def hits(true: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    """[n]: 1.0 where the classifier chose the prompted genre, else 0.0; an input for `bootstrap`."""
    return np.array([float(a == b) for a, b in zip(true, chosen, strict=True)])


def accuracy_ratio(decoded: np.ndarray, original: np.ndarray) -> float:
    """Accuracy on decoded clips over that on their originals, from `hits` [n] of both: 1 means that no genre is lost.

    nan where no original is a hit.
    """
    return float(decoded.mean() / original.mean()) if original.any() else float("nan")


def zero_shot_genres(model: InDomain, clips: ClipSet, genres: Sequence[str]) -> list[str]:
    """Zero-shot classification: for each clip the genre whose name has the largest cosine with the clip."""
    nearest = model.embed_clips(clips) @ model.embed_text(list(genres)).numpy().T
    return [genres[int(i)] for i in nearest.argmax(axis=1)]
