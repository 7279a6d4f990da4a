"""Two claims of the paper's text about stage 1 (test ours): what survives compression best, what halving it gains."""

from dataclasses import replace

import librosa
import numpy as np
import torch

from mousai.config import DMAEConfig
from mousai.data.dataset import Workspace
from mousai.evaluation.griffin_lim import pca_griffin_lim, training_crops
from mousai.evaluation.real import original_set
from mousai.evaluation.reconstruction import QUIET, RATE, chroma, onset
from mousai.evaluation.samples import ClipSet
from mousai.evaluation.statistics import bootstrap
from mousai.shapes import Part
from mousai.small.pca import fit_pca
from mousai.spectrogram import log_mel_l1

CLIPS = 12
EXCERPT = 2**17  # samples of a clip, 2.73 s
BASS = 250.0  # Hz: bass notes and the drum
ERRORS = {
    "onset": lambda clip, original: 1 - onset(clip, original),
    "bass": lambda clip, original: bass_db(clip, original),
    "chroma": lambda clip, original: 1 - chroma(clip, original),
}  # measure -> its error; 0 is no error
Row = dict[str, float]  # value, low, high, n, units


def bass_db(clip: np.ndarray, original: np.ndarray) -> float:
    """Mean absolute difference of the levels below 250 Hz over time, in dB; both [2, time]."""
    levels = []
    for wave in (clip, original):
        power = np.abs(librosa.stft(wave.mean(0), n_fft=4096, hop_length=1024)) ** 2
        below = librosa.fft_frequencies(sr=RATE, n_fft=4096) < BASS
        levels.append(10 * np.log10(power[below].sum(axis=0) + QUIET))
    return float(np.abs(levels[0] - levels[1]).mean())


def excerpts(clips: ClipSet) -> Part:
    """The beginnings of the first `CLIPS` clips, or of all, [n, 2, EXCERPT]."""
    return torch.stack([clips[i][:, :EXCERPT] for i in range(min(CLIPS, len(clips)))])


def interval(values: np.ndarray, tunes: list[str], statistic=np.mean) -> Row:
    """{value, low, high, n, units} of a statistic, with whole tunes resampled; units counts the tunes."""
    value, low, high = bootstrap(values, groups=tunes, statistic=statistic)
    return {"value": value, "low": low, "high": high, "n": len(values), "units": len(set(tunes))}


def kept(clips: ClipSet, originals: ClipSet) -> dict[str, Row]:
    """What share of onsets, bass and chroma `clips` keep of `originals`, and the first two shares minus chroma's.

    The share is 1 - error / (error of another piece), each a mean over clips: 1 is as good as the original, 0 no better
    than another piece.
    """
    decoded, real = excerpts(clips).numpy(), excerpts(originals).numpy()
    columns = [
        [error(clip, original) for clip, original in zip(waves, real, strict=True)]
        for error in ERRORS.values()
        for waves in (decoded, np.roll(real, 1, axis=0))
    ]
    rows = np.array(columns).T  # [clips, 6]: for each measure the clips' errors, then those of other pieces

    def share(part: np.ndarray, name: str) -> float:
        i = 2 * list(ERRORS).index(name)
        return 1 - part[:, i].mean() / part[:, i + 1].mean()

    tunes = originals.titles[: len(real)]
    found = {name: interval(rows, tunes, lambda part, name=name: share(part, name)) for name in ERRORS}
    for name in ("onset", "bass"):
        difference = lambda part, name=name: share(part, name) - share(part, "chroma")  # noqa: E731
        found[f"{name}_minus_chroma"] = interval(rows, tunes, difference)
    return found


def half_the_compression(work: Workspace) -> dict[str, dict[str, Row]]:
    """ "64x", "32x" and their paired difference -> logmel_l1 and chroma of PCA with 32 and 64 channels of z.

    No network is used: Griffin-Lim makes sound of what the PCA keeps. So this measures what more channels could hold,
    not what a model makes of them.
    """
    originals = original_set(work)
    w = excerpts(originals)
    tunes = originals.titles[: len(w)]
    crops = training_crops(work)
    config = work.profile.dmae
    measured: dict[str, dict[str, np.ndarray]] = {}
    for name, factor in (("64x", 1), ("32x", 2)):
        finer = with_channels(config, factor * config.encoder.latent_channels)
        played = pca_griffin_lim(w, fit_pca(crops, finer, work.profile.seed), finer)
        pairs = zip(played.numpy(), w.numpy(), strict=True)
        similar = np.array([chroma(clip, original) for clip, original in pairs])
        measured[name] = {"logmel_l1": log_mel_l1(played, w).numpy(), "chroma": similar}
    fine, coarse = measured["32x"], measured["64x"]
    measured["32x_minus_64x"] = {measure: fine[measure] - coarse[measure] for measure in fine}
    return {
        name: {measure: interval(values, tunes) for measure, values in by_measure.items()}
        for name, by_measure in measured.items()
    }


def with_channels(config: DMAEConfig, channels: int) -> DMAEConfig:
    """The same stage 1 with this many latent channels."""
    return replace(config, encoder=replace(config.encoder, latent_channels=channels))
