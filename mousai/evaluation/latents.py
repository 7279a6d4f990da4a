"""What each channel of z changes in the sound: one is moved, and z is decoded again from the same noise (ours)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.dmae import DMAE
from mousai.shapes import Latent, Wave
from mousai.spectrogram import log_mel


def moved(z: Latent, channel: int, by: float) -> Latent:
    """z with `by` added to one channel at all times, clamped to [-1, 1], the range of z."""
    changed = z.clone()
    changed[:, channel] = (z[:, channel] + by).clamp(-1, 1)
    return changed


def decoded_clip(dmae: DMAE, z: Latent, steps: int, seed: int) -> Wave:
    """The waveform of z, on the CPU; the same seed gives the same noise."""
    return dmae.decode(z, steps, torch.Generator().manual_seed(seed)).cpu()


def channel_changes(dmae: DMAE, z: Latent, by: float, steps: int, seed: int = 0) -> Float[Tensor, "channels mels"]:
    """For each channel, by how much the log-mel spectrogram of z's sound changes when `by` is added to it.

    z [1, channels, time]. The mean over time, in decades of magnitude: 0.3 is twice the magnitude, 6 dB.
    """
    plain = log_mel(decoded_clip(dmae, z, steps, seed))
    after = [log_mel(decoded_clip(dmae, moved(z, c, by), steps, seed)) for c in range(z.shape[1])]
    return torch.cat([(mel - plain).mean(dim=-1) for mel in after])
