"""The yardstick of stage 1: PCA of the log magnitude to the same 64x, then Griffin-Lim (ours).

No network and nothing learned but 32 directions. A DMAE that does not beat it is not worth its name.
"""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor
from torchaudio.functional import griffinlim

from mousai.config import DMAEConfig
from mousai.dmae import DMAE, READ_FLOOR
from mousai.encoder import linear_magnitude, log_magnitude
from mousai.shapes import Magnitude, Wave
from mousai.spectrogram import magnitude


def folded(w: Wave, config: DMAEConfig) -> Float[Tensor, "blocks numbers"]:
    """Log magnitudes of the frames that one latent step describes, one row a step: 4 frames x 1024 numbers.

    w's length must be a multiple of the latent stride.
    """
    frames = config.latent_stride // config.hop
    m = log_magnitude(magnitude(w, config.n_fft, config.hop), READ_FLOOR)
    return m.unflatten(-1, (-1, frames)).permute(0, 2, 3, 1).flatten(0, 1).flatten(1)


def unfolded(rows: Float[Tensor, "blocks numbers"], batch: int, config: DMAEConfig) -> Magnitude:
    """The inverse of `folded`, the logarithm undone: linear magnitudes, never negative."""
    frames = config.latent_stride // config.hop
    m = rows.reshape(batch, -1, rows.shape[1] // frames).transpose(1, 2)
    return linear_magnitude(m, READ_FLOOR)


def fit_pca(w: Wave, config: DMAEConfig, seed: int = 0) -> PCA:
    """As many directions as the latent has channels, from training waveforms [n, 2, time].

    Raises ValueError where w holds fewer latent steps than that.
    """
    rows, size = folded(w, config).numpy(), config.encoder.latent_channels
    if len(rows) < size:
        raise ValueError(f"PCA of {size} directions needs as many latent steps, not {len(rows)}: pass more audio")
    return PCA(size, svd_solver="randomized", random_state=seed).fit(rows)


def pca_griffin_lim(w: Wave, pca: PCA, config: DMAEConfig, iterations: int = 32, seed: int = 0) -> Wave:
    """w -> 32 numbers a latent step -> magnitudes -> waveform; the phase is found by Griffin-Lim, from random.

    Both channels start from the same random phase, which keeps their mix from cancelling.
    """
    numbers = pca.transform(folded(w, config).numpy())
    rows = torch.from_numpy(pca.inverse_transform(numbers).astype(np.float32))
    m = unfolded(rows, len(w), config).unflatten(1, (2, -1)) * config.n_fft**0.5
    return torch.stack([griffin_lim(m[:, channel], w.shape[-1], config, iterations, seed) for channel in (0, 1)], 1)


def griffin_lim(
    m: Float[Tensor, "batch bins frames"], length: int, config: DMAEConfig, iterations: int, seed: int
) -> Float[Tensor, "batch time"]:
    """Waveforms of `length` samples whose STFT magnitude is near m; torch's own random state is left as it was."""
    size, window = config.n_fft, torch.hann_window(config.n_fft)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return griffinlim(m, window, size, config.hop, size, 1.0, iterations, 0.99, length, True)


@torch.no_grad()
def reader_griffin_lim(dmae: DMAE, w: Wave, iterations: int = 32, seed: int = 0) -> Wave:
    """w -> z -> the magnitudes that stage 1's reader tells -> waveform by Griffin-Lim alone, without any diffusion."""
    config, device = dmae.config, next(dmae.parameters()).device
    parts = [dmae.read_magnitude(dmae.encode(part.to(device))).cpu() for part in w.split(4)]
    m = torch.cat(parts).unflatten(1, (2, -1)) * config.n_fft**0.5
    return torch.stack([griffin_lim(m[:, channel], w.shape[-1], config, iterations, seed) for channel in (0, 1)], 1)
