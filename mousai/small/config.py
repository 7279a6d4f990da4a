"""Where the small profiles depart from the paper, each field with its reason; the defaults are the paper's."""

from dataclasses import dataclass, field, replace
from fractions import Fraction

from mousai.config import DMAEConfig, EncoderConfig, UNetConfig


@dataclass(frozen=True)
class SmallUNetConfig(UNetConfig):
    """The U-Net with what a small one needs."""

    skip_start: float | None = None  # initial skip scale; the authors leave it to chance, about 0


@dataclass(frozen=True)
class SmallEncoderConfig(EncoderConfig):
    """The magnitude encoder with what a small one needs."""

    log_floor: float | None = None  # encode log(m + floor), so that quiet highs count; the paper's is linear
    pca_start: bool = False  # a linear path beside the net, which starts as the magnitude's PCA


@dataclass(frozen=True)
class SmallDMAEConfig(DMAEConfig):
    """Stage 1 with what a small one needs."""

    unet: UNetConfig
    encoder: EncoderConfig = field(default_factory=SmallEncoderConfig)
    wave_scale: float = 1.0  # brings the diffused signal's variance near the noise's
    preemphasis: float = 0.0  # y[n] = x[n] - p x[n-1], so that squared error counts the highs
    octaves: tuple[tuple[int, int], ...] | None = None  # (bands, width) of each: of unit size by the head's variance
    octave_units: int = 2048  # of which a width counts how many; the widths of all bands make so many
    group_bands: int = 16  # bands in a group; one U-Net is shared by all groups
    halo_bands: int = 8  # more that it sees on each side
    group_features: int = 16  # learned numbers that say which group it is
    context_channels: int = 48  # numbers a frame that z brings by inject
    groups_drawn: int = 4  # of an octave's groups, those in a training step: else the highs take nine tenths of it
    head_width: int = 64  # of the magnitude head, the small net that predicts from z
    magnitude_weight: float = 0.5  # of the head's second loss, the squared error of the log magnitude
    encoder_pretrain_steps: int = 0  # encoder and head learn in these steps alone, the U-Net after them
    magnitude_contrast: float = 1.0  # stretches the predicted log about its mean in time, because a mean is too even
    refinement_steps: int = 0  # steps of Griffin-Lim refinement after sampling, towards the magnitude predicted from z
    phase_share: float = 0.0  # stereo phase coupling: of the other channel in each one's phase

    @property
    def stride(self) -> int:
        """Samples of the least length that U-Net, bands and encoder can take; others are multiples of it."""
        if self.octaves is None:
            return super().stride
        return max(self.octave_units * max(2, self.unet.stride), self.latent_stride)

    @property
    def group_inputs(self) -> int:
        """The U-Net's `in_channels` on groups: mid and side of every band it sees, and their log energies."""
        return 4 * (self.group_bands + 2 * self.halo_bands)

    @property
    def group_injected(self) -> int:
        """The U-Net's `inject_channels` on groups: log g of every band it sees, z's numbers, the group's own."""
        return 2 * (self.group_bands + 2 * self.halo_bands) + self.context_channels + self.group_features

    @property
    def octave_rates(self) -> list[tuple[int, Fraction]]:
        """(bands, frames a latent step) of each octave."""
        return [(bands, Fraction(width * self.latent_stride, self.octave_units)) for bands, width in self.octaves or ()]


def has_magnitude_head(config: DMAEConfig) -> bool:
    """Whether this stage 1 predicts the magnitude from z."""
    return isinstance(config, SmallDMAEConfig) and config.octaves is not None


def has_pca_start(config: DMAEConfig) -> bool:
    """Whether encoder and head begin as an inverse pair, the magnitude's PCA."""
    return has_magnitude_head(config) and getattr(config.encoder, "pca_start", False)


def pretrain_steps(config: DMAEConfig) -> int:
    """Steps in which only encoder and magnitude head learn; the paper has none."""
    return config.encoder_pretrain_steps if isinstance(config, SmallDMAEConfig) else 0


def with_pretraining(config: DMAEConfig, steps: int) -> DMAEConfig:
    """The same with so many steps of pre-training, where it has any."""
    return replace(config, encoder_pretrain_steps=steps) if isinstance(config, SmallDMAEConfig) else config
