"""LAION-CLAP's music checkpoint, from the Hugging Face cache: probably the kind of model that the paper scores with
[?].

Its package is imported only when needed, because importing it looks for tokenizers on the network. LAION-CLAP itself
embeds a random crop of any sound over 10 s; here the windows are fixed, so that nothing is random.
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
    """None where LAION-CLAP can be loaded without internet access, else one line that says how to fetch it."""
    if all(isinstance(try_to_load_from_cache(repo, file), str) for repo, file in LAION_FILES):
        return None
    tokenizers = dict.fromkeys(repo for repo, _ in LAION_FILES[1:])
    fetch = " && ".join(f"hf download {what}" for what in (" ".join(LAION), *tokenizers))
    return f"LAION-CLAP is not in the Hugging Face cache (HF_HOME): fetch it once with `{fetch}`, then run this again"


class LaionClap:
    """LAION-CLAP with HTSAT-base for audio and RoBERTa for text. Raises FileNotFoundError where it is missing."""

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
        """Mean of the unit vectors of 10 s windows, [n, 512]. LAION-CLAP crops nothing of a window of exactly 10 s."""
        embed = self.model.get_audio_embedding_from_data
        return torch.stack([embed(windows(clip).mean(dim=1), use_tensor=True).mean(dim=0) for clip in w]).cpu()

    def embed_clips(self, clips: ClipSet) -> np.ndarray:
        """`embed_audio` of every clip of a set, read one at a time: [n, 512]."""
        return np.concatenate([self.embed_audio(clips[i][None]).numpy() for i in range(len(clips))])

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """Unit vectors of the texts, [n, 512]."""
        padded = [*texts, ""]  # because the package drops the batch axis of a single text
        return self.model.get_text_embedding(padded, use_tensor=True)[: len(texts)].cpu()

    def context(self) -> dict:
        """What is stored with every number that this model measures."""
        return {"model": self.name, "model_sha256": self.sha256, "window_seconds": 10, "loudness": "raw levels"}


def laion_state(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, under the names of the installed version; read with `weights_only`, so that no code in
    it is run.
    """
    file = torch.load(path, map_location="cpu", weights_only=True)
    state = file.get("state_dict", file)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    state.pop("text_branch.embeddings.position_ids", None)
    return state
