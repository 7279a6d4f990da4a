"""MFCC statistics: a genre classifier and an embedding that are independent of our models.

They use forty features of a clip: mean and standard deviation over time of 20 coefficients of the mono mix.
"""

import librosa
import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.data.dataset import Workspace
from mousai.evaluation.samples import ClipSet
from mousai.progress import progress_bar


def mfcc_features(w: Tensor, sample_rate: int = 48_000) -> np.ndarray:
    """[40]: the means over time of 20 MFCCs of the mono mix of w [2, time], then their standard deviations.

    Clips are not normalised, so the first coefficient follows the level.
    """
    mono = w.mean(dim=0).numpy()
    mfcc = librosa.feature.mfcc(y=mono, sr=sample_rate, n_mfcc=20, n_fft=2048, hop_length=1024)
    return np.concatenate([mfcc.mean(axis=1), mfcc.std(axis=1)])


def mfcc_classifier(work: Workspace) -> Pipeline:
    """Logistic regression on standardised MFCC statistics, fitted on the train split; the features are cached.

    Raises ValueError where the train split has fewer than two genres.
    """
    genres = work.data.genres
    if len(genres) < 2:
        raise ValueError(f"{work.root}: {len(genres)} genres: a classifier needs two, import music with genre tags")
    path = work.runs / "mfcc" / f"{work.data.key}.safetensors"
    if not path.is_file():
        save_tensors(training_features(work), path)
    table = load_file(path)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=work.profile.seed))
    return model.fit(table["features"].numpy(), [genres[i] for i in table["labels"].tolist()])


def training_features(work: Workspace) -> dict[str, Tensor]:
    """Of every training chunk of a listed genre: "features" [n, 40] and "labels" [n], the genre's number.

    All chunks are used, because one a piece in rotation would give one genre all beginnings and another all endings.
    """
    genres = work.data.genres
    rows = []
    labels = []
    for record, _, w in progress_bar(work.data.chunks("train"), "MFCCs of train"):
        if record.genre in genres:
            rows.append(mfcc_features(torch.from_numpy(w)))
            labels.append(genres.index(record.genre))
    return {"features": torch.from_numpy(np.stack(rows)), "labels": torch.tensor(labels)}


def mfcc_rows(clips: ClipSet) -> np.ndarray:
    """`mfcc_features` of every clip of a set, read one at a time: [n, 40]."""
    return np.stack([mfcc_features(clips[i]) for i in range(len(clips))])


def mfcc_genres(classifier: Pipeline, clips: ClipSet) -> list[str]:
    """The genre that the classifier predicts for each clip."""
    return [str(genre) for genre in classifier.predict(mfcc_rows(clips))]


class MfccSpace:
    """An untrained embedding: `mfcc_features`, each divided by its standard deviation over the clips of `reference`."""

    def __init__(self, reference: ClipSet):
        self.spread = mfcc_rows(reference).std(axis=0)

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """The embedding of every clip of a set: [n, 40]."""
        return mfcc_rows(clips) / self.spread
