"""What the numbers of z say: one channel moved, everything else as it was, decoded from the same noise (ours)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.dmae import DMAE
from mousai.shapes import Latent, Wave
from mousai.spectrogram import log_mel


def moved(z: Latent, channel: int, by: float) -> Latent:
    """z with `by` added to one channel at all times, held within [-1, 1] as tanh holds it."""
    changed = z.clone()
    changed[:, channel] = (z[:, channel] + by).clamp(-1, 1)
    return changed


def sounded(dmae: DMAE, z: Latent, steps: int, seed: int) -> Wave:
    """z to sound, on the CPU; the same seed is the same noise."""
    return dmae.decode(z, steps, torch.Generator().manual_seed(seed)).cpu()


def channel_changes(dmae: DMAE, z: Latent, by: float, steps: int, seed: int = 0) -> Float[Tensor, "channels mels"]:
    """By how much the log-mel picture of z's sound changes, a mean over its time, for each channel that is moved.

    z [1, channels, time]; one decoding a channel. In powers of ten: 0.3 is twice as loud.
    """
    plain = log_mel(sounded(dmae, z, steps, seed))
    pictures = [log_mel(sounded(dmae, moved(z, c, by), steps, seed)) for c in range(z.shape[1])]
    return torch.cat([(picture - plain).mean(dim=-1) for picture in pictures])
