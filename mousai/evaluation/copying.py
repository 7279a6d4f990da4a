"""Is it new? Distance of generated clips to the nearest training clip, beside that of real test music.

The distance is one minus the cosine of two clips' vectors in the in-domain audio embedding (ours). A copy is at 0.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file

from mousai.checkpoint import save_tensors
from mousai.data.dataset import Workspace
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.statistics import bootstrap_pair
from mousai.progress import progress_bar


def nearest(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Cosine distance of each row [n, d] to the nearest of the training rows [m, d]: [n], in [0, 2]."""
    a, b = (np.asarray(x, np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, train))
    return 1 - (a @ b.T).max(axis=1)


def median_ratio(generated: np.ndarray, real: np.ndarray) -> float:
    """Median distance of generated clips over the median of real ones: 0 for copies, 1 for as new as real music."""
    below = np.median(real)
    return float(np.median(generated) / below) if below > 0 else np.nan


def copying_ratio(
    generated: np.ndarray, real: np.ndarray, titles: Sequence[str], seed: int = 0
) -> tuple[float, float, float]:
    """(ratio, low, high) from distances to the nearest training clip; `titles` of generated [n], then of real [m]."""
    return bootstrap_pair(generated, real, median_ratio, seed, titles)


def train_embeddings(work: Workspace, model: InDomain) -> tuple[np.ndarray, float]:
    """(the model's vectors of every training chunk [m, 96], seconds a clip took); cached."""
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
