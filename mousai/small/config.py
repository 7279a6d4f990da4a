"""Where the small profiles depart from the paper. The defaults are the paper's; notebook 12 prints these comments."""

from dataclasses import dataclass, field, replace
from fractions import Fraction

from mousai.config import DMAEConfig, EncoderConfig, UNetConfig


@dataclass(frozen=True)
class SmallUNetConfig(UNetConfig):
    """The U-Net, with a field for small profiles."""

    skip_start: float | None = None  # initial scale of each level's output; the authors' is random, about 0


@dataclass(frozen=True)
class SmallEncoderConfig(EncoderConfig):
    """The magnitude encoder, with fields for small profiles."""

    log_floor: float | None = None  # encode log(m + floor), so that quiet high frequencies count; the paper: m
    pca_start: bool = False  # a linear path beside the network, which starts as a PCA of the log magnitude


@dataclass(frozen=True)
class SmallDMAEConfig(DMAEConfig):
    """Stage 1, with fields for small profiles."""

    unet: UNetConfig
    encoder: EncoderConfig = field(default_factory=SmallEncoderConfig)
    wave_scale: float = 1.0  # brings the diffused signal's variance near the noise's
    preemphasis: float = 0.0  # y[n] = x[n] - p x[n-1], so that squared error counts high frequencies
    octaves: tuple[tuple[int, int], ...] | None = None  # (bands, width) of each; a band is diffused over its size
    octave_units: int = 2048  # units in half the sample rate; widths count in them
    group_bands: int = 16  # bands in a group; one U-Net is shared by all groups
    halo_bands: int = 8  # more bands on each side of a group, in the input alone
    group_features: int = 16  # learned numbers that say which group it is
    context_channels: int = 48  # numbers per frame that are made of z for inject
    groups_drawn: int = 4  # groups of each octave in a step; with all, the highest octave takes nine tenths of it
    head_width: int = 64  # of the magnitude head, the small network that predicts magnitudes from z
    magnitude_weight: float = 0.5  # weight of the head's second loss, the squared error of the log magnitude
    encoder_pretrain_steps: int = 0  # first steps, which train only encoder and head; later ones only the U-Net
    magnitude_contrast: float = 1.0  # stretches the predicted log magnitude about its mean in time: it is too even
    refinement_steps: int = 0  # steps of Griffin-Lim refinement after sampling, towards the magnitude predicted from z
    phase_share: float = 0.0  # stereo phase coupling: share of the other channel mixed into each one's phase

    @property
    def stride(self) -> int:
        """Samples: lengths of waveforms that U-Net, bands and encoder take are multiples of this."""
        if self.octaves is None:
            return super().stride
        return max(self.octave_units * max(2, self.unet.stride), self.latent_stride)

    @property
    def group_inputs(self) -> int:
        """The U-Net's `in_channels` on groups: mid and side of every band in the input, and their log energies."""
        return 4 * (self.group_bands + 2 * self.halo_bands)

    @property
    def group_injected(self) -> int:
        """The U-Net's `inject_channels` on groups: log g of every band in the input, z's numbers, the group's own."""
        return 2 * (self.group_bands + 2 * self.halo_bands) + self.context_channels + self.group_features

    @property
    def octave_rates(self) -> list[tuple[int, Fraction]]:
        """(bands, frames per latent step) of each octave."""
        return [(bands, Fraction(width * self.latent_stride, self.octave_units)) for bands, width in self.octaves or ()]


def has_magnitude_head(config: DMAEConfig) -> bool:
    """Whether this stage 1 predicts the magnitude from z."""
    return isinstance(config, SmallDMAEConfig) and config.octaves is not None


def has_pca_start(config: DMAEConfig) -> bool:
    """Whether encoder and head begin as the PCA of the log magnitude and its inverse."""
    return has_magnitude_head(config) and getattr(config.encoder, "pca_start", False)


def pretrain_steps(config: DMAEConfig) -> int:
    """Steps in which only encoder and magnitude head learn; the paper has none."""
    return config.encoder_pretrain_steps if isinstance(config, SmallDMAEConfig) else 0


def with_pretraining(config: DMAEConfig, steps: int) -> DMAEConfig:
    """The configuration with `steps` steps of encoder pre-training; the paper's is returned as it is."""
    return replace(config, encoder_pretrain_steps=steps) if isinstance(config, SmallDMAEConfig) else config
