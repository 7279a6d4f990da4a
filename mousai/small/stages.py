"""Both stages of a profile: untrained, or with its weights."""

from pathlib import Path

import torch
from torch import nn

from mousai import files
from mousai.checkpoint import load_weights, read_card
from mousai.config import DMAEConfig, Profile
from mousai.dmae import DMAE
from mousai.inference.precision import choose_device
from mousai.small.config import SmallDMAEConfig
from mousai.small.dmae import SmallDMAE, start_skips
from mousai.tcld import TCLD

PACKAGE = Path(__file__).resolve().parent.parent


def weights_path(profile: Profile, name: str, folder: Path | None = None) -> Path:
    """The file of the weights `name` ("dmae", "tcld" or "in_domain") in `folder`.

    Without `folder`: for "dmae" and "tcld" the user's own folder (`MOUSAI_WEIGHTS`), if set, unless its card names
    another profile; else mousai/weights/<profile>. A preflight's weights are below `runs_dir()`, where no other profile
    looks.
    """
    own = files.user_weights()
    if folder is None and own is not None and name != "in_domain":
        of_another = read_card(own / f"{name}.safetensors").get("profile", profile.name) != profile.name
        folder = None if of_another else own
    if folder is not None:
        return folder / f"{name}.safetensors"
    place = files.runs_dir() if profile.rehearsal else PACKAGE
    return place / "weights" / profile.name / f"{name}.safetensors"


def new_dmae(config: DMAEConfig) -> DMAE:
    """Stage 1, untrained: the paper's `DMAE`, or `SmallDMAE` for a `SmallDMAEConfig`."""
    return SmallDMAE(config) if isinstance(config, SmallDMAEConfig) else DMAE(config)


def new_tcld(profile: Profile) -> TCLD:
    """Stage 2, untrained. Its window is the training crop in latent steps: 2048 in the paper."""
    model = TCLD(profile.tcld, window=profile.tcld.crop // profile.dmae.latent_stride)
    start_skips(model.unet)
    return model


def load_dmae(profile: Profile, device: torch.device | None = None, weights: Path | None = None) -> DMAE:
    """Stage 1 with the weights in the folder `weights` (default: `weights_path`), ready to use. Raises as `fill`."""
    model = new_dmae(profile.dmae)
    fill(model, profile, weights_path(profile, "dmae", weights))
    return model.to(device or choose_device()).eval()


def load_tcld(profile: Profile, device: torch.device | None = None, weights: Path | None = None) -> TCLD:
    """Stage 2 with the weights in the folder `weights` (default: `weights_path`), ready to sample. Raises as `fill`."""
    model = new_tcld(profile)
    fill(model, profile, weights_path(profile, "tcld", weights))
    return model.to(device or choose_device()).eval()


def describe_weights(path: Path) -> str:
    """The path and the first 8 digits of the sha256 of a file of weights, for the line that says which are used."""
    return f"{path} (sha256 {files.sha256(path)[:8]})"


def fill(model: nn.Module, profile: Profile, path: Path) -> None:
    """Load a file of weights. Raises as `load_weights`, and ValueError for a preflight's weights in another profile."""
    card = load_weights(model, path)
    if card.get("profile", "").endswith("-rehearsal") and not profile.rehearsal:
        raise ValueError(f"{path}: made in a rehearsal, in a step: train them with `mousai train {path.stem}`")
