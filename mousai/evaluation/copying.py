"""Is generated music new and varied? Distances of generated clips to training clips and to one another, compared with
those of real music.

The distance is one minus the cosine of two clips' vectors in the in-domain audio embedding (ours). A copy is at 0. How
well such a test detects copies is measured with altered copies that are planted among the candidates.
"""

import time
from collections.abc import Callable, Sequence

import librosa
import numpy as np
import torch
from safetensors.torch import load_file

from mousai.checkpoint import save_tensors
from mousai.data.dataset import Workspace
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.real import through_stage_1
from mousai.evaluation.samples import ClipSet, as_prompt
from mousai.evaluation.statistics import bootstrap_pair
from mousai.progress import progress_bar

PLANTED = 8  # training clips that are copied, each of another tune
FALSE_ALARMS = 5  # per cent of real unseen clips that lie below the threshold
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # a third kind, "stage_1", is in `planted_copies`
    "semitone": lambda w: librosa.effects.pitch_shift(w, sr=48_000, n_steps=1),
    "faster": lambda w: librosa.effects.time_stretch(w, rate=1.06),
}


def nearest(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Cosine distance [n], in [0, 2], of each row [n, d] to the nearest of the training rows [m, d]."""
    a, b = (np.asarray(x, np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, train))
    return 1 - (a @ b.T).max(axis=1)


def median_ratio(generated: np.ndarray, real: np.ndarray) -> float:
    """Median distance of generated clips over that of real ones: 0 for copies, 1 for as new as real music."""
    below = np.median(real)
    return float(np.median(generated) / below) if below > 0 else np.nan


def copying_ratio(
    generated: np.ndarray, real: np.ndarray, titles: Sequence[str], seed: int = 0
) -> tuple[float, float, float]:
    """(ratio, low, high) of `median_ratio`, from distances to the nearest training clip, with a 95 % interval.

    titles [n + m]: the tunes of the generated clips, then of the real ones.
    """
    return bootstrap_pair(generated, real, median_ratio, seed, titles)


def train_embeddings(work: Workspace, model: InDomain) -> tuple[np.ndarray, float]:
    """(the model's vectors of every training chunk [m, 96], mean seconds for a chunk); cached."""
    path = work.runs / "in_domain" / f"{work.data.key}-train-{model.sha256[:16]}.safetensors"
    if not path.is_file():
        chunks = work.data.chunks("train")
        start = time.perf_counter()
        bar = progress_bar(chunks, "training clips, embedded")
        rows = torch.cat([model.embed_audio(torch.from_numpy(w)[None]) for _, _, w in bar])
        seconds = torch.tensor((time.perf_counter() - start) / len(chunks))
        save_tensors({"rows": rows, "seconds": seconds}, path)
    stored = load_file(path)
    return stored["rows"].numpy(), float(stored["seconds"])


def planted_copies(work: Workspace) -> dict[str, ClipSet]:
    """Altered copies of up to `PLANTED` training clips: a semitone higher, 6 % faster, or reconstructed by stage 1."""
    chunks = work.data.chunks("train")
    of_tune: dict[str, int] = {}
    for i in range(len(chunks)):
        of_tune.setdefault(chunks.about(i)[0].title, i)
    tunes = list(of_tune.values())
    picks = [tunes[i] for i in np.linspace(0, len(tunes) - 1, min(PLANTED, len(tunes))).astype(int)]
    prompts = [as_prompt(work, *chunks.about(i)) for i in picks]

    def altered(change: Callable[[np.ndarray], np.ndarray]) -> ClipSet:
        return ClipSet("copies", prompts, lambda i: torch.from_numpy(change(chunks[picks[i]][2])), {})

    sets = {name: altered(change) for name, change in COPIES.items()}
    return sets | {"stage_1": through_stage_1(work, altered(lambda w: w), "copies")}


def threshold(real: np.ndarray) -> float:
    """The distance to the nearest training clip below which a clip counts as a copy.

    It is the 5th percentile of real clips' distances [n], so that 5 % of real unseen clips are false alarms.
    """
    return float(np.percentile(real, FALSE_ALARMS))


def diversity(rows: np.ndarray, prompts: Sequence[object], same: bool) -> np.ndarray:
    """For each clip [n] its mean distance to the other clips of its own prompt (`same`), else to those of other
    prompts.

    rows [n, d]: the clips' vectors. nan where a clip has none to compare with.
    """
    unit = np.asarray(rows, np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = 1 - unit @ unit.T
    numbers = np.unique(np.array([str(prompt) for prompt in prompts]), return_inverse=True)[1]
    compared = (numbers[:, None] == numbers[None]) == same
    np.fill_diagonal(compared, False)
    with np.errstate(invalid="ignore"):
        return np.where(compared, apart, 0).sum(axis=1) / compared.sum(axis=1)
