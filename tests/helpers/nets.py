"""A small U-Net with every condition, and a decoder that is given the magnitude it reads."""

import torch

from mousai.config import UNetConfig
from mousai.dmae import DMAE
from mousai.small.preconditioning import unfolded

WITH_LATENT = UNetConfig(
    in_channels=4,
    channels=(8, 16),
    factors=(1, 2),
    items=(1, 2),
    attentions=(0, 1),
    cross_attentions=(1, 1),
    inject_depth=1,
    inject_channels=3,
    heads=2,
    head_features=8,
    embedding_features=6,
    features=16,
)


def reads(model: DMAE, log_m: torch.Tensor, monkeypatch) -> None:
    """Let its reader read this from any z."""
    frames, numbers = model.config.latent_stride // model.config.hop, log_m.shape[1]
    folded = log_m.unflatten(2, (-1, frames)).transpose(2, 3).flatten(1, 2)  # a step's frames beside each other
    log_g = lambda z: z.new_zeros(1, 256, 8 * z.shape[-1])  # noqa: E731
    monkeypatch.setattr(model, "log_envelope", log_g)
    monkeypatch.setattr(model.reader, "forward", lambda z: (log_g(z), log_m))
    monkeypatch.setattr(model.reader, "inside", lambda z: folded)
    monkeypatch.setattr(model.reader, "magnitude", lambda h: unfolded(h, numbers))
