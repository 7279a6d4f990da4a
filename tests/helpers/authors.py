"""Random architectures, each built twice with the same weights: by the authors' packages, the oracle, and by ours."""

from dataclasses import replace
from functools import cache
from math import prod

import numpy as np
import torch
from audio_diffusion_pytorch import DiffusionAE, DiffusionModel

from mousai.bench.authors import authors_dmae, authors_tcld
from mousai.config import DMAEConfig, EncoderConfig, PaperExact, TCLDConfig, TextConfig, UNetConfig
from mousai.dmae import DMAE
from mousai.interop.authors import dmae_from_authors, tcld_from_authors
from mousai.tcld import TCLD

EXACT = PaperExact(attention=True, guidance=True, lengths=True)


def integers(rng: np.random.Generator, low: int, high: int, n: int) -> tuple[int, ...]:
    """n whole numbers from low to high, both included."""
    return tuple(int(i) for i in rng.integers(low, high + 1, n))


def random_unet(rng: np.random.Generator, depths: int, text: bool, **fixed) -> UNetConfig:
    """A random U-Net: about half have self-attention; with `text` each hears it at one depth or more."""
    attentions = integers(rng, 0, 2, depths) if rng.random() < 0.6 else (0,) * depths
    cross = integers(rng, 0, 2, depths) if text else (0,) * depths
    if text and not any(cross):
        cross = (*cross[:-1], 1)
    return UNetConfig(
        channels=tuple(8 * n for n in integers(rng, 1, 4, depths)),
        factors=(1, *integers(rng, 1, 3, depths - 1)),
        items=integers(rng, 1, 2, depths),
        attentions=attentions,
        cross_attentions=cross,
        heads=int(rng.integers(1, 5)),
        head_features=4 * int(rng.integers(1, 5)),
        features=16 * int(rng.integers(1, 5)),
        groups=int(rng.choice([1, 2, 4, 8])),
        **fixed,
    )


def random_dmae(rng: np.random.Generator) -> DMAEConfig:
    """A random stage 1: the latent enters at depth 0, 1, 2 or 3 of at most 4."""
    depth, latent_channels = int(rng.integers(4)), int(rng.integers(2, 9))
    patch, patch_channels = int(rng.choice([8, 16])), 8 * int(rng.integers(1, 5))
    conditions = {"inject_depth": depth, "inject_channels": latent_channels}
    unet = random_unet(rng, int(rng.integers(depth + 1, 5)), text=False, in_channels=patch_channels, **conditions)
    factors = integers(rng, 1, 2, int(rng.integers(1, 4)))
    hop = patch * prod(unet.factors[: depth + 1]) // prod(factors)  # so that latent and activation are of a length
    n_fft = 2 * hop * int(rng.integers(2, 4)) - 1  # odd, as in the paper: exactly time / hop frames
    blocks = integers(rng, 1, 3, len(factors))
    encoder = EncoderConfig(n_fft + 1, 8 * int(rng.integers(1, 4)), factors, blocks, latent_channels)
    return DMAEConfig(unet, encoder, n_fft=n_fft, hop=hop, patch=patch, patch_channels=patch_channels)


def random_tcld(rng: np.random.Generator) -> TCLDConfig:
    """A random stage 2 of 1 to 4 depths."""
    features, channels, tokens = 4 * int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(2, 9))
    conditions = {"in_channels": channels, "embedding_features": features}
    unet = random_unet(rng, int(rng.integers(1, 5)), text=True, **conditions)
    return TCLDConfig(unet, TextConfig(features=features, tokens=tokens), mask_share=0.5)


def dmae_pair(seed: int) -> tuple[DiffusionAE, DMAE, torch.Tensor]:
    """Theirs, ours with their weights, and noise for waveforms [1 to 3, 2, a length that fits both]. Read only."""
    return made_dmae_pair(seed, torch.get_default_dtype())


@cache
def made_dmae_pair(seed: int, dtype: torch.dtype) -> tuple[DiffusionAE, DMAE, torch.Tensor]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    config = random_dmae(rng)
    theirs, ours = authors_dmae(config).eval(), DMAE(config).eval()
    ours.load_state_dict(dmae_from_authors(theirs.state_dict(), config))
    (batch,), (times,) = integers(rng, 1, 3, 1), integers(rng, 3, 6, 1)
    return theirs, ours, torch.randn(batch, 2, times * config.stride, dtype=dtype)


def tcld_pair(seed: int) -> tuple[DiffusionModel, TCLD, torch.Tensor, torch.Tensor]:
    """Theirs, ours with their weights, noise for latents [1 to 3, channels, length] and their text. Read only."""
    return made_tcld_pair(seed, torch.get_default_dtype())


@cache
def made_tcld_pair(seed: int, dtype: torch.dtype) -> tuple[DiffusionModel, TCLD, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    rng = np.random.default_rng(100 + seed)
    config = random_tcld(rng)
    (batch,), (times,) = integers(rng, 1, 3, 1), integers(rng, 1, 8, 1)
    length = times * config.unet.stride
    theirs, ours = authors_tcld(config).eval(), TCLD(config, window=length).eval()
    ours.load_state_dict(tcld_from_authors(theirs.state_dict(), config))
    z = torch.randn(batch, config.unet.in_channels, length, dtype=dtype)
    return theirs, ours, z, torch.randn(batch, config.text.tokens, config.text.features, dtype=dtype)


def made_exact(ours: TCLD | DMAE) -> TCLD | DMAE:
    """The same weights, with everything computed the authors' way."""
    config = replace(ours.config, unet=replace(ours.config.unet, paper_exact=EXACT))
    exact = DMAE(config) if isinstance(ours, DMAE) else TCLD(config, ours.window)
    exact.load_state_dict(ours.state_dict())
    return exact.eval()


def at_depth(depth: int | None, z: torch.Tensor) -> list:
    """How their net wants the latent: one entry a depth."""
    return [None] * (depth or 0) + [z]


def prefixed(state: dict, prefix: str) -> dict:
    """The state dict of a module that holds theirs under another name."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def one_copy(state: dict, kept: str) -> dict:
    """What a safetensors file can hold: of the net's copies only those under `kept`, of the time MLP's one."""
    copies = {"net.", "diffusion.net.", "sampler.net."} - {kept}
    second = tuple(f"{kept}{place}blocks.1.0." for place in ("blocks.1.", "blocks.2.blocks.1."))
    return {k: v.clone() for k, v in state.items() if not k.startswith((*copies, *second))}
