"""The small stage 1's configuration without departures."""

import pytest

from mousai.config import DMAEConfig
from mousai.small.config import SmallDMAEConfig, SmallEncoderConfig


@pytest.fixture(scope="session")
def plain(paper_dmae: DMAEConfig) -> SmallDMAEConfig:
    """The small stage 1's configuration with every departure off: what it computes is the paper's."""
    names = ("crop", "n_fft", "hop", "patch", "patch_channels")
    encoder = SmallEncoderConfig(**vars(paper_dmae.encoder))
    return SmallDMAEConfig(paper_dmae.unet, encoder, **{name: getattr(paper_dmae, name) for name in names})
