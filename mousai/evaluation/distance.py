"""Table 5: the Frechet distance between two sets of clips, seen through an embedding.

The distance is biased upwards when sets are small, so every set here has the same size and the same reference, and the
row "real" (real music against other real music) says what the best possible number is.
"""

from typing import TYPE_CHECKING

import numpy as np

from mousai.config import Profile
from mousai.evaluation.statistics import jackknife

if TYPE_CHECKING:
    from mousai.evaluation.genre import MfccSpace
    from mousai.evaluation.judge import Judge
    from mousai.evaluation.samples import ClipSet

Rows = dict[str, dict[str, float]]  # name of a set -> value, low, high, n


def gaussian(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] of rows [n, d], n >= 2."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"embeddings of shape {rows.shape}: a Frechet distance needs at least 2 rows [n, d]")
    return rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)) of two sets a [n, d], b [m, d]; >= 0.

    The definition of FID and FAD (Heusel et al. 2017, Kilgour et al. 2019): the distance of the Gaussians that have the
    sets' means and covariances. The trace of the root is the sum of the singular values of cov_a^(1/2) cov_b^(1/2),
    which stays real where covariances are singular.
    """
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(a), gaussian(b)
    root = np.linalg.svd(_root(cov_a) @ _root(cov_b), compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    return float(max(distance, 0.0))


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix; tiny negative eigenvalues are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def distance_row(rows: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """{value, low, high, n}: Frechet distance of rows [n, d] to the reference [m, d], jackknife 95 % interval."""
    value, low, high = jackknife(lambda part: frechet_distance(part, reference), np.asarray(rows))
    return {"value": value, "low": low, "high": high, "n": len(rows)}


def quality(profile: Profile, judge: "Judge", device: str | None = None) -> dict[str, Rows]:
    """Rows "generated", "real" and "noise" of `fd.judge.*` and `fd.mfcc.*`, against real test music; "riffusion" where
    its weights are in the cache.

    Two embeddings: the judge's, and MFCC statistics, which know nothing of our data. The test pieces are split in two
    by tune: one part stands for "real", as many clips as were generated, the other is the reference of all rows.
    Shares the generated clips of notebooks 06 to 08.
    """
    from mousai.evaluation.baselines import riffusion_missing, riffusion_set
    from mousai.evaluation.genre import MfccSpace
    from mousai.evaluation.samples import generated_set, noise_set, real_halves

    generated = generated_set(profile, device)
    real, reference = real_halves(profile, len(generated))
    sets = {"generated": generated, "real": real, "noise": noise_set(profile)}
    sets |= {} if riffusion_missing() else {"riffusion": riffusion_set(profile, device)}
    return {"judge": distances(judge, sets, reference), "mfcc": distances(MfccSpace(reference), sets, reference)}


def stage_1_quality(profile: Profile, judge: "Judge", device: str | None = None) -> Rows:
    """Rows of `dmae.fd.judge.*`: real chunks through the DMAE, PCA and Griffin-Lim, and Griffin-Lim from what
    z tells, each against the very originals; row "real" is real music of other pieces, against the same.

    A DMAE without a reader has no row "griffin_lim_from_z".
    """
    from mousai.evaluation.samples import griffin_lim_set, original_set, other_set, pca_set, reconstruction_set

    sets = {"DMAE": reconstruction_set(profile, device), "pca_griffin_lim": pca_set(profile)}
    if profile.dmae.envelope_bands or profile.dmae.readout_weight:
        sets["griffin_lim_from_z"] = griffin_lim_set(profile, device)
    return distances(judge, sets | {"real": other_set(profile)}, original_set(profile))


def distances(space: "Judge | MfccSpace", sets: dict[str, "ClipSet"], reference: "ClipSet") -> Rows:
    """A row for every set, each cut to the length of the shortest, through `space.embed_clips`."""
    n, embeddings = min(len(clips) for clips in sets.values()), space.embed_clips(reference)
    return {name: distance_row(space.embed_clips(clips.first(n)), embeddings) for name, clips in sets.items()}
