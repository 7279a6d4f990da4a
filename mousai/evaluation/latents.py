"""What a channel of z changes: one channel moved, everything else equal, decoded from the same noise (ours)."""

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


def decoded_clip(dmae: DMAE, z: Latent, steps: int, seed: int) -> Wave:
    """The waveform of z, on the CPU; the same seed is the same noise."""
    return dmae.decode(z, steps, torch.Generator().manual_seed(seed)).cpu()


def channel_changes(dmae: DMAE, z: Latent, by: float, steps: int, seed: int = 0) -> Float[Tensor, "channels mels"]:
    """By how much the log-mel spectrogram of z's sound changes, a mean over its time, for each channel that is moved.

    z [1, channels, time]; one decoding a channel. In decades: 0.3 is twice as loud.
    """
    plain = log_mel(decoded_clip(dmae, z, steps, seed))
    after = [log_mel(decoded_clip(dmae, moved(z, c, by), steps, seed)) for c in range(z.shape[1])]
    return torch.cat([(mel - plain).mean(dim=-1) for mel in after])
