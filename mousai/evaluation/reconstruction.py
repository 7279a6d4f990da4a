"""How close a reconstruction is to its original, one number a clip: eight measures that fail in different ways (ours).

Log-mel L1 alone rewards a blurred average and ignores phase. So there are also chroma for the melody, onsets for the
beat, spectral contrast for noise between partials, the long-term spectrum, the level and the stereo image.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import auraloss
import librosa
import numpy as np
import torch

from mousai.evaluation.statistics import members
from mousai.shapes import Part, Wave
from mousai.spectrogram import log_mel

RATE = 48_000
N_FFT = 2048
HOP = 512
QUIET = 1e-10  # added to power, so that silence is -100 dB
Features = dict[str, Any]  # measure -> what it takes of one clip


@dataclass(frozen=True)
class Measure:
    """(clip, original) -> a number, both [2, time]; in two steps, so that originals need the first only once."""

    of: Callable[[np.ndarray], Any]  # what it takes of a clip
    compare: Callable[[Any, Any], float]  # what was taken of the clip, and of its original

    def __call__(self, clip: np.ndarray, original: np.ndarray) -> float:
        return self.compare(self.of(clip), self.of(original))


def reconstruction_measures(w: Wave, original: Part, known: Sequence[Features] | None = None) -> dict[str, np.ndarray]:
    """Measure -> its values [batch], of w against its originals; both [batch, 2, time] at 48 kHz.

    logmel_l1; mrstft (log-magnitude difference at windows of 512, 4,096 and 16,384 samples, which the encoder does not
    use); ltas_db (difference of the long-term average spectra); level_db (signed); chroma (similarity, 1 is equal);
    onset (correlation); contrast_db; side_over_mid (of w alone). `known`: `clip_features(original)`, to compute it once
    for several w. Raises ValueError where the shapes differ.
    """
    if w.shape != original.shape:
        raise ValueError(f"clips are {tuple(w.shape)} and their originals {tuple(original.shape)}: cut them alike")
    pairs = list(zip(clip_features(w), clip_features(original) if known is None else known, strict=True))
    return {name: np.array([how.compare(a[name], b[name]) for a, b in pairs]) for name, how in MEASURES.items()}


def clip_features(w: Part) -> list[Features]:
    """What the measures take of each clip of w [batch, 2, time]."""

    def features(clip: np.ndarray) -> Features:
        return {name: measure.of(clip) for name, measure in MEASURES.items()}

    with ThreadPoolExecutor() as pool:  # NumPy's transforms run side by side
        return list(pool.map(features, w.numpy()))


def log_mel_spectrum(clip: np.ndarray) -> np.ndarray:
    """The log-mel spectrogram [80, frames], in decades."""
    return log_mel(torch.from_numpy(clip)[None])[0].numpy()


def long_term_spectrum(clip: np.ndarray) -> np.ndarray:
    """Mean power in 80 mel bands of the mono mix, in dB."""
    mel = librosa.feature.melspectrogram(y=clip.mean(0), sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=80)
    return 10 * np.log10(mel.mean(axis=1) + QUIET)


def level(clip: np.ndarray) -> float:
    """The clip's level in dB of full scale."""
    return float(10 * np.log10(np.square(clip).mean() + QUIET))


def chroma_vectors(clip: np.ndarray) -> np.ndarray:
    """Chroma (CENS) of the mono mix [12, frames], of unit length in each frame."""
    return librosa.feature.chroma_cens(y=clip.mean(0), sr=RATE)


def onset_strength(clip: np.ndarray) -> np.ndarray:
    """Onset strength of the mono mix over time."""
    return librosa.onset.onset_strength(y=clip.mean(0), sr=RATE)


def spectral_contrast(clip: np.ndarray) -> np.ndarray:
    """Peaks over valleys of the mono mix's spectrum in seven octave bands, in dB, mean over time."""
    found = librosa.feature.spectral_contrast(y=clip.mean(0), sr=RATE, n_fft=N_FFT, hop_length=HOP)
    return found.mean(axis=1)


def width(clip: np.ndarray) -> float:
    """Rms of (left - right) over rms of (left + right)."""
    side = np.square(clip[0] - clip[1]).mean()
    mid = np.square(clip[0] + clip[1]).mean()
    return float(np.sqrt(side / (mid + QUIET)))


def resolutions_apart(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of log magnitudes at three resolutions (auraloss, Steinmetz and Reiss 2020)."""
    sizes = [512, 4096, 16_384]
    hops = [size // 4 for size in sizes]
    distance = auraloss.freq.MultiResolutionSTFTLoss(sizes, hops, sizes, w_sc=0.0, w_log_mag=1.0)
    return float(distance(torch.from_numpy(clip)[None], torch.from_numpy(original)[None]))


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(a - b).mean())


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over frames of the dot product of vectors of unit length: 1 where they are the same."""
    return float((a * b).sum(axis=0).mean())


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation over time; 0 where one of them is constant."""
    return 0.0 if a.std() == 0 or b.std() == 0 else float(np.corrcoef(a, b)[0, 1])


mrstft = Measure(lambda clip: clip, resolutions_apart)
ltas_db = Measure(long_term_spectrum, mean_difference)
chroma = Measure(chroma_vectors, likeness)
onset = Measure(onset_strength, correlation)
side_over_mid = Measure(width, lambda clip, original: clip)  # of the clip alone
MEASURES = {
    "logmel_l1": Measure(log_mel_spectrum, mean_difference),
    "mrstft": mrstft,
    "ltas_db": ltas_db,
    "level_db": Measure(level, lambda clip, original: clip - original),
    "chroma": chroma,
    "onset": onset,
    "contrast_db": Measure(spectral_contrast, mean_difference),
    "side_over_mid": side_over_mid,
}


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of embeddings [n, d], [m, d]; about 0 for one distribution.

    Cubic polynomial kernel (x y / d + 1)^3 (KID, Binkowski et al. 2018). Unlike the Fréchet distance it has no bias at
    small n; it may be negative. Raises ValueError for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a kernel distance of {len(a)} and {len(b)} clips: at least two of each are needed")

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_off_diagonal(k: np.ndarray) -> float:
        n = len(k)
        return float((k.sum() - np.trace(k)) / (n * (n - 1)))

    return mean_off_diagonal(kernel(a, a)) + mean_off_diagonal(kernel(b, b)) - 2 * float(kernel(a, b).mean())


def kernel_difference(
    original: np.ndarray, ours: np.ndarray, other: np.ndarray, groups: Sequence[str]
) -> tuple[float, float, float]:
    """(value, low, high): our kernel distance to the originals minus that of `other`; below 0 ours is closer.

    All three are embeddings [n, d] of the same clips in the same order, so the difference is paired. The 95 % interval
    is a jackknife over `groups` (tunes), because the rows that a bootstrap repeats would count as perfect matches.
    """

    def difference(kept: np.ndarray) -> float:
        return kernel_distance(original[kept], ours[kept]) - kernel_distance(original[kept], other[kept])

    everything = np.arange(len(original))
    value = difference(everything)
    left_out = np.array([difference(np.setdiff1d(everything, part)) for part in members(groups)])
    n = len(left_out)
    error = np.sqrt((n - 1) / n * np.square(left_out - left_out.mean()).sum())
    return value, float(value - 1.96 * error), float(value + 1.96 * error)
