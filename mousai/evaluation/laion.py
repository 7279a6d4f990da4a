"""LAION-CLAP, the kind of model that the paper scores with [?]: its music checkpoint from the Hugging Face cache.

Its package is imported only when it is asked for, because its import looks for tokenizers on the network. Of anything
over 10 s CLAP itself embeds a random crop; here windows are fixed and nothing is random.
"""

from pathlib import Path

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float
from torch import Tensor

from mousai.evaluation.in_domain import windows
from mousai.evaluation.samples import ClipSet
from mousai.files import sha256

LAION = ("lukewys/laion_clap", "music_audioset_epoch_15_esc_90.14.pt")  # the music checkpoint
LAION_FILES = (
    LAION,
    ("roberta-base", "model.safetensors"),
    ("roberta-base", "vocab.json"),
    ("bert-base-uncased", "vocab.txt"),
    ("facebook/bart-base", "vocab.json"),
)


def laion_missing() -> str | None:
    """None where LAION-CLAP can be loaded without a network, else one line: what to fetch and where it goes."""
    if all(isinstance(try_to_load_from_cache(repo, file), str) for repo, file in LAION_FILES):
        return None
    tokenizers = dict.fromkeys(repo for repo, _ in LAION_FILES[1:])
    fetch = " && ".join(f"hf download {what}" for what in (" ".join(LAION), *tokenizers))
    return f"LAION-CLAP is not in the Hugging Face cache (HF_HOME): fetch it once with `{fetch}`, then run this again"


class LaionClap:
    """LAION-CLAP, music checkpoint, HTSAT-base and RoBERTa. Raises FileNotFoundError where it is missing."""

    name = "LAION-CLAP music_audioset_epoch_15_esc_90.14"

    def __init__(self, device: str | None = None):
        if missing := laion_missing():
            raise FileNotFoundError(missing)
        import laion_clap

        path = Path(str(try_to_load_from_cache(*LAION)))
        self.sha256 = sha256(path)
        self.model = laion_clap.CLAP_Module(enable_fusion=False, amodel="HTSAT-base", device=device or "cpu")
        self.model.model.load_state_dict(laion_state(path))

    @torch.no_grad()
    def embed_audio(self, w: Float[Tensor, "batch 2 time"]) -> Tensor:
        """Mean of the windows' unit vectors [n, 512]. A window is exactly 10 s, so CLAP crops nothing."""
        embed = self.model.get_audio_embedding_from_data
        return torch.stack([embed(windows(clip).mean(dim=1), use_tensor=True).mean(dim=0) for clip in w]).cpu()

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """Every clip of a set, read one at a time: [n, 512]."""
        return np.concatenate([self.embed_audio(clips[i][None]).numpy() for i in range(len(clips))])

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit vectors [n, 512]."""
        padded = [*texts, ""]  # the package squeezes a single text's batch axis away
        return self.model.get_text_embedding(padded, use_tensor=True)[: len(texts)].cpu()

    def context(self) -> dict:
        """What is stored beside every number of this model."""
        return {"model": self.name, "model_sha256": self.sha256, "window_seconds": 10, "loudness": "raw levels"}


def laion_state(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors under this version's names; read with `weights_only`, so no code in it is run."""
    file = torch.load(path, map_location="cpu", weights_only=True)
    state = file.get("state_dict", file)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    state.pop("text_branch.embeddings.position_ids", None)
    return state
