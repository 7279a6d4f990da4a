"""The spectral envelope that z tells, and the best linear denoiser that follows from it: where stage 1's net starts.

Ours, not the paper's. A small net takes hours to learn what is a formula once the envelope g is known, the standard
deviation of x_0 in each band at each moment. For Gaussian x_0 and x_sigma = alpha x_0 + beta eps,

    E[v | x_sigma] = c_skip x_sigma,   c_skip = alpha beta (1 - g^2) / (alpha^2 g^2 + beta^2)
    sd[v | x_sigma] = c_out = g / sqrt(alpha^2 g^2 + beta^2),   sd[x_sigma] = 1 / c_in = sqrt(alpha^2 g^2 + beta^2)

so v_hat = c_skip x_sigma + c_out f(c_in x_sigma), and f has numbers of unit size to look at and to give. With one g for
all bands this is the preconditioning of EDM (Karras et al. 2022). The diffusion itself is untouched.
"""

from collections.abc import Callable
from functools import cache
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mousai.diffusion import alpha_beta
from mousai.shapes import Latent, Level, Magnitude, Wave
from mousai.unet import Resnet

Bands = Float[Tensor, "batch channel_bands band_frames"]  # left bands, then right bands
FLOOR = 1e-6  # of g^2: silence stays finite


class Reader(nn.Module):
    """What z [batch, channels, steps] tells of x_0: its envelope in bands, and the magnitude m_w.

    A few convolutions at z's own pace, then one linear layer each; a step is read into all the frames it describes.
    """

    def __init__(self, latent_channels: int, width: int, numbers: tuple[int, int], frames: tuple[int, int]):
        super().__init__()
        self.numbers, inside = numbers, latent_channels + width
        self.trunk = nn.Sequential(
            nn.Conv1d(latent_channels, width, 3, padding=1), Resnet(width, width // 16), Resnet(width, width // 16)
        )
        self.to_envelope = nn.Conv1d(inside, numbers[0] * frames[0], 1) if numbers[0] else None
        self.to_magnitude = nn.Conv1d(inside, numbers[1] * frames[1], 1)

    def forward(self, z: Latent) -> tuple[Bands, Magnitude]:
        """(log g, log magnitude as `log_magnitude` gives it); without an envelope to tell, log g is empty."""
        h = self.inside(z)
        return self.log_envelope(h).to(z), self.magnitude(h)

    def inside(self, z: Latent) -> Tensor:
        """z and what the convolutions make of it, which both linear layers read step by step."""
        return torch.cat([z, self.trunk(z).to(z)], dim=1)

    def log_envelope(self, h: Tensor) -> Bands:
        """The first answer, from `inside`."""
        return h[:, :0] if self.to_envelope is None else unfolded(self.to_envelope(h), self.numbers[0])

    def magnitude(self, h: Tensor) -> Magnitude:
        """The second answer, from some steps of `inside`."""
        return unfolded(self.to_magnitude(h), self.numbers[1]).to(h)


def unfolded(x: Tensor, numbers: int) -> Tensor:
    """[batch, numbers x frames, steps] -> [batch, numbers, steps x frames], numbers innermost in memory."""
    return x.unflatten(1, (numbers, -1)).permute(0, 3, 2, 1).flatten(1, 2).mT


class Envelope(nn.Module):
    """The transform to `bands` bands per channel, a frame every `bands` samples, and what follows from g there."""

    def __init__(self, bands: int):
        super().__init__()
        self.bands = bands
        # what f hears of g itself: scaled by c_in, its input hides it
        self.tell = nn.Conv1d(2 * bands, 2 * bands, 1, groups=2)

    def loss(self, log_g: Bands, x_0: Wave) -> Float[Tensor, ""]:
        """-log p(x_0 | z) per number, a Gaussian of variance g^2 in each band, without its constant."""
        return (0.5 * (self.analyse(x_0).square() + FLOOR) * torch.exp(-2 * log_g) + log_g).mean()

    def precondition(self, f: Callable[[Bands], Bands], x: Wave, sigma: Level, log_g: Bands) -> Wave:
        """v_hat = c_skip x + c_out f(c_in x), each factor one number a band and frame."""
        # bfloat16 would drown quiet bands in the rounding of loud ones
        with torch.autocast(x.device.type, enabled=False):
            (alpha, beta), bands, g_2 = alpha_beta(sigma), self.analyse(x), torch.exp(2 * log_g) + FLOOR
            c_in = (alpha**2 * g_2 + beta**2).rsqrt()
            heard = c_in * bands + self.tell((log_g + 3) / 2)
        f_x = f(heard).to(x)
        with torch.autocast(x.device.type, enabled=False):
            c_skip, c_out = alpha * beta * (1 - g_2) * c_in**2, g_2.sqrt() * c_in
            return self.synthesise(c_skip * bands + c_out * f_x)

    def c_out(self, sigma: Level, log_g: Bands) -> Bands:
        """Standard deviation of v given x_sigma, a number a band and frame: it scales the network's answer."""
        alpha, beta = alpha_beta(sigma)
        g_2 = torch.exp(2 * log_g) + FLOOR
        return (g_2 / (alpha**2 * g_2 + beta**2)).sqrt()

    def analyse(self, x: Wave) -> Bands:
        """Lapped cosine transform (MDCT, sine window), around the ends: orthonormal, so white noise stays white.

        A window covers two blocks of `bands` samples: its products with each, summed. Bands lie innermost in memory.
        """
        n, (first, second) = self.bands, lapped_halves(self.bands, x.dtype, x.device)
        blocks = mid_side(x).roll(n // 2, -1).unflatten(-1, (-1, n)).transpose(1, 2).contiguous()
        return (blocks @ first.mT + (blocks @ second.mT).roll(-1, 1)).flatten(2).mT

    def synthesise(self, bands: Bands) -> Wave:
        """The inverse of `analyse`, which is its transpose: windows overlap and add, around the ends too."""
        n, (first, second) = self.bands, lapped_halves(self.bands, bands.dtype, bands.device)
        windows = bands.mT.contiguous().unflatten(-1, (2, n))
        blocks = windows @ first + (windows @ second).roll(1, 1)
        return mid_side(blocks.transpose(1, 2).flatten(2).roll(-(n // 2), -1))


def mid_side(x: Wave) -> Wave:
    """(left, right) -> (left + right, left - right) / sqrt(2), and back: its own inverse.

    Most music is nearly the same left and right: so turned, the second channel is quiet, and the two go apart.
    """
    return torch.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], dim=1) / 2**0.5


@cache
def lapped_halves(bands: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the basis makes of a window's first block and of its second, [bands, bands] each, rounded but once."""
    first, second = lapped_basis(bands).to(device, dtype).split(bands, dim=1)
    return first.contiguous(), second.contiguous()


def lapped_basis(bands: int) -> Float[Tensor, "bands window"]:
    """MDCT, window 2n, hop n: sqrt(2 / n) sin(pi (t + 1/2) / 2n) cos(pi / n (t + 1/2 + n / 2) (k + 1/2))."""
    n, exact = bands, {"dtype": torch.float64, "device": "cpu"}
    k, t = torch.arange(n, **exact)[:, None], torch.arange(2 * n, **exact) + 0.5
    return (2 / n) ** 0.5 * torch.sin(pi * t / (2 * n)) * torch.cos(pi / n * (t + n / 2) * (k + 0.5))
