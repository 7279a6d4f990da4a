"""Where the small profiles depart from the paper, each field with its reason; the defaults are the paper's."""

from dataclasses import dataclass, field, replace

from mousai.config import DMAEConfig, EncoderConfig, UNetConfig


@dataclass(frozen=True)
class SmallUNetConfig(UNetConfig):
    """The U-Net with what a small one needs."""

    inject_everywhere: bool = False  # the latent also at the depths above, repeated to their length
    skip_start: float | None = None  # initial skip scale; the authors leave it to chance, about 0

    def injects(self, depth: int) -> bool:
        """Whether the latent enters at this depth."""
        above = self.inject_depth is not None and depth < self.inject_depth
        return depth == self.inject_depth or (self.inject_everywhere and above)


@dataclass(frozen=True)
class SmallEncoderConfig(EncoderConfig):
    """The magnitude encoder with what a small one needs."""

    log_floor: float | None = None  # encode log(m + floor), so that quiet highs count; the paper's is linear
    norm_before_tanh: bool = False  # LayerNorm over channels before tanh, which else saturates when small
    pca_start: bool = False  # a linear path beside the net, which starts as the magnitude's PCA


@dataclass(frozen=True)
class SmallDMAEConfig(DMAEConfig):
    """Stage 1 with what a small one needs."""

    unet: UNetConfig
    encoder: EncoderConfig = field(default_factory=SmallEncoderConfig)
    wave_scale: float = 1.0  # brings the diffused signal's variance near the noise's
    preemphasis: float = 0.0  # y[n] = x[n] - p x[n-1], so that squared error counts the highs
    dct_start: bool = False  # the front end starts as a DCT and its inverse, so that channels are bands
    readout_weight: float = 0.0  # auxiliary loss: the log magnitude predicted from z
    reader_width: int = 64  # of the magnitude head, the small net that predicts from z
    envelope_bands: int | None = None  # MDCT bands: preconditioned with the best linear denoiser for what z predicts
    envelope_weight: float = 0.1  # of the loss that teaches z the envelope; unused without bands
    encoder_pretrain_steps: int = 0  # train only encoder and magnitude head first, so that the U-Net finds a useful z
    freeze_encoder: bool = False  # it learns in the pre-training only, so that latents stay what stage 2 learnt
    magnitude_contrast: float = 1.0  # stretches the predicted log about its mean in time, because a mean is too even
    refinement_steps: int = 0  # steps of Griffin-Lim refinement after sampling, towards the magnitude predicted from z
    phase_share: float = 0.0  # stereo phase coupling: of the other channel in each one's phase
    noisy_share: float = 0.0  # share of items with sigma = sqrt(u), where only z knows the spectrum

    @property
    def stride(self) -> int:
        """Samples per latent step, the least multiple the U-Net and the encoder share."""
        return max((self.envelope_bands or self.patch) * self.unet.stride, self.latent_stride)


def has_magnitude_head(config: DMAEConfig) -> bool:
    """Whether this stage 1 predicts the magnitude from z."""
    return isinstance(config, SmallDMAEConfig) and bool(config.envelope_bands or config.readout_weight)


def pretrain_steps(config: DMAEConfig) -> int:
    """Steps in which only encoder and magnitude head learn; the paper has none."""
    return config.encoder_pretrain_steps if isinstance(config, SmallDMAEConfig) else 0


def with_pretraining(config: DMAEConfig, steps: int) -> DMAEConfig:
    """The same with so many steps of pre-training, where it has any."""
    return replace(config, encoder_pretrain_steps=steps) if isinstance(config, SmallDMAEConfig) else config
