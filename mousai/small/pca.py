"""PCA of the log magnitude to as many numbers as z has: the start of the small encoder, and a baseline (ours)."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor

from mousai.config import DMAEConfig
from mousai.shapes import Magnitude, Wave
from mousai.small.dmae import MAGNITUDE_FLOOR, SmallDMAE
from mousai.small.encoder import bin_frequencies, linear_magnitude, log_magnitude, mel_density
from mousai.spectrogram import magnitude

PCA_SPREAD = 0.4  # standard deviation of each latent channel at the start


def folded(w: Wave, config: DMAEConfig) -> Float[Tensor, "blocks numbers"]:
    """Log magnitudes in rows, one per latent step of each item: 4 frames x 1024 numbers, frame by frame.

    They are weighted by `weights`, else most directions would describe frequencies above all melodies. The length of w
    must be a multiple of the latent stride.
    """
    frames = config.latent_stride // config.hop
    m = weights(config) * log_magnitude(magnitude(w, config.n_fft, config.hop), MAGNITUDE_FLOOR)
    return m.unflatten(-1, (-1, frames)).permute(0, 2, 3, 1).flatten(0, 1).flatten(1)


def unfolded(rows: Float[Tensor, "blocks numbers"], batch: int, config: DMAEConfig) -> Magnitude:
    """The inverse of `folded` and of the logarithm: linear magnitudes m_w, never negative."""
    frames = config.latent_stride // config.hop
    m = rows.reshape(batch, -1, rows.shape[1] // frames).transpose(1, 2)
    return linear_magnitude(m / weights(config), MAGNITUDE_FLOOR)


def weights(config: DMAEConfig) -> Float[Tensor, "magnitude 1"]:
    """The square root of the mel scale's density at each bin of both channels."""
    return mel_density(bin_frequencies(config)).sqrt().repeat(2)[:, None]


def fit_pca(w: Wave, config: DMAEConfig, seed: int = 0) -> PCA:
    """A PCA with as many directions as z has channels, fitted on the rows of training waveforms w [n, 2, time].

    Raises ValueError where w has fewer latent steps than that.
    """
    rows = folded(w, config).numpy()
    size = config.encoder.latent_channels
    if len(rows) < size:
        raise ValueError(f"PCA of {size} directions needs as many latent steps, not {len(rows)}: pass more audio")
    return PCA(size, svd_solver="randomized", random_state=seed).fit(rows)


@torch.no_grad()
def start_from_pca(model: SmallDMAE, w: Wave) -> None:
    """Set the encoder to the PCA of the log magnitudes of training waveforms w [n, 2, time], the head to its inverse.

    The 32 components are scaled to a standard deviation of `PCA_SPREAD`, so that tanh hardly changes them. From random
    weights the same network is far behind after thousands of steps. Raises ValueError unless the profile has
    `pca_start` and `octaves`.
    """
    straight = model.encoder.straight
    if straight is None or model.head is None:
        raise ValueError("a start from PCA needs `pca_start` and `octaves`: see `mousai.small.config`")
    pca, (channels, inside, frames) = fit_pca(w, model.config), straight.weight.shape
    spread = PCA_SPREAD / np.sqrt(pca.explained_variance_)[:, None]
    analysis, synthesis = (torch.from_numpy(pca.components_ * s).float() for s in (spread, 1 / spread))
    mean = torch.from_numpy(pca.mean_).float()
    weight = weights(model.config).T  # [1, magnitude]: the rows of the PCA are weighted, the encoder's input is not
    straight.weight.copy_((analysis.view(channels, frames, inside) * weight).transpose(1, 2))
    straight.bias.copy_(-analysis @ mean)  # type: ignore[union-attr]
    model.encoder.to_out.weight.mul_(0.1)
    model.encoder.to_out.bias.zero_()  # type: ignore[union-attr]
    head = model.head.to_magnitude.conv  # its output channels: for each number of m_w, its frames
    head.weight.zero_()
    head.weight[:, :channels, 0] = (synthesis.view(channels, frames, inside) / weight).permute(2, 1, 0).flatten(0, 1)
    head.bias.copy_((mean.view(frames, inside) / weight).T.flatten())  # type: ignore[union-attr]
