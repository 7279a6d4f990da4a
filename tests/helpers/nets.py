"""A small U-Net with every condition, and a decoder that is given the magnitude it predicts."""

import torch

from mousai.config import UNetConfig
from mousai.dmae import DMAE
from mousai.small.dmae import Condition
from mousai.small.head import frames_in_time

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


def predicts(model: DMAE, log_m: torch.Tensor, monkeypatch) -> None:
    """Let its head predict this log magnitude from any z."""
    frames, numbers = model.config.latent_stride // model.config.hop, log_m.shape[1]
    folded = log_m.unflatten(2, (-1, frames)).transpose(2, 3).flatten(1, 2)  # a step's frames beside each other
    rates = model.config.octave_rates
    flat = [folded.new_zeros(1, 2 * bands, int(rate * folded.shape[-1])) for bands, rate in rates]
    injected = [
        folded.new_zeros(1, bands // 16, 128, octave.shape[-1]) for (bands, _), octave in zip(rates, flat, strict=True)
    ]
    monkeypatch.setattr(model, "condition", lambda z, injected_z=None: Condition(flat, injected))
    monkeypatch.setattr(model.head, "hidden", lambda z: folded)
    monkeypatch.setattr(model.head, "magnitude", lambda h: frames_in_time(h, numbers))
