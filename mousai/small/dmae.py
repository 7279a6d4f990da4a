"""Stage 1 as a few million parameters learn it: `DMAE` with the departures of `SmallDMAEConfig` (ours)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.functional import lfilter, preemphasis

from mousai.diffusion import ddim, diffusion_loss, gaussian_like
from mousai.dmae import DMAE, PatchFrontEnd
from mousai.shapes import Latent, Level, Magnitude, Part, Wave
from mousai.small.config import SmallDMAEConfig, SmallUNetConfig
from mousai.small.encoder import SmallEncoder, linear_magnitude, log_magnitude, start_from_dct
from mousai.small.preconditioning import Bands, Envelope, Reader
from mousai.small.refinement import refined
from mousai.spectrogram import magnitude
from mousai.unet import NetLevel, UNet

READ_FLOOR = 1e-3  # of the magnitudes predicted from z, as in the log-mel spectrogram


class SmallDMAE(DMAE):
    """Stage 1 of the small profiles.

    What is diffused is `to_signal(w)`, pre-emphasised and scaled. With `envelope_bands` the U-Net works on MDCT bands
    and is preconditioned with the envelope that the magnitude head (`reader`) predicts from z; else on patches.
    """

    config: SmallDMAEConfig
    front: Any  # None where the U-Net works on MDCT bands
    envelope: Envelope | None
    reader: Reader | None

    def __init__(self, config: SmallDMAEConfig):
        nn.Module.__init__(self)  # not DMAE's: the parts and the order of their random numbers are others
        bands = config.envelope_bands
        self.config = config
        self.front = None if bands else PatchFrontEnd(config.patch, config.patch_channels)
        self.envelope = Envelope(bands) if bands else None
        self.reader = new_reader(config) if bands or config.readout_weight else None
        self.unet = UNet(config.unet)
        self.encoder = SmallEncoder(config.encoder)
        start_skips(self.unet)
        if config.dct_start and self.front is not None:
            start_from_dct(self.front)

    def net(self, x: Wave, sigma: Level, z: Latent, log_g: Bands | None = None) -> Wave:
        """v_hat of the diffused signal x. `log_g`: by `log_envelope`, where the same z comes again and again."""
        log_g = self.log_envelope(z) if log_g is None else log_g
        if self.envelope is None or log_g is None:
            return super().net(x, sigma, z)
        return self.envelope.precondition(lambda y: self.unet(y, sigma, z) - y, x, sigma, log_g)

    def log_envelope(self, z: Latent) -> Bands | None:
        """The log of the envelope that z predicts; None where nothing is preconditioned with one."""
        if self.envelope is None or self.reader is None:
            return None
        return self.reader.log_envelope(self.reader.inside(z)).to(z)

    def to_signal(self, w: Wave) -> Wave:
        """What is diffused: w, pre-emphasised and scaled."""
        if self.config.preemphasis:
            w = preemphasis(w, self.config.preemphasis)
        return self.config.wave_scale * w

    def to_wave(self, x: Wave, before: Float[Tensor, "batch 2 _"] | None = None) -> Wave:
        """The exact inverse of `to_signal`, never clipped; a later part needs the wave `before` it."""
        w = x / self.config.wave_scale
        p = self.config.preemphasis
        if not p:
            return w
        if before is not None:
            w[..., 0] += p * before[..., -1]
        with torch.autocast(w.device.type, enabled=False):
            return lfilter(w, w.new_tensor([1.0, -p]), w.new_tensor([1.0, 0.0]), clamp=False)

    def forward(self, w: Wave, generator: torch.Generator, step: int = 10**9) -> Float[Tensor, ""]:
        """Training loss on crops w [batch, 2, crop]: (v_hat - v)^2, plus the magnitude head's.

        Before `encoder_pretrain_steps` the head's alone; with `freeze_encoder` the encoder learns only there.
        """
        m_w = magnitude(w, self.config.n_fft, self.config.hop)
        x_0 = self.to_signal(w)
        warm = self.config.encoder_pretrain_steps
        with torch.set_grad_enabled(torch.is_grad_enabled() and (step < warm or not self.config.freeze_encoder)):
            z = self.encoder(m_w).to(x_0)
        side = self.reader_loss(z, m_w, x_0)
        if step < warm:
            return side
        eps = gaussian_like(x_0, generator)
        sigma = self.draw_sigma(len(w), generator).to(w)
        loss = diffusion_loss(lambda x, s: self.net(x, s, z), x_0, eps, sigma).mean()
        return loss + side

    def reader_loss(self, z: Latent, m_w: Magnitude, x_0: Wave) -> Float[Tensor, ""]:
        """What z predicts of log magnitude (squared error) and envelope (likelihood), weighted; 0 without a head."""
        if self.reader is None:
            return z.new_zeros(())
        log_g, log_m = self.reader(z)
        loss = self.config.readout_weight * (log_m - log_magnitude(m_w, READ_FLOOR)).square().mean()
        if self.envelope is not None:
            with torch.autocast(z.device.type, enabled=False):
                loss = loss + self.config.envelope_weight * self.envelope.loss(log_g, x_0)
        return loss

    def draw_sigma(self, n: int, generator: torch.Generator) -> Level:
        """sigma ~ U[0, 1]; in `noisy_share` of the items sqrt(U), towards the noisy end."""
        u = torch.rand(n, generator=generator)
        noisy = torch.rand(n, generator=generator) < self.config.noisy_share
        return torch.where(noisy, u.sqrt(), u)

    @torch.no_grad()
    def decode(self, z: Latent, steps: int, generator: torch.Generator, length: int | None = None) -> Wave:
        """As `DMAE.decode`, then back to a waveform, refined."""
        z, length = self.padded(z, length)
        log_g = self.log_envelope(z)
        eps = gaussian_like(z.new_empty(len(z), 2, z.shape[-1] * self.config.latent_stride), generator)
        x_0 = ddim(lambda x, sigma: self.net(x, sigma, z, log_g), eps, steps)
        return torch.cat([*self.refine([self.to_wave(x_0)], z)], dim=-1)[..., :length]

    @torch.no_grad()
    def refine(self, waves: Iterable[Part], z: Latent) -> Iterator[Part]:
        """The parts of a wave, refined towards the magnitude that z predicts, `refinement_steps` times."""
        if not self.config.refinement_steps:
            yield from waves
            return
        yield from refined(waves, self.magnitude_reader(z), z.shape[-1] * self.config.latent_stride, self.config)

    def read_magnitude(self, z: Latent) -> Magnitude:
        """m_w as z predicts it, with the profile's contrast over the whole time of z.

        Raises ValueError where there is no magnitude head.
        """
        return self.magnitude_reader(z)(0, z.shape[-1] * self.config.latent_stride // self.config.hop)

    def magnitude_reader(self, z: Latent) -> Callable[[int, int], Magnitude]:
        """(a, b) -> frames [a, b) of `read_magnitude`, which for minutes of music would take gigabytes."""
        reader, frames = self.reader, self.config.latent_stride // self.config.hop
        if reader is None:
            raise ValueError("this stage 1 has no reader: set `readout_weight` or `envelope_bands`")
        with torch.autocast(z.device.type, enabled=False):
            hidden = reader.inside(z)
            mean = reader.magnitude(hidden.mean(-1, keepdim=True)).mean(-1, keepdim=True)  # linear, so of all frames

        def read(a: int, b: int) -> Magnitude:
            first = a // frames
            with torch.autocast(z.device.type, enabled=False):
                log_m = reader.magnitude(hidden[..., first : -(-b // frames)])[..., a - frames * first :][..., : b - a]
                return linear_magnitude(torch.lerp(mean, log_m, self.config.magnitude_contrast), READ_FLOOR)

        return read


def new_reader(config: SmallDMAEConfig) -> Reader:
    """Predicts from z the envelope in bands, where there are any, and the encoder's magnitudes."""
    bands, numbers = config.envelope_bands or 0, config.encoder.in_channels
    frames = (config.latent_stride // bands if bands else 1, config.latent_stride // config.hop)
    return Reader(config.encoder.latent_channels, config.reader_width, (2 * bands, numbers), frames)


def start_skips(unet: UNet) -> None:
    """The skips begin at the scale that a `SmallUNetConfig` names."""
    if not isinstance(unet.config, SmallUNetConfig) or unet.config.skip_start is None:
        return
    for module in unet.modules():
        if isinstance(module, NetLevel):
            nn.init.constant_(module.skip.bias, unet.config.skip_start)
