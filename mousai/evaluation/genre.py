"""Figure 5: which of four genres a listener hears. Listeners are the judge's forced choice and an MFCC classifier."""

from collections.abc import Sequence

import librosa
import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.config import Profile
from mousai.data.clips import Chunks
from mousai.data.embedded import data_dir, load_records
from mousai.evaluation.judge import Judge
from mousai.evaluation.samples import ClipSet
from mousai.files import home
from mousai.progress import progress_bar
from mousai.small.profiles import GENRES

Matrix = Int[np.ndarray, "genres genres"]


def confusion(true: Sequence[str], chosen: Sequence[str], genres: Sequence[str] = GENRES) -> Matrix:
    """Counts, rows the genre asked for, columns the genre chosen. Raises ValueError on a genre that is not listed."""
    if len(true) != len(chosen):
        raise ValueError(f"{len(true)} true genres and {len(chosen)} choices: one choice a clip is needed")
    if unknown := (set(true) | set(chosen)) - set(genres):
        raise ValueError(f"unknown genre {sorted(unknown)[0]!r}: choose from {', '.join(genres)}")
    matrix = np.zeros((len(genres), len(genres)), dtype=np.int64)
    for row, column in zip(true, chosen, strict=True):
        matrix[genres.index(row), genres.index(column)] += 1
    return matrix


def accuracy(matrix: Matrix) -> float:
    """Share of clips on the diagonal; chance is 1/4 with four genres."""
    return float(np.trace(matrix) / matrix.sum())


def kappa(matrix: Matrix) -> float:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e): agreement beyond what the row and column totals give by chance.

    0 where rows and columns are one and the same genre only, because there is nothing to tell apart.
    """
    total = matrix.sum()
    expected = float((matrix.sum(axis=0) * matrix.sum(axis=1)).sum() / total**2)
    return 0.0 if expected == 1 else (accuracy(matrix) - expected) / (1 - expected)


def hits(true: Sequence[str], chosen: Sequence[str]) -> np.ndarray:
    """1.0 where the listener chose the genre asked for, else 0.0 [n]: what `bootstrap` takes."""
    return np.array([float(a == b) for a, b in zip(true, chosen, strict=True)])


def kept(decoded: np.ndarray, original: np.ndarray) -> float:
    """Share of hits on decoded clips over the share on their originals: 1 loses no genre; nan without a hit there."""
    return float(decoded.mean() / original.mean()) if original.any() else float("nan")


def judge_choices(judge: Judge, clips: ClipSet) -> list[str]:
    """Forced choice of the judge: the genre name whose text vector lies nearest in angle."""
    nearest = judge.embed_clips(clips) @ judge.embed_text(list(GENRES)).numpy().T
    return [GENRES[i] for i in nearest.argmax(axis=1)]


def mfcc_features(w: Tensor, sample_rate: int = 48_000) -> np.ndarray:
    """Mean and standard deviation over time of 20 MFCCs of the mono mix [40], w [2, time].

    The first coefficient is loudness; level is left raw, as everywhere.
    """
    mono = w.mean(dim=0).numpy()
    mfcc = librosa.feature.mfcc(y=mono, sr=sample_rate, n_mfcc=20, n_fft=2048, hop_length=1024)
    return np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def mfcc_listener(profile: Profile) -> Pipeline:
    """Standardised MFCC statistics and logistic regression, fitted on real train music only.

    Features are read from disk if they were computed before; the fit itself is exact and takes milliseconds.
    """
    path = home() / "listeners" / f"mfcc-chunks-{data_dir(profile).name}.safetensors"
    if not path.is_file():
        save_tensors(training_features(profile), path)
    table = load_file(path)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=profile.seed))
    return model.fit(table["features"].numpy(), [GENRES[i] for i in table["labels"].tolist()])


def training_features(profile: Profile) -> dict[str, Tensor]:
    """Every chunk of every train piece: features [n, 40] and the genre's number [n].

    All of them: one a piece, in turn, would make one genre all beginnings and another all endings.
    """
    chunks = Chunks(load_records(profile, "train"), data_dir(profile))
    bar = progress_bar(chunks, "MFCCs of train")
    rows = [(mfcc_features(torch.from_numpy(w)), GENRES.index(record.genre)) for record, _, w in bar]
    features, labels = zip(*rows, strict=True)
    return {"features": torch.from_numpy(np.stack(features)), "labels": torch.tensor(labels)}


def mfcc_rows(clips: ClipSet) -> np.ndarray:
    """`mfcc_features` of every clip of a set, read one at a time: [n, 40]."""
    return np.stack([mfcc_features(clips[i]) for i in range(len(clips))])


def mfcc_choices(listener: Pipeline, clips: ClipSet) -> list[str]:
    """Forced choice of the MFCC listener."""
    return [str(genre) for genre in listener.predict(mfcc_rows(clips))]


class MfccSpace:
    """An embedding of formulas alone, which has learned nothing from our music: the statistics of `mfcc_features`,
    each in units of its standard deviation over `reference`.
    """

    def __init__(self, reference: ClipSet):
        self.spread = mfcc_rows(reference).std(axis=0)

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """Every clip of a set: [n, 40]."""
        return mfcc_rows(clips) / self.spread
