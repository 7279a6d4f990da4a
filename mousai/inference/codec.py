"""Stage 1 by itself: sound of any length -> z, 64 times fewer numbers, in a file that says how to hear it."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.dmae import DMAE
from mousai.inference.windows import cross_fade, window_starts
from mousai.shapes import Latent

Stereo = Float[Tensor, "2 _"]


@dataclass(frozen=True)
class LatentCard:
    """What z was made of, and by what."""

    profile: str
    encoder: str  # hash of its weights: others read z as something else
    sample_rate: int
    samples: int


@torch.no_grad()
def encode(dmae: DMAE, w: Stereo, window: int) -> Latent:
    """w [2, time] of any length -> z [1, 32, ceil(time / 1024)], in memory for `window` samples.

    Up to `window` it is `DMAE.encode`. GroupNorm's statistics run over all that is encoded, so that pieces of a longer
    sound cannot give what the whole would. Windows, a chunk each, as stage 2 learnt from, overlap by a quarter and are
    cross-faded.
    """
    stride, place = dmae.config.latent_stride, next(dmae.parameters()).device
    steps, width = -(-w.shape[-1] // stride), window // stride
    parts = [(a, w[None, :, stride * a : stride * (a + width)]) for a in window_starts(steps, width, 3 * width // 4)]
    if len(parts) == 1:
        return dmae.encode(parts[0][1].to(place))
    total, fade = torch.zeros(1, dmae.config.encoder.latent_channels, steps), cross_fade(width).float()
    weight = torch.zeros(steps)
    for a, part in parts:
        total[..., a : a + width] += fade * dmae.encode(part.to(place)).cpu()
        weight[a : a + width] += fade
    return (total / weight).to(place)


def fewer(z: Latent, samples: int) -> float:
    """How many times fewer numbers z holds than the waveform: 2 samples / (32 steps), the paper's 64 (Section 3.1).

    A last step that is not full makes it less.
    """
    return 2 * samples / z[0].numel()


def save_latent(z: Latent, card: LatentCard, path: Path) -> None:
    """safetensors, float32, the card in its header; written aside and renamed."""
    save_tensors({"z": z}, path, {key: str(value) for key, value in asdict(card).items()})


def load_latent(path: Path) -> tuple[Latent, LatentCard]:
    """z and its card. Raises ValueError for a file that is damaged, or none of `save_latent`."""
    try:
        with safe_open(path, "pt") as file:
            z, said = file.get_tensor("z"), file.metadata() or {}
        card = LatentCard(said["profile"], said["encoder"], int(said["sample_rate"]), int(said["samples"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a latent: write it with `mousai encode`") from error
    if z.ndim != 3 or z.dtype != torch.float32 or len(z) != 1 or not z.isfinite().all() or card.samples < 1:
        raise ValueError(f"{path}: not a latent of one sound: write it with `mousai encode`")
    return z, card
