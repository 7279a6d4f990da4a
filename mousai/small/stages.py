"""Both stages as a profile names them: new, or filled with its weights."""

from pathlib import Path

import torch
from torch import nn

from mousai import files
from mousai.checkpoint import load_weights
from mousai.config import DMAEConfig, Profile
from mousai.dmae import DMAE
from mousai.inference.precision import choose_device
from mousai.small.config import SmallDMAEConfig
from mousai.small.dmae import SmallDMAE, start_skips
from mousai.tcld import TCLD

PACKAGE = Path(__file__).resolve().parent.parent


def weights_path(profile: Profile, name: str) -> Path:
    """mousai/weights/<profile>/<name>.safetensors; the card is the same with .json. name: dmae, tcld or judge.

    A preflight's lie below `runs_dir()`, where no other profile looks for any.
    """
    place = files.runs_dir() if profile.rehearsal else PACKAGE
    return place / "weights" / profile.name / f"{name}.safetensors"


def new_dmae(config: DMAEConfig) -> DMAE:
    """Stage 1, untrained: the paper's, or the small one where the configuration is of that kind."""
    return SmallDMAE(config) if isinstance(config, SmallDMAEConfig) else DMAE(config)


def new_tcld(profile: Profile) -> TCLD:
    """Stage 2, untrained. Its window is the training crop in latent steps: 2048 in the paper."""
    model = TCLD(profile.tcld, window=profile.tcld.crop // profile.dmae.latent_stride)
    start_skips(model.unet)
    return model


def load_dmae(profile: Profile, device: torch.device | None = None) -> DMAE:
    """Stage 1 with the profile's weights, ready to encode and decode."""
    model = new_dmae(profile.dmae)
    fill(model, profile, "dmae")
    return model.to(device or choose_device()).eval()


def load_tcld(profile: Profile, device: torch.device | None = None) -> TCLD:
    """Stage 2 with the profile's weights, ready to sample."""
    model = new_tcld(profile)
    fill(model, profile, "tcld")
    return model.to(device or choose_device()).eval()


def fill(model: nn.Module, profile: Profile, name: str) -> None:
    """The profile's weights into the model. Errors as `load_weights`; ValueError where a preflight made them."""
    path = weights_path(profile, name)
    card = load_weights(model, path)
    if card.get("profile", "").endswith("-rehearsal") and not profile.rehearsal:
        raise ValueError(f"{path}: made in a rehearsal, in a step: train them with `mousai train {name}`")
