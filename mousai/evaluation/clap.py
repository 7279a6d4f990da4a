"""Table 4: cosine between a clip and its prompt, averaged over fixed windows of 10 s.

Two audio-text models share one interface: LAION-CLAP (`laion`), whose cosine is the CLAP score, and the in-domain model
(`in_domain`), whose cosine is called a text score.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mousai.data.dataset import Workspace
from mousai.evaluation.baselines import riffusion_missing, riffusion_set
from mousai.evaluation.real import real_set, reconstruction_set
from mousai.evaluation.samples import ClipSet, generated_set, noise_set, shuffled, silence_set
from mousai.evaluation.statistics import bootstrap


@runtime_checkable
class AudioText(Protocol):
    """Embeds sounds [n, 2, time] and texts as vectors [n, d], whose dot product is the mean cosine over the windows."""

    name: str

    def embed_audio(self, w: Float[Tensor, "batch 2 time"]) -> Tensor: ...

    def embed_text(self, texts: list[str]) -> Tensor: ...


def clap_score(model: AudioText, waves: Float[Tensor, "n 2 time"], texts: list[str]) -> Float[Tensor, " n"]:
    """Mean cosine of each clip's 10 s windows with its own text, in [-1, 1].

    Raises ValueError where there is not one text for each clip.
    """
    if len(waves) != len(texts):
        raise ValueError(f"{len(waves)} sounds and {len(texts)} texts: one text a sound is needed")
    return (model.embed_audio(waves) * model.embed_text(texts)).sum(dim=1)


def scores(model: AudioText, clips: ClipSet) -> np.ndarray:
    """The score [n] of every clip of a set with its prompt; clips are read one at a time."""
    texts = model.embed_text([prompt.text for prompt in clips.prompts])
    audio = torch.cat([model.embed_audio(clips[i][None]) for i in range(len(clips))])
    return (audio * texts).sum(dim=1).double().numpy()


def score_row(model: AudioText, clips: ClipSet, row: str, seed: int = 0) -> dict:
    """One row of Table 4: mean score with its 95 % interval, for which whole tunes are resampled."""
    value, low, high = bootstrap(scores(model, clips), seed, clips.titles)
    counts = {"n": len(clips), "units": len(set(clips.titles))}
    return {"row": row, "model": model.name, "value": value, "low": low, "high": high} | counts


def table4_sets(work: Workspace) -> dict[str, Callable[[], ClipSet]]:
    """Row -> how to make its clips: ours, the floor (shuffled, unconditional, noise, silence), the ceiling (real music
    and its reconstruction), and Riffusion where its weights are in the cache.
    """
    other = {} if riffusion_missing() else {"riffusion": lambda: riffusion_set(work)}
    return {
        "generated": lambda: generated_set(work),
        "shuffled": lambda: shuffled(generated_set(work), work.profile.seed),
        "unconditional": lambda: generated_set(work, unconditional=True),
        "noise": lambda: noise_set(work),
        "silence": lambda: silence_set(work),
        **other,
        "reconstruction": lambda: reconstruction_set(work),
        "real": lambda: real_set(work),
    }
