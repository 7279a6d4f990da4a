"""Stage 1, diffusion magnitude-autoencoding: w -> m_w -> z, and back from z by diffusion (Section 3.1).

The encoder gives 32 numbers for each 2 x 1024 of the waveform, which is 64 times fewer. Its input is the magnitude
alone, so the decoder has to generate the phase.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.config import DMAEConfig, EncoderConfig
from mousai.diffusion import ddim, diffusion_loss, gaussian_like
from mousai.shapes import Activation, Latent, Level, Magnitude, Signal, Wave, to_stride
from mousai.spectrogram import magnitude
from mousai.unet import Resnet, UNet


class ResnetIn(nn.Module):
    """The encoder's first block, 1024 -> channels: like `Resnet` with one group and a 1x1 shortcut."""

    def __init__(self, inside: int, width: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, inside)
        self.conv1 = nn.Conv1d(inside, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(1, width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.shortcut = nn.Conv1d(inside, width, 1)

    def forward(self, x: Magnitude) -> Activation:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class MagnitudeEncoder(nn.Module):
    """m_w [batch, 1024, frames] -> z [batch, 32, frames / 4], squeezed into [-1, 1] by tanh; no KL term."""

    def __init__(self, config: EncoderConfig, groups: int = 8):
        super().__init__()
        width = config.channels
        self.to_in = ResnetIn(config.in_channels, width)
        self.downs = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 2 * factor + 1, stride=factor, padding=factor),
                *(Resnet(width, groups) for _ in range(blocks)),
            )
            for factor, blocks in zip(config.factors, config.blocks, strict=True)
        )
        self.to_out = nn.Conv1d(width, config.latent_channels, 1)

    def forward(self, m_w: Magnitude) -> Latent:
        x = self.to_in(m_w)
        for down in self.downs:
            x = down(x)  # the length divided by the factor, 2 each
        return torch.tanh(self.to_out(x))


class PatchFrontEnd(nn.Module):
    """The learned filter bank around the U-Net: patches of 64 stereo samples <-> 256 channels, without overlap.

    On a CPU it stays in float32, because there torch 2.14's bfloat16 convolution of few channels and 32 taps or more
    gives wrong numbers.
    """

    def __init__(self, patch: int, channels: int):
        super().__init__()
        self.analysis = nn.Conv1d(2, channels, patch, stride=patch, bias=False)
        self.synthesis = nn.ConvTranspose1d(channels, 2, patch, stride=patch, bias=False)

    def split(self, w: Wave) -> Signal:
        """Waveform [batch, 2, time] to channels [batch, 256, time / 64]."""
        with torch.autocast("cpu", enabled=False):
            return self.analysis(w)

    def join(self, x: Signal) -> Wave:
        """Channels [batch, 256, time / 64] to waveform [batch, 2, time]."""
        with torch.autocast("cpu", enabled=False):
            return self.synthesis(x.to(self.synthesis.weight.dtype))


class DMAE(nn.Module):
    """Stage 1. `forward` is the training loss on crops; `encode` and `decode` take any length."""

    def __init__(self, config: DMAEConfig):
        super().__init__()
        self.config = config
        self.front = PatchFrontEnd(config.patch, config.patch_channels)
        self.unet = UNet(config.unet)
        self.encoder = MagnitudeEncoder(config.encoder)

    def forward(self, w: Wave, generator: torch.Generator) -> Float[Tensor, ""]:
        """Training loss on crops w [batch, 2, crop]: the mean of (v_hat - v)^2."""
        z = self.encode_crop(w)
        eps = gaussian_like(w, generator)
        sigma = torch.rand(len(w), generator=generator).to(w)
        return diffusion_loss(lambda x, s: self.net(x, s, z), w, eps, sigma).mean()

    def net(self, x: Wave, sigma: Level, z: Latent) -> Wave:
        """v_hat of the noisy waveform x at noise level sigma, conditioned on z."""
        return self.front.join(self.unet(self.front.split(x), sigma, latent=z))

    def encode_crop(self, w: Wave) -> Latent:
        """z of a waveform whose length is already a multiple of the stride."""
        return self.encoder(magnitude(w, self.config.n_fft, self.config.hop))

    def encode(self, w: Wave) -> Latent:
        """w [batch, 2, time] of any length, padded with zeros -> z [batch, 32, ceil(time / 1024)].

        With `paper_exact.lengths`, raises ValueError where the length is not a multiple of 1024.
        """
        length = to_stride(w.shape[-1], self.config.latent_stride, self.config.unet.paper_exact.lengths)
        return self.encode_crop(F.pad(w, (0, length - w.shape[-1])))

    @torch.no_grad()
    def decode(self, z: Latent, steps: int, generator: torch.Generator, length: int | None = None) -> Wave:
        """z [batch, 32, n] -> w [batch, 2, length or n * 1024] by DDIM, in one pass over the whole length.

        Raises ValueError unless 0 < `length` <= n * 1024; with `paper_exact.lengths` also unless n is a multiple of 4.
        """
        z, length = self.padded(z, length)
        eps = gaussian_like(z.new_empty(len(z), 2, z.shape[-1] * self.config.latent_stride), generator)
        return ddim(lambda x, sigma: self.net(x, sigma, z), eps, steps)[..., :length]

    def padded(self, z: Latent, length: int | None) -> tuple[Float[Tensor, "batch latent_channels _"], int]:
        """(z with zeros up to a length that the U-Net takes, how many samples of the decoded waveform to keep)."""
        stride, n = self.config.latent_stride, z.shape[-1]
        length = n * stride if length is None else length
        if not 0 < length <= n * stride:
            raise ValueError(f"length {length} is not within the {n * stride} samples that {n} latent steps describe")
        steps = to_stride(n, self.config.stride // stride, self.config.unet.paper_exact.lengths)
        return F.pad(z, (0, steps - n)), length
