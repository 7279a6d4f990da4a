"""Table 5: how far two sets of clips are apart in an embedding, by the Frechet distance and by the kernel distance.

The Frechet distance is biased upwards when sets are small, so every set here has the same size and the same reference,
and the row "real" (real music against other real music) says what the best possible number is. The kernel distance has
no such bias.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from mousai.data.dataset import Workspace
from mousai.evaluation.baselines import riffusion_missing, riffusion_set
from mousai.evaluation.griffin_lim import griffin_lim_set, has_magnitude_head, pca_set
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.laion import LaionClap, laion_missing
from mousai.evaluation.mfcc import MfccSpace
from mousai.evaluation.musicnn import Musicnn, musicnn_missing
from mousai.evaluation.real import original_set, other_set, real_halves, reconstruction_set
from mousai.evaluation.reconstruction import kernel_distance
from mousai.evaluation.samples import ClipSet, generated_set, noise_set
from mousai.evaluation.statistics import jackknife

Rows = dict[str, dict[str, dict[str, float]]]  # "fd" or "kd" -> name of a set -> value, low, high, n, units


@runtime_checkable
class ClipEmbedding(Protocol):
    """Clips to vectors [n, d]."""

    def embed_clips(self, clips: ClipSet) -> np.ndarray: ...


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


def distance_row(
    rows: np.ndarray,
    reference: np.ndarray,
    titles: Sequence[str],
    statistic: Callable[[np.ndarray, np.ndarray], float] = frechet_distance,
) -> dict[str, float]:
    """{value, low, high, n, units}: distance of rows [n, d] to the reference [m, d], 95 % interval by a jackknife.

    `titles`: the tunes of rows, then of the reference; units counts those of rows.
    """
    value, low, high = jackknife(np.asarray(rows), np.asarray(reference), statistic, titles)
    if statistic is frechet_distance:
        low = max(low, 0.0)  # as the distance itself; the kernel distance may be negative
    return {"value": value, "low": low, "high": high, "n": len(rows), "units": len(set(titles[: len(rows)]))}


def quality(work: Workspace, model: InDomain) -> dict[str, Rows]:
    """Embedding -> distance -> rows "generated", "real" and "noise" against real test music.

    A row "riffusion" where its weights are. Embeddings: "in_domain", the model's; "mfcc", statistics that know nothing
    of our data; "laion", LAION-CLAP's, where its checkpoint is; "musicnn", a tagger's, where its package is. The test
    pieces are split in two by tune: one part stands for "real", as many clips as were generated, the other is the
    reference of all rows. Uses the generated clips of notebooks 06 to 08.
    """
    generated = generated_set(work)
    real, reference = real_halves(work, len(generated))
    sets = {"generated": generated, "real": real, "noise": noise_set(work)}
    if not riffusion_missing():
        sets["riffusion"] = riffusion_set(work)
    spaces: dict[str, ClipEmbedding] = {"in_domain": model, "mfcc": MfccSpace(reference)}
    if not laion_missing():
        spaces["laion"] = LaionClap(work.device)
    if not musicnn_missing():
        spaces["musicnn"] = Musicnn(work.device)
    return {name: distances(space, sets, reference) for name, space in spaces.items()}


def stage_1_quality(work: Workspace, space: ClipEmbedding) -> Rows:
    """Rows of `dmae.fd.in_domain.*` and `dmae.kd.in_domain.*`, or of another embedding, each against the originals.

    Real chunks through the DMAE, through PCA and Griffin-Lim, and through Griffin-Lim from z; row "real" is real music
    of other pieces. A DMAE without a magnitude head has no row "griffin_lim_from_z".
    """
    sets = {"DMAE": reconstruction_set(work), "pca_griffin_lim": pca_set(work)}
    if has_magnitude_head(work.profile.dmae):
        sets["griffin_lim_from_z"] = griffin_lim_set(work)
    return distances(space, sets | {"real": other_set(work)}, original_set(work))


def distances(space: ClipEmbedding, sets: dict[str, ClipSet], reference: ClipSet) -> Rows:
    """Both distances of every set, each cut to the length of the shortest, through `space.embed_clips`."""
    n = min(len(clips) for clips in sets.values())
    theirs = space.embed_clips(reference)
    found: Rows = {"fd": {}, "kd": {}}
    for name, clips in sets.items():
        some = clips.first(n)
        ours = space.embed_clips(some)
        for measure, statistic in (("fd", frechet_distance), ("kd", kernel_distance)):
            found[measure][name] = distance_row(ours, theirs, [*some.titles, *reference.titles], statistic)
    return found
