"""Stage 1, the diffusion magnitude-autoencoder: w -> m_w -> z, and back from z by diffusion (Section 3.1).

The encoder keeps 32 numbers where the waveform has 2 x 1024: 64x. It sees magnitudes only; the
decoder invents the phase.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import lfilter, preemphasis

from mousai.config import DMAEConfig
from mousai.diffusion import Sampler, ddim, diffusion_loss, gaussian_like, levels
from mousai.encoder import MagnitudeEncoder, linear_magnitude, log_magnitude
from mousai.inference.precision import autocast
from mousai.inference.windows import Given, Span, noise_in_pieces, sample_in_pieces
from mousai.patch import PatchFrontEnd
from mousai.shapes import Latent, Level, Magnitude, Part, Wave, to_stride
from mousai.small.preconditioning import Bands, Envelope, Reader
from mousai.spectrogram import magnitude, with_magnitude
from mousai.unet import Levels, UNet

POLISH_PART = 2**17  # samples, 2.7 s
TOGETHER = 2**18  # samples that go through the net at once; of a small net's crops, four
READ_FLOOR = 1e-3  # of the magnitudes that are read from z, as in the yardstick


class DMAE(nn.Module):
    """Stage 1. `encode` and `decode` take any length; `forward` is the training loss on crops."""

    def __init__(self, config: DMAEConfig):
        super().__init__()
        self.config = config
        bands = config.envelope_bands
        self.front = None if bands else PatchFrontEnd(config.patch, config.patch_channels, config.dct_start)
        self.envelope = Envelope(bands) if bands else None
        self.reader = new_reader(config) if bands or config.readout_weight else None
        self.unet = UNet(config.unet)
        self.encoder = MagnitudeEncoder(config.encoder)

    def net(self, x: Wave, sigma: Level, z: Latent, told: Levels | None = None, log_g: Bands | None = None) -> Wave:
        """v_hat of the diffused signal x, which is the (pre-emphasised, scaled) waveform plus noise.

        `told` by `UNet.tell` and `log_g` by `log_envelope`, where the same levels and z come again and again.
        """
        log_g = self.log_envelope(z) if log_g is None else log_g
        if self.envelope is not None and log_g is not None:
            f = lambda y: self.unet(y, sigma, z, None, told) - y  # noqa: E731
            return self.envelope.precondition(f, x, sigma, log_g)
        assert self.front is not None
        return self.front.join(self.unet(self.front.split(x), sigma, z, None, told))

    def log_envelope(self, z: Latent) -> Bands | None:
        """What z tells of the envelope; None where stage 1 does not start from one."""
        if self.envelope is None or self.reader is None:
            return None
        return self.reader.log_envelope(self.reader.inside(z)).to(z)

    def encode_crop(self, w: Wave) -> Latent:
        """z of a waveform whose length is already a multiple of the stride."""
        return self.encoder(magnitude(w, self.config.n_fft, self.config.hop))

    def encode(self, w: Wave) -> Latent:
        """w [batch, 2, time] of any length -> z [batch, 32, ceil(time / 1024)]: padded with zeros inside.

        With `paper_exact.lengths`, ValueError where the time does not divide by 1024.
        """
        length = to_stride(w.shape[-1], self.config.latent_stride, self.config.unet.paper_exact.lengths)
        return self.encode_crop(F.pad(w, (0, length - w.shape[-1])))

    def to_signal(self, w: Wave) -> Wave:
        """What is diffused: w, pre-emphasised and scaled where the profile departs from the paper."""
        if self.config.preemphasis:
            w = preemphasis(w, self.config.preemphasis)
        return self.config.wave_scale * w

    def to_wave(self, x: Wave, before: Float[Tensor, "batch 2 _"] | None = None) -> Wave:
        """The exact inverse of `to_signal`, never clipped; a later part needs the wave `before` it."""
        w, p = x / self.config.wave_scale, self.config.preemphasis
        if not p:
            return w
        if before is not None:
            w[..., 0] += p * before[..., -1]
        with torch.autocast(w.device.type, enabled=False):
            return lfilter(w, w.new_tensor([1.0, -p]), w.new_tensor([1.0, 0.0]), clamp=False)

    def forward(self, w: Wave, generator: torch.Generator, step: int = 10**9) -> Float[Tensor, ""]:
        """Training loss on crops w [batch, 2, crop]: (v_hat - v)^2, plus what the profile asks of the reader.

        Before `encoder_pretrain_steps` the reader's part alone; with `freeze_encoder` the encoder learns only there.
        """
        m_w, x_0, warm = (
            magnitude(w, self.config.n_fft, self.config.hop),
            self.to_signal(w),
            self.config.encoder_pretrain_steps,
        )
        with torch.set_grad_enabled(torch.is_grad_enabled() and (step < warm or not self.config.freeze_encoder)):
            z = self.encoder(m_w).to(x_0)
        side = self.reader_loss(z, m_w, x_0)
        if step < warm:
            return side
        eps, sigma = gaussian_like(x_0, generator), self.draw_sigma(len(w), generator).to(w)
        loss = diffusion_loss(lambda x, s: self.net(x, s, z), x_0, eps, sigma).mean()
        return loss + side

    def reader_loss(self, z: Latent, m_w: Magnitude, x_0: Wave) -> Float[Tensor, ""]:
        """What z tells of log magnitude (squared error) and envelope, weighted; 0 in the paper's configuration."""
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

    def decode(
        self,
        z: Latent,
        steps: int,
        generator: torch.Generator,
        length: int | None = None,
        progress: str | None = None,
        sampler: Sampler = ddim,
    ) -> Wave:
        """z [batch, 32, n] -> w [batch, 2, length or n * 1024]: `stream`, all of it at once."""
        with autocast(self.config.precision, z.device):  # around all parts: weights are cast once
            return torch.cat([*self.stream(z, steps, generator, length, progress, sampler)], dim=-1)

    def stream(
        self,
        z: Latent,
        steps: int,
        generator: torch.Generator,
        length: int | None = None,
        progress: str | None = None,
        sampler: Sampler = ddim,
        given: Given | None = None,
    ) -> Iterator[Part]:
        """z [batch, 32, n] -> parts of w [batch, 2, length or n * 1024], left to right, in memory for a few windows.

        `given`: of what `to_signal` makes of w, where some of it is there already.

        GroupNorm's statistics run over time, so the windows keep the length the net was trained on; they overlap by a
        quarter and are blended at every step. The authors' `decode` rounds to a power of two, or fails.
        Raises ValueError if `length` is more than z holds; with `paper_exact.lengths` also where z does not divide.
        """
        stride, n = self.config.latent_stride, z.shape[-1]
        length = n * stride if length is None else length
        if not 0 < length <= n * stride:
            raise ValueError(f"length {length} is not within the {n * stride} samples that {n} latent steps describe")
        z = F.pad(z, (0, to_stride(n, self.config.stride // stride, self.config.unet.paper_exact.lengths) - n))
        return cut(self.polished(self.waves(z, steps, generator, progress, sampler, given), z), length)

    def waves(
        self,
        z: Latent,
        steps: int,
        generator: torch.Generator,
        progress: str | None,
        sampler: Sampler,
        given: Given | None = None,
    ) -> Iterator[Part]:
        """The diffusion alone: parts of w as windows of the training crop let them go."""
        stride, crop, length = self.config.latent_stride, self.config.crop, z.shape[-1] * self.config.latent_stride
        noise, w = noise_in_pieces((len(z), 2, length), generator), None
        together = max(1, TOGETHER // (len(z) * crop))
        with torch.no_grad(), autocast(self.config.precision, z.device):
            told = self.unet.tell(levels(steps, given.level if given else 1.0).to(z))

        @lru_cache(steps + together + 2)  # no more windows are on their way at once
        def of(a: int, b: int) -> tuple[Latent, Bands | None]:
            part = z[..., a // stride : b // stride]
            return part, self.log_envelope(part)

        def predict(x: Wave, sigma: Level, spans: Sequence[Span]) -> Wave:
            with torch.no_grad(), autocast(self.config.precision, z.device):
                parts, log_g = zip(*(of(*span) for span in spans), strict=True)
                return self.net(x, sigma, torch.cat(parts), told, None if log_g[0] is None else torch.cat(log_g))

        on_device = lambda a, b: noise(a, b).to(z)  # noqa: E731
        windows = crop, 3 * crop // 4, progress, given, together
        for x_0 in sample_in_pieces(predict, on_device, length, steps, sampler, *windows):
            w = self.to_wave(x_0, w)
            yield w

    @torch.no_grad()
    def polished(self, waves: Iterable[Part], z: Latent) -> Iterator[Part]:
        """The same wave with its magnitude brought to what is read from z, its phase kept, `polish` times (ours).

        Steps of Griffin and Lim (1984), from the diffusion's phases where they start from random ones. Two channels
        whose phases part lose each other's notes in the mono mix: each takes a share of the other's.
        """
        if not self.config.polish:
            yield from waves
            return
        hop, total, m_w = self.config.hop, z.shape[-1] * self.config.latent_stride, self.magnitude_reader(z)
        margin = -(-self.config.n_fft * self.config.polish // hop) * hop  # as far as one sample hears another
        held, first, start = z.new_empty(len(z), 2, 0), 0, 0  # held: the wave from sample `first` on
        for w in waves:
            held = torch.cat([held, w], dim=-1)
            while start < total and first + held.shape[-1] >= (end := min(total, start + POLISH_PART + margin)):
                part = self.polished_part(held[..., : end - first], m_w(first // hop, end // hop))
                yield part[..., start - first : start - first + POLISH_PART]
                start += POLISH_PART
                held, first = held[..., start - margin - first :], start - margin

    def polished_part(self, w: Wave, m_w: Magnitude) -> Wave:
        """The steps themselves, the spectrogram whole in memory."""
        config = self.config
        with torch.autocast(w.device.type, enabled=False):
            for _ in range(config.polish):
                w = with_magnitude(w + config.phase_share * w.flip(1), m_w, config.n_fft, config.hop)
        return w

    def read_magnitude(self, z: Latent) -> Magnitude:
        """m_w as far as z tells, with the profile's contrast over the whole time of z (ours).

        Raises ValueError where the profile has no reader.
        """
        return self.magnitude_reader(z)(0, z.shape[-1] * self.config.latent_stride // self.config.hop)

    def magnitude_reader(self, z: Latent) -> Callable[[int, int], Magnitude]:
        """(a, b) -> frames [a, b) of `read_magnitude`, which for minutes of music would take gigabytes."""
        reader, frames = self.reader, self.config.latent_stride // self.config.hop
        if reader is None:
            raise ValueError("this stage 1 has no reader: set `readout_weight` or `envelope_bands`")
        with torch.autocast(z.device.type, enabled=False):
            told = reader.inside(z)
            mean = reader.magnitude(told.mean(-1, keepdim=True)).mean(-1, keepdim=True)  # linear, so of all frames

        def read(a: int, b: int) -> Magnitude:
            first = a // frames
            with torch.autocast(z.device.type, enabled=False):
                log_m = reader.magnitude(told[..., first : -(-b // frames)])[..., a - frames * first :][..., : b - a]
                return linear_magnitude(torch.lerp(mean, log_m, self.config.magnitude_contrast), READ_FLOOR)

        return read


def cut(parts: Iterator[Part], length: int) -> Iterator[Part]:
    """The first `length` samples of what the parts make together."""
    for part in parts:
        if length > 0:
            yield part[..., :length]
        length -= part.shape[-1]


def new_reader(config: DMAEConfig) -> Reader:
    """Reads z into the envelope's bands, where there are any, and into the encoder's magnitudes."""
    bands, numbers = config.envelope_bands or 0, config.encoder.in_channels
    frames = (config.latent_stride // bands if bands else 1, config.latent_stride // config.hop)
    return Reader(config.encoder.latent_channels, config.reader_width, (2 * bands, numbers), frames)
