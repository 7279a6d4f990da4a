"""Table 4, the CLAP score: cosine between what is heard and what was asked for, averaged over fixed 10 s windows.

Two judges behind one interface: our in-domain judge, and LAION-CLAP, imported only when asked for, because its import
looks for tokenizers on the network. CLAP itself embeds a random crop of anything over 10 s; here nothing is random.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float
from torch import Tensor

from mousai.config import Profile
from mousai.evaluation.baselines import riffusion_missing, riffusion_set
from mousai.evaluation.judge import windows
from mousai.evaluation.samples import (
    ClipSet,
    generated_set,
    noise_set,
    real_set,
    reconstruction_set,
    shuffled,
    silence_set,
)
from mousai.evaluation.statistics import bootstrap
from mousai.files import sha256
from mousai.small.profiles import REHEARSAL

ROWS = ("generated", "shuffled", "unconditional", "noise", "silence", "reconstruction", "real")
LAION = ("lukewys/laion_clap", "music_audioset_epoch_15_esc_90.14.pt")  # the music checkpoint
LAION_FILES = (
    LAION,
    ("roberta-base", "model.safetensors"),
    ("roberta-base", "vocab.json"),
    ("bert-base-uncased", "vocab.txt"),
    ("facebook/bart-base", "vocab.json"),
)


@runtime_checkable
class Listener(Protocol):
    """What a judge can do: sound [n, 2, time] and texts to vectors [n, d] whose product is the mean window cosine."""

    name: str

    def embed_audio(self, w: Float[Tensor, "batch 2 time"]) -> Tensor: ...

    def embed_text(self, texts: list[str]) -> Tensor: ...


def clap_score(judge: Listener, waves: Float[Tensor, "n 2 time"], texts: list[str]) -> Float[Tensor, " n"]:
    """Mean cosine of each clip's 10 s windows with its own text, in [-1, 1]."""
    if len(waves) != len(texts):
        raise ValueError(f"{len(waves)} sounds and {len(texts)} texts: one text a sound is needed")
    return (judge.embed_audio(waves) * judge.embed_text(texts)).sum(dim=1)


def scores(judge: Listener, clips: ClipSet) -> np.ndarray:
    """The CLAP score of every clip of a set with its prompt [n], read one at a time."""
    texts = judge.embed_text([prompt.text for prompt in clips.prompts])
    audio = torch.cat([judge.embed_audio(clips[i][None]) for i in range(len(clips))])
    return (audio * texts).sum(dim=1).double().numpy()


def score_row(judge: Listener, clips: ClipSet, row: str, seed: int = 0) -> dict:
    """One row of Table 4: mean score with its 95 % interval, whole tunes resampled."""
    value, low, high = bootstrap(scores(judge, clips), seed, [prompt.title for prompt in clips.prompts])
    return {"row": row, "judge": judge.name, "value": value, "low": low, "high": high, "n": len(clips)}


def table4_sets(profile: Profile, device: str | None = None) -> dict[str, Callable[[], ClipSet]]:
    """How to make the clips of each row: floor (shuffled, unconditional, noise, silence), ours, ceiling.

    Riffusion's too where its weights are in the cache.
    """
    other = {} if riffusion_missing() else {"riffusion": lambda: riffusion_set(profile, device)}
    return {
        "generated": lambda: generated_set(profile, device),
        "shuffled": lambda: shuffled(generated_set(profile, device), profile.seed),
        "unconditional": lambda: generated_set(profile, device, unconditional=True),
        "noise": lambda: noise_set(profile),
        "silence": lambda: silence_set(profile),
        **other,
        "reconstruction": lambda: reconstruction_set(profile, device),
        "real": lambda: real_set(profile),
    }


def laion_missing() -> str | None:
    """None where LAION-CLAP can be loaded without a network, else one line: what to fetch and where it goes."""
    if all(isinstance(try_to_load_from_cache(repo, file), str) for repo, file in LAION_FILES):
        return None
    fetch = " && ".join([f"hf download {' '.join(LAION)}"] + [f"hf download {repo}" for repo in _tokenizers()])
    return f"LAION-CLAP is not in the Hugging Face cache (HF_HOME): fetch it once with `{fetch}`, then run this again"


def _tokenizers() -> list[str]:
    return list(dict.fromkeys(repo for repo, _ in LAION_FILES[1:]))


class LaionClap:
    """LAION-CLAP, music checkpoint, HTSAT-base and RoBERTa. Raises FileNotFoundError where it is missing."""

    name = "LAION-CLAP music_audioset_epoch_15_esc_90.14"

    def __init__(self, device: str | None = None):
        if missing := laion_missing():
            raise FileNotFoundError(missing)
        import laion_clap

        path = Path(str(try_to_load_from_cache(*LAION)))
        self.sha256 = sha256(path)
        if path.parent.name == REHEARSAL:  # the version of it that lies in a rehearsal's cache
            self.name = f"{REHEARSAL}, random weights in place of {self.name}"
        self.model = laion_clap.CLAP_Module(enable_fusion=False, amodel="HTSAT-base", device=device or "cpu")
        self.model.model.load_state_dict(laion_state(path))

    @torch.no_grad()
    def embed_audio(self, w: Float[Tensor, "batch 2 time"]) -> Tensor:
        """Mean of the windows' unit vectors [n, 512]. A window is exactly 10 s, so CLAP crops nothing."""
        embed = self.model.get_audio_embedding_from_data
        return torch.stack([embed(windows(clip).mean(dim=1), use_tensor=True).mean(dim=0) for clip in w]).cpu()

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit vectors [n, 512]."""
        padded = [*texts, ""]  # the package squeezes a single text's batch axis away
        return self.model.get_text_embedding(padded, use_tensor=True)[: len(texts)].cpu()

    def context(self) -> dict:
        """What has to stand beside every number of this judge."""
        return {"judge": self.name, "judge_sha256": self.sha256, "window_seconds": 10, "loudness": "raw levels"}


def laion_state(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors under this version's names; read with `weights_only`, so no code in it is run."""
    file = torch.load(path, map_location="cpu", weights_only=True)
    state = file.get("state_dict", file)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    state.pop("text_branch.embeddings.position_ids", None)
    return state
