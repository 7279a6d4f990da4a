"""Stage 1 for a few million parameters: `DMAE` with the departures of `SmallDMAEConfig` (ours)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.functional import lfilter, preemphasis

from mousai.diffusion import add_noise, ddim, diffusion_loss, gaussian_like, v_target
from mousai.dmae import DMAE, PatchFrontEnd
from mousai.shapes import Latent, Level, Magnitude, Part, Wave
from mousai.small.band_groups import BandGroups, Groups, network_answer, network_input
from mousai.small.config import SmallDMAEConfig, SmallUNetConfig
from mousai.small.encoder import SmallEncoder, bin_frequencies, linear_magnitude, log_magnitude, mel_density
from mousai.small.head import MagnitudeHead
from mousai.small.octaves import Bands, Octaves
from mousai.small.refinement import refined
from mousai.small.whitening import band_size, negative_log_likelihood
from mousai.spectrogram import magnitude
from mousai.unet import NetLevel, UNet

MAGNITUDE_FLOOR = 1e-3  # added before the log of predicted magnitudes, as in the log-mel spectrogram


@dataclass(frozen=True)
class Condition:
    """What sampling needs of z, computed once for all steps."""

    log_g: Bands  # log standard deviation of each band, by the magnitude head
    injected: list[Groups]  # what the U-Net gets by inject, octave by octave

    @staticmethod
    def join(parts: "list[Condition]") -> "Condition":
        """The conditions of several windows, concatenated along the batch."""
        log_g = [torch.cat(octave) for octave in zip(*(part.log_g for part in parts), strict=True)]
        injected = [torch.cat(octave) for octave in zip(*(part.injected for part in parts), strict=True)]
        return Condition(log_g, injected)


class SmallDMAE(DMAE):
    """Stage 1 of the small profiles.

    What is diffused is `to_signal(w, z)`: the waveform, pre-emphasised and scaled. With `octaves` its bands are also
    divided by the sizes that the magnitude head predicts from z, and the U-Net works on groups of bands; without, the
    U-Net works on patches, as in the paper.
    """

    config: SmallDMAEConfig
    front: Any  # None where the U-Net works on bands
    head: Any  # None where it works on patches
    groups: Any

    def __init__(self, config: SmallDMAEConfig):
        nn.Module.__init__(self)  # not DMAE's, because the parts, and so their random weights, differ
        self.config = config
        self.front = self.head = self.groups = None
        if config.octaves is None:
            self.front = PatchFrontEnd(config.patch, config.patch_channels)
        else:
            check_groups(config)
            self.octaves = Octaves(config.octaves, config.octave_units)
            frames = config.latent_stride // config.hop
            channels, width, rates = config.encoder.latent_channels, config.head_width, config.octave_rates
            self.head = MagnitudeHead(channels, width, rates, config.encoder.in_channels, frames)
            self.groups = BandGroups(
                channels + width,
                rates,
                config.group_bands,
                config.halo_bands,
                config.context_channels,
                config.group_features,
            )
        self.unet = UNet(config.unet)
        self.encoder = SmallEncoder(config.encoder)
        start_skips(self.unet)
        if self.groups is not None:
            start_quietly(self.unet)

    @property
    def sharing(self) -> int:
        """How many groups of bands are items of the U-Net's batch in one evaluation; 1 on patches."""
        return 1 if self.groups is None else sum(self.groups.counts)

    def net(self, x: Wave, sigma: Level, z: Latent, condition: Condition | None = None) -> Wave:
        """v_hat of the diffused signal x. `condition`: `self.condition(z)`, if it is computed already."""
        if self.head is None:
            return super().net(x, sigma, z)
        condition = condition or self.condition(z)
        assert condition is not None  # there is a head
        octaves = zip(self.octaves.analyse(x), condition.injected, strict=True)
        v_hat = [self.groups.join(self.network(self.groups.split(octave), sigma, known)) for octave, known in octaves]
        return self.octaves.synthesise(v_hat)

    def network(self, groups: Groups, sigma: Level, injected: Groups) -> Groups:
        """v_hat of groups of noisy bands, [batch, groups, numbers, frames] like the input."""
        x = network_input(groups).flatten(0, 1)
        change = self.unet(x, sigma.repeat_interleave(groups.shape[1]), latent=injected.flatten(0, 1)) - x
        return network_answer(change.to(groups).unflatten(0, groups.shape[:2]), groups)

    def condition(self, z: Latent, injected: Latent | None = None) -> Condition | None:
        """What `net` needs of z; None on patches. `injected`: another latent than z for inject alone."""
        if self.head is None:
            return None
        with torch.autocast(z.device.type, enabled=False):
            h = self.head.hidden(z)
            log_g = self.head.log_g(h)
            return Condition(log_g, self.groups.latents(log_g, h if injected is None else self.head.hidden(injected)))

    def to_signal(self, w: Wave, z: Latent) -> Wave:
        """What is diffused: w pre-emphasised and scaled, and its bands divided by their sizes as z predicts them."""
        return self.whitened(self.emphasised(w), self.condition(z))

    def emphasised(self, w: Wave) -> Wave:
        """w, pre-emphasised and scaled."""
        if self.config.preemphasis:
            w = preemphasis(w, self.config.preemphasis)
        return self.config.wave_scale * w

    def to_wave(self, x: Wave, before: Float[Tensor, "batch 2 _"] | None = None) -> Wave:
        """The exact inverse of `emphasised`, never clipped. A later part of a waveform needs the part `before` it."""
        w = x / self.config.wave_scale
        p = self.config.preemphasis
        if not p:
            return w
        if before is not None:
            w[..., 0] += p * before[..., -1]
        with torch.autocast(w.device.type, enabled=False):
            return lfilter(w, w.new_tensor([1.0, -p]), w.new_tensor([1.0, 0.0]), clamp=False)

    def whitened(self, x: Wave, condition: Condition | None) -> Wave:
        """x with each band divided by its predicted size; x itself on patches."""
        return x if condition is None else self.resized(x, [1 / band_size(log_g) for log_g in condition.log_g])

    def coloured(self, x: Wave, condition: Condition | None) -> Wave:
        """The inverse of `whitened`."""
        return x if condition is None else self.resized(x, [band_size(log_g) for log_g in condition.log_g])

    def resized(self, x: Wave, factors: Bands) -> Wave:
        """x with its bands multiplied by `factors`, number by number."""
        octaves = zip(self.octaves.analyse(x), factors, strict=True)
        return self.octaves.synthesise([octave * factor for octave, factor in octaves])

    def forward(self, w: Wave, generator: torch.Generator, step: int = 10**9) -> Float[Tensor, ""]:
        """Training loss on crops w [batch, 2, crop].

        On bands, steps before `encoder_pretrain_steps` give the loss of encoder and head; later ones give that of the
        U-Net, and leave encoder and head fixed.
        """
        if self.head is None:
            x_0 = self.emphasised(w)
            z = self.encode_crop(w)
            eps = gaussian_like(x_0, generator)
            sigma = torch.rand(len(w), generator=generator).to(w)
            return diffusion_loss(lambda x, s: self.net(x, s, z), x_0, eps, sigma).mean()
        if step < self.config.encoder_pretrain_steps:
            return self.head_loss(w)
        return self.network_loss(w, generator)

    def network_loss(self, w: Wave, generator: torch.Generator) -> Float[Tensor, ""]:
        """Mean (v_hat - v)^2, each octave with equal weight. A network that does nothing has 1.

        Of each octave, `groups_drawn` groups are drawn at random.
        """
        with torch.no_grad():
            h = self.head.hidden(self.encode_crop(w))
            log_g = self.head.log_g(h)
            octaves = self.octaves.analyse(self.emphasised(w))
        sigma = torch.rand(len(w), generator=generator).to(w)
        losses = []
        for octave, log_size, known in zip(octaves, log_g, self.groups.latents(log_g, h), strict=True):
            x_0 = octave / band_size(log_size)
            eps = gaussian_like(x_0, generator)
            x = self.groups.split(add_noise(x_0, eps, sigma))
            v = self.groups.split(v_target(x_0, eps, sigma))
            drawn = torch.randperm(v.shape[1], generator=generator)[: self.config.groups_drawn].to(w.device)
            v_hat = self.network(x[:, drawn], sigma, known[:, drawn])
            losses.append((self.groups.join(v_hat) - self.groups.join(v[:, drawn])).square().mean())
        return torch.stack(losses).mean()

    def head_loss(self, w: Wave) -> Float[Tensor, ""]:
        """How well z predicts each band's variance (negative log likelihood) and the log magnitude (squared error).

        Both weigh frequencies by the mel scale's density, because most bins are above all melodies.
        """
        m_w = magnitude(w, self.config.n_fft, self.config.hop)
        x_0 = self.emphasised(w)
        h = self.head.hidden(self.encoder(m_w).to(x_0))
        with torch.autocast(w.device.type, enabled=False):
            total = count = 0.0
            octaves = zip(self.octaves.analyse(x_0), self.octaves.analyse(quadrature(x_0)), strict=True)
            for (band, other), log_g, frequencies in zip(
                octaves, self.head.log_g(h), self.octaves.frequencies(), strict=True
            ):
                # band and quadrature have the same variance; the mean of their squares estimates it with less scatter
                loss = negative_log_likelihood((band.square() + other.square()) / 2, log_g)
                weight = mel_density(frequencies).to(w).repeat(2)[:, None]
                total = total + (weight * loss).sum()
                count = count + weight.sum() * len(w) * loss.shape[-1]
            weight = mel_density(bin_frequencies(self.config)).to(w).repeat(2)[:, None]
            error = (self.head.magnitude(h) - log_magnitude(m_w, MAGNITUDE_FLOOR)).square()
            return total / count + self.config.magnitude_weight * (weight * error).mean() / weight.mean()

    @torch.no_grad()
    def decode(self, z: Latent, steps: int, generator: torch.Generator, length: int | None = None) -> Wave:
        """As `DMAE.decode`; the sampled signal is turned back into a waveform and refined."""
        z, length = self.padded(z, length)
        condition = self.condition(z)
        eps = gaussian_like(z.new_empty(len(z), 2, z.shape[-1] * self.config.latent_stride), generator)
        x_0 = ddim(lambda x, sigma: self.net(x, sigma, z, condition), eps, steps)
        return torch.cat([*self.refine([self.to_wave(self.coloured(x_0, condition))], z)], dim=-1)[..., :length]

    @torch.no_grad()
    def refine(self, waves: Iterable[Part], z: Latent, steps: int | None = None) -> Iterator[Part]:
        """The parts of a waveform, refined towards the magnitude that z predicts.

        `steps`: of refinement; None is `refinement_steps`. Raises ValueError where there is no magnitude head.
        """
        config = self.config if steps is None else replace(self.config, refinement_steps=steps)
        if not config.refinement_steps:
            yield from waves
            return
        yield from refined(waves, self.magnitude_reader(z), z.shape[-1] * config.latent_stride, config)

    def read_magnitude(self, z: Latent) -> Magnitude:
        """m_w as the magnitude head predicts it from z, stretched by `magnitude_contrast`.

        Raises ValueError where there is no magnitude head.
        """
        return self.magnitude_reader(z)(0, z.shape[-1] * self.config.latent_stride // self.config.hop)

    def magnitude_reader(self, z: Latent) -> Callable[[int, int], Magnitude]:
        """(a, b) -> frames [a, b) of `read_magnitude`: all frames of minutes of music would take gigabytes.

        Raises ValueError where there is no magnitude head.
        """
        head, frames = self.head, self.config.latent_stride // self.config.hop
        if head is None:
            raise ValueError("this stage 1 has no magnitude head: set `octaves`")
        with torch.autocast(z.device.type, enabled=False):
            hidden = head.hidden(z)
            mean = head.magnitude(hidden.mean(-1, keepdim=True)).mean(-1, keepdim=True)  # linear, so of all frames

        def read(a: int, b: int) -> Magnitude:
            first = a // frames
            with torch.autocast(z.device.type, enabled=False):
                log_m = head.magnitude(hidden[..., first : -(-b // frames)])[..., a - frames * first :][..., : b - a]
                return linear_magnitude(torch.lerp(mean, log_m, self.config.magnitude_contrast), MAGNITUDE_FLOOR)

        return read


def check_groups(config: SmallDMAEConfig) -> None:
    """Raise ValueError where the U-Net's channels, or the octaves' bands, are not those that groups need."""
    needed = {"in_channels": config.group_inputs, "inject_channels": config.group_injected, "inject_depth": 0}
    for name, value in needed.items():
        if getattr(config.unet, name) != value:
            raise ValueError(f"unet.{name} is {getattr(config.unet, name)}: groups of bands need {value}")
    octaves = config.octaves or ()
    if any(bands % config.group_bands for bands, _ in octaves):
        raise ValueError(f"octaves {octaves}: each needs a multiple of {config.group_bands} bands")
    if sum(bands * width for bands, width in octaves) != config.octave_units:
        raise ValueError(f"octaves {octaves}: bands times widths must make {config.octave_units} units")


def quadrature(x: Wave) -> Wave:
    """x with every frequency delayed by a quarter of its period (Hilbert transform, x taken as periodic)."""
    spectrum = -1j * torch.fft.rfft(x)
    spectrum[..., 0] = 0
    return torch.fft.irfft(spectrum, n=x.shape[-1])


def start_skips(unet: UNet) -> None:
    """Set the initial scale of each level's output to `SmallUNetConfig.skip_start`, where there is one."""
    if not isinstance(unet.config, SmallUNetConfig) or unet.config.skip_start is None:
        return
    for module in unet.modules():
        if isinstance(module, NetLevel):
            nn.init.constant_(module.skip.bias, unet.config.skip_start)


@torch.no_grad()
def start_quietly(unet: UNet) -> None:
    """Scale the last convolution to a tenth, so that the first steps need not unlearn its random output."""
    unet.net.up.weight.mul_(0.1)
    unet.net.up.bias.zero_()  # type: ignore[union-attr]
