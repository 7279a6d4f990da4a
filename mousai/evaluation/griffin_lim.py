"""The baselines of stage 1 without diffusion (ours).

PCA + Griffin-Lim: PCA of the log magnitude to as many channels as z has, then Griffin-Lim. A DMAE that is not better
adds nothing. Griffin-Lim from z: the magnitude that stage 1's magnitude head predicts from z, then Griffin-Lim.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor
from torchaudio.functional import griffinlim

from mousai.config import DMAEConfig
from mousai.data.dataset import Workspace
from mousai.evaluation.real import original_set
from mousai.evaluation.samples import ClipSet, cached, model_context
from mousai.inference.precision import choose_device
from mousai.shapes import Wave
from mousai.small.config import has_magnitude_head
from mousai.small.dmae import SmallDMAE
from mousai.small.pca import fit_pca, folded, unfolded
from mousai.small.stages import load_dmae

PCA_CROPS = 64  # training crops that the PCA is fitted on, as in notebook 04
ITERATIONS = 32  # of Griffin-Lim
MOMENTUM = 0.99  # of Griffin-Lim, torchaudio's default


def pca_griffin_lim(w: Wave, pca: PCA, config: DMAEConfig, iterations: int = ITERATIONS, seed: int = 0) -> Wave:
    """w -> the PCA's channels at each latent step -> magnitudes -> waveform, by Griffin-Lim from a random phase.

    Both channels start from the same random phase, so that they do not cancel when mixed.
    """
    numbers = pca.transform(folded(w, config).numpy())
    rows = torch.from_numpy(pca.inverse_transform(numbers).astype(np.float32))
    return from_magnitude(unfolded(rows, len(w), config), w.shape[-1], config, iterations, seed)


@torch.no_grad()
def griffin_lim_from_z(dmae: SmallDMAE, w: Wave, iterations: int = ITERATIONS, seed: int = 0) -> Wave:
    """w -> z -> the magnitudes that stage 1's magnitude head predicts -> waveform, by Griffin-Lim; no diffusion."""
    device = next(dmae.parameters()).device
    parts = [dmae.read_magnitude(dmae.encode(part.to(device))).cpu() for part in w.split(4)]
    return from_magnitude(torch.cat(parts), w.shape[-1], dmae.config, iterations, seed)


def from_magnitude(
    m: Float[Tensor, "batch bins frames"], length: int, config: DMAEConfig, iterations: int, seed: int
) -> Wave:
    """Waveforms [batch, 2, length] from magnitudes, which hold the left channel's bins, then the right one's."""
    left, right = m.unflatten(1, (2, -1)).unbind(1)
    scale = config.n_fft**0.5  # magnitudes of stage 1 are of a normalised STFT
    channels = [griffin_lim(scale * part, length, config, iterations, seed) for part in (left, right)]
    return torch.stack(channels, dim=1)


def griffin_lim(
    m: Float[Tensor, "batch bins frames"], length: int, config: DMAEConfig, iterations: int, seed: int
) -> Float[Tensor, "batch time"]:
    """Waveforms of `length` samples whose STFT magnitude is near m. Torch's global random state is restored."""
    window = torch.hann_window(config.n_fft)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return griffinlim(
            m, window, config.n_fft, config.hop, config.n_fft, 1.0, iterations, MOMENTUM, length, rand_init=True
        )


def pca_set(work: Workspace) -> ClipSet:
    """The chunks of `original_set` reconstructed by PCA with as many channels as z, then Griffin-Lim; cached."""
    real, profile, config = original_set(work), work.profile, work.profile.dmae
    context = {"crop": profile.tcld.crop, "n_fft": config.n_fft, "hop": config.hop, "iterations": ITERATIONS}
    context |= {"directions": config.encoder.latent_channels, "pca_crops": PCA_CROPS, "seed": profile.seed}
    pca = cache(lambda: fit_pca(training_crops(work), config, profile.seed))  # only where a clip is missing

    def make(indices: list[int]) -> Tensor:
        return pca_griffin_lim(torch.stack([real[i] for i in indices]), pca(), config)

    return cached(work, "pca_griffin_lim", real.prompts, make, context)


def training_crops(work: Workspace) -> Wave:
    """The waveforms that the PCA is fitted on: random crops of the train split [64, 2, crop]."""
    return work.data.crops("train", work.profile.dmae.crop, PCA_CROPS, work.profile.seed)(0)


def griffin_lim_set(work: Workspace) -> ClipSet:
    """The chunks of `original_set` reconstructed by `griffin_lim_from_z`; cached.

    Raises ValueError where the profile's stage 1 has no magnitude head.
    """
    profile = work.profile
    if not has_magnitude_head(profile.dmae):
        raise ValueError(f"profile {profile.name}: its stage 1 has no magnitude head for Griffin-Lim to start from")
    real = original_set(work)
    context = model_context(work, ("dmae",)) | {"iterations": ITERATIONS, "seed": profile.seed}
    dmae = cache(lambda: load_dmae(profile, choose_device(work.device)))  # only where a clip is missing

    def make(indices: list[int]) -> Tensor:
        model = dmae()
        assert isinstance(model, SmallDMAE)  # by its magnitude head, above
        return griffin_lim_from_z(model, torch.stack([real[i] for i in indices]), ITERATIONS, profile.seed)

    return cached(work, "griffin_lim_from_z", real.prompts, make, context)
