"""Stage 1 as a codec: sound of any length -> z, 64 times fewer numbers, and back; files of z name their encoder."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from mousai.checkpoint import read_card, save_tensors
from mousai.dmae import DMAE
from mousai.inference.audio import Stereo
from mousai.inference.long import Run, stream
from mousai.inference.sampling import Sampling
from mousai.inference.windows import Replacement, cross_fade, window_starts
from mousai.shapes import Latent, Part


@dataclass(frozen=True)
class LatentCard:
    """What z encodes and what encoded it: `encoder` is `encoder_hash`, `samples` the length of the sound."""

    profile: str
    encoder: str
    sample_rate: int
    samples: int


@torch.no_grad()
def encode(dmae: DMAE, w: Stereo, window: int) -> Latent:
    """w [2, time] of any length -> z [1, 32, ceil(time / 1024)], encoding at most `window` samples at once.

    Up to `window` samples it is `DMAE.encode`. A longer sound is encoded in windows that overlap by a quarter, and
    their latents are cross-faded. GroupNorm's statistics run over all that is encoded at once, so pass the length of a
    chunk, as stage 2 was trained on.
    """
    stride = dmae.config.latent_stride
    device = next(dmae.parameters()).device
    steps = -(-w.shape[-1] // stride)
    width = window // stride
    if steps <= width:
        return dmae.encode(w[None].to(device))
    fade = cross_fade(width).float()
    total = torch.zeros(1, dmae.config.encoder.latent_channels, steps)
    weight = torch.zeros(steps)
    for a in window_starts(steps, width, 3 * width // 4):
        part = w[None, :, stride * a : stride * (a + width)]
        total[..., a : a + width] += fade * dmae.encode(part.to(device)).cpu()
        weight[a : a + width] += fade
    return (total / weight).to(device)


def decode(
    dmae: DMAE,
    z: Latent,
    sampling: Sampling,
    generators: Sequence[torch.Generator],
    length: int | None = None,
    replacement: Replacement | None = None,
    progress: bool = False,
) -> Iterator[Part]:
    """z [n, 32, steps] -> parts of w from left to right, `length` samples in all; one generator per item."""
    bar = "z -> w" if progress else None
    run = Run(
        sampling.dmae_steps,
        sampling.dmae_sampler,
        sampling.dmae_precision,
        bar,
        refinement_steps=sampling.refinement_steps,
    )
    return stream(dmae, z, run, generators, length, replacement)


def encoder_hash(dmae: DMAE) -> str:
    """The first 16 hexadecimal digits of the sha256 of the encoder's weights."""
    digest = hashlib.sha256()
    for tensor in dmae.encoder.state_dict().values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def check_encoder(dmae: DMAE, folder: Path) -> None:
    """Raise ValueError where the card of folder/tcld.safetensors names another encoder than that of `dmae`."""
    path = folder / "tcld.safetensors"
    trained_on = read_card(path).get("encoder")
    found = encoder_hash(dmae)
    if trained_on not in (None, found):
        own = folder / "dmae.safetensors"
        raise ValueError(
            f"{path}: trained on the latents of encoder {trained_on[:8]}, but {own} has encoder {found[:8]}: "
            "use the stage 1 that it was trained on"
        )


def compression(z: Latent, samples: int) -> float:
    """How many times fewer numbers z holds than the waveform: 2 samples / (32 steps), the paper's 64 (Section 3.1).

    It is less where the sound does not fill the last step.
    """
    return 2 * samples / z[0].numel()


def save_latent(z: Latent, card: LatentCard, path: Path) -> None:
    """Write z to a safetensors file, whole or not at all, with the card in its header."""
    save_tensors({"z": z}, path, {key: str(value) for key, value in asdict(card).items()})


def load_latent(path: Path) -> tuple[Latent, LatentCard]:
    """(z, card) from a file. Raises ValueError where it is damaged, or `save_latent` did not write it."""
    try:
        with safe_open(path, "pt") as file:
            z = file.get_tensor("z")
            header = file.metadata() or {}
        card = LatentCard(header["profile"], header["encoder"], int(header["sample_rate"]), int(header["samples"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a latent: write it with `mousai encode`") from error
    if z.ndim != 3 or z.dtype != torch.float32 or len(z) != 1 or not z.isfinite().all() or card.samples < 1:
        raise ValueError(f"{path}: not a latent of one sound: write it with `mousai encode`")
    return z, card
