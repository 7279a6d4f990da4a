"""Whether the windows of stage 1 leave seams (ours): where two overlapping windows disagree, the level falls."""

import torch
from torch import Tensor

from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.dmae import DMAE
from mousai.evaluation.real import original_set
from mousai.inference.long import Run, decode
from mousai.inference.windows import cross_fade, window_starts
from mousai.shapes import Latent, Wave


def seam_energy(work: Workspace, model: DMAE, clips: int = 4, seed: int = 0) -> dict[str, float]:
    """By how many dB stage 1 makes the overlaps of windows louder than the rest, relative to the original; 0 is no
    seam.

    It is measured on reconstructed test clips, sampled as the profile says. "blended": windows are cross-faded at every
    step, as `decode` does. "apart": each window has its own noise and is cross-faded only at the end, so that up to 3
    dB are lost where windows disagree.
    """
    profile = work.profile
    original = original_set(work)
    place = next(model.parameters()).device
    w = torch.stack([original[i] for i in range(min(clips, len(original)))])
    z = model.encode(w.to(place))
    inside = overlaps(profile, w.shape[-1])
    sounds = {"blended": decoded(profile, model, z, seed).cpu(), "apart": decoded_apart(profile, model, z, seed)}
    return {name: gain_db(y, w, inside) - gain_db(y, w, ~inside) for name, y in sounds.items()}


def decoded(profile: Profile, model: DMAE, z: Latent, seed: int) -> Wave:
    """The waveform of z, decoded as the profile samples."""
    sampling, generator = profile.sampling, torch.Generator().manual_seed(seed)
    return decode(model, z, Run(sampling.dmae_steps, sampling.sampler), generator)


def decoded_apart(profile: Profile, model: DMAE, z: Latent, seed: int) -> Wave:
    """The waveform of z, with every window decoded by itself from its own noise, then cross-faded."""
    stride, crop = profile.dmae.latent_stride, profile.dmae.crop
    length, fade = z.shape[-1] * stride, cross_fade(crop).float()
    total, weight = torch.zeros(len(z), 2, length), torch.zeros(length)
    for i, a in enumerate(window_starts(length, crop, 3 * crop // 4)):
        total[..., a : a + crop] += (
            fade * decoded(profile, model, z[..., a // stride : (a + crop) // stride], seed + i).cpu()
        )
        weight[a : a + crop] += fade
    return total / weight


def overlaps(profile: Profile, length: int) -> Tensor:
    """Which samples [length] are in two windows; the last overlap, which may be wider, is left out."""
    crop, inside = profile.dmae.crop, torch.zeros(length, dtype=torch.bool)
    for a in window_starts(length, crop, 3 * crop // 4)[1:-1]:
        inside[a : a + crop // 4] = True
    return inside


def gain_db(y: Wave, w: Wave, where: Tensor) -> float:
    """Level of y minus that of w over the samples `where`, in dB."""
    return 10 * (y[..., where].square().mean() / w[..., where].square().mean()).log10().item()
