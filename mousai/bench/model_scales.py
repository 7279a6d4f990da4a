"""The paper's architecture at the widths that `mousai bench` and `mousai plan` use, with random inputs for it."""

from dataclasses import replace

import torch
from torch import Tensor

from mousai.config import A100, DMAEConfig, TCLDConfig, UNetConfig
from mousai.diffusion import gaussian_like

NARROWER = {"a100": 1, "cpu": 4, "smoke": 16}  # size -> what the paper's widths are divided by


def sized(size: str) -> tuple[DMAEConfig, TCLDConfig, int]:
    """(stage 1, stage 2, length of z for stage 2) of the paper at that width; z is 43.7 s long, less in `smoke`.

    Raises ValueError for an unknown size.
    """
    if size not in NARROWER:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(NARROWER)}")
    by = NARROWER[size]
    small = size == "smoke"
    encoder = replace(A100.dmae.encoder, channels=A100.dmae.encoder.channels // by)
    crop = 2**16 if small else A100.dmae.crop
    dmae = replace(A100.dmae, unet=narrower(A100.dmae.unet, by), encoder=encoder, crop=crop)
    latent = A100.tcld.crop // A100.dmae.latent_stride
    return dmae, replace(A100.tcld, unet=narrower(A100.tcld.unet, by)), 128 if small else latent


def narrower(config: UNetConfig, by: int) -> UNetConfig:
    """The U-Net with all widths divided by `by`; it keeps at least one attention head."""
    channels = tuple(width // by for width in config.channels)
    heads = max(1, config.heads // by)
    return replace(config, channels=channels, heads=heads, features=config.features // by)


def inputs(size: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(text embedding, z of one crop, a crop w, stage 2's noise), one item each, the same at every call."""
    dmae, tcld, latent = sized(size)
    generator = seeded()
    words = torch.randn(1, tcld.text.tokens, tcld.text.features, generator=generator)
    z = torch.randn(1, 32, dmae.crop // dmae.latent_stride, generator=generator).tanh()
    w = 0.1 * torch.randn(1, 2, dmae.crop, generator=generator)
    return words, z, w, gaussian_like(torch.empty(1, 32, latent), seeded())


def seeded() -> torch.Generator:
    """A new generator with seed 0."""
    return torch.Generator().manual_seed(0)
