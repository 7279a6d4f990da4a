"""How close a reconstruction is to its original, one number a clip: eight measures that fail in different ways (ours).

Log-mel L1 alone rewards a blurred average and ignores phase. So there are also chroma for the melody, onsets for the
beat, spectral contrast for noise between partials, the long-term spectrum, the level and the stereo image.
"""

from collections.abc import Callable, Sequence

import auraloss
import librosa
import numpy as np
import torch

from mousai.evaluation.statistics import members
from mousai.shapes import Part, Wave
from mousai.spectrogram import log_mel_l1

RATE = 48_000
N_FFT = 2048
HOP = 512
QUIET = 1e-10  # added to power, so that silence is -100 dB
Measure = Callable[[np.ndarray, np.ndarray], float]  # (clip, original), each [2, time]


def reconstruction_measures(w: Wave, original: Part) -> dict[str, np.ndarray]:
    """Measure -> its values [batch], of w against its originals; both [batch, 2, time] at 48 kHz.

    logmel_l1; mrstft (log-magnitude difference at windows of 512, 4,096 and 16,384 samples, which the encoder does not
    use); ltas_db (difference of the long-term average spectra); level_db (signed); chroma (similarity, 1 is equal);
    onset (correlation); contrast_db; side_over_mid (of w alone). Raises ValueError where the shapes differ.
    """
    if w.shape != original.shape:
        raise ValueError(f"clips are {tuple(w.shape)} and their originals {tuple(original.shape)}: cut them alike")
    found: dict[str, np.ndarray] = {"logmel_l1": log_mel_l1(w, original).numpy()}
    pairs = list(zip(w.numpy(), original.numpy(), strict=True))
    for name, measure in MEASURES.items():
        found[name] = np.array([measure(clip, reference) for clip, reference in pairs])
    return found


def mrstft(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of log magnitudes at three resolutions (auraloss, Steinmetz and Reiss 2020)."""
    sizes = [512, 4096, 16_384]
    hops = [size // 4 for size in sizes]
    distance = auraloss.freq.MultiResolutionSTFTLoss(sizes, hops, sizes, w_sc=0.0, w_log_mag=1.0)
    return float(distance(torch.from_numpy(clip)[None], torch.from_numpy(original)[None]))


def ltas_db(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of the long-term average spectra over 80 mel bands, in dB."""
    return float(np.abs(long_term_spectrum(clip) - long_term_spectrum(original)).mean())


def long_term_spectrum(clip: np.ndarray) -> np.ndarray:
    """Mean power in 80 mel bands of the mono mix, in dB."""
    mel = librosa.feature.melspectrogram(y=clip.mean(0), sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=80)
    return 10 * np.log10(mel.mean(axis=1) + QUIET)


def level_db(clip: np.ndarray, original: np.ndarray) -> float:
    """Level of the clip minus that of the original, in dB."""
    power = np.square(clip).mean() + QUIET
    return float(10 * np.log10(power / (np.square(original).mean() + QUIET)))


def chroma(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean over frames of the dot product of both chroma vectors (CENS, unit length): 1 is the same harmony."""
    a, b = (librosa.feature.chroma_cens(y=wave.mean(0), sr=RATE) for wave in (clip, original))
    return float((a * b).sum(axis=0).mean())


def onset(clip: np.ndarray, original: np.ndarray) -> float:
    """Correlation of both onset strengths over time; 0 where one of them is constant."""
    a, b = (librosa.onset.onset_strength(y=wave.mean(0), sr=RATE) for wave in (clip, original))
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def contrast_db(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of the spectral contrast (peaks over valleys in seven octave bands), in dB."""
    a, b = (
        librosa.feature.spectral_contrast(y=wave.mean(0), sr=RATE, n_fft=N_FFT, hop_length=HOP).mean(axis=1)
        for wave in (clip, original)
    )
    return float(np.abs(a - b).mean())


def side_over_mid(clip: np.ndarray, original: np.ndarray) -> float:
    """Width of the clip's stereo image: rms of (left - right) over rms of (left + right)."""
    del original  # only for the signature that all measures share
    side = np.square(clip[0] - clip[1]).mean()
    mid = np.square(clip[0] + clip[1]).mean()
    return float(np.sqrt(side / (mid + QUIET)))


MEASURES: dict[str, Measure] = {
    "mrstft": mrstft,
    "ltas_db": ltas_db,
    "level_db": level_db,
    "chroma": chroma,
    "onset": onset,
    "contrast_db": contrast_db,
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
