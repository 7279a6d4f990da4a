"""The spectral envelope that z tells, and the best linear denoiser that follows from it: where stage 1's net starts.

Ours, not the paper's. A small net takes hours to learn what is a formula once the envelope g is known, the standard
deviation of x_0 in each band at each moment. For Gaussian x_0 and x_sigma = alpha x_0 + beta eps,

    E[v | x_sigma] = c_skip x_sigma,   c_skip = alpha beta (1 - g^2) / (alpha^2 g^2 + beta^2)
    sd[v | x_sigma] = c_out = g / sqrt(alpha^2 g^2 + beta^2),   sd[x_sigma] = 1 / c_in = sqrt(alpha^2 g^2 + beta^2)

so v_hat = c_skip x_sigma + c_out f(c_in x_sigma), and f has numbers of unit size to look at and to give. With one g for
all bands this is the preconditioning of EDM (Karras et al. 2022). The diffusion itself is untouched.
"""

from collections.abc import Callable
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.diffusion import alpha_beta
from mousai.shapes import Latent, Level, Wave

Bands = Float[Tensor, "batch channel_bands frames"]  # left bands, then right bands
FLOOR = 1e-6  # of g^2: silence stays finite


class Envelope(nn.Module):
    """z [batch, channels, steps] -> g^2 in `bands` bands per channel, a frame every `bands` samples."""

    basis: Tensor

    def __init__(self, latent_channels: int, bands: int, latent_stride: int):
        super().__init__()
        self.bands = bands
        self.read = nn.Conv1d(latent_channels, 2 * bands * (latent_stride // bands), 1)
        self.register_buffer("basis", lapped_basis(bands), persistent=False)  # float64, so that it can serve both

    def forward(self, z: Latent) -> Bands:
        """Half the logarithm of g^2, one linear layer away from z."""
        return self.read(z).unflatten(1, (2 * self.bands, -1)).transpose(2, 3).flatten(2)

    def loss(self, z: Latent, x_0: Wave) -> Float[Tensor, ""]:
        """-log p(x_0 | z) per number, a Gaussian of variance g^2 in each band, without its constant."""
        log_g = self(z)
        return (0.5 * (self.analyse(x_0).square() + FLOOR) * torch.exp(-2 * log_g) + log_g).mean()

    def precondition(self, f: Callable[[Wave], Wave], x: Wave, sigma: Level, z: Latent) -> Wave:
        """v_hat = c_skip x + c_out f(c_in x), each factor one number a band and frame."""
        with torch.autocast(
            x.device.type, enabled=False
        ):  # bfloat16 would drown quiet bands in the rounding of loud ones
            (alpha, beta), g_2, bands = alpha_beta(sigma), torch.exp(2 * self(z.to(x))) + FLOOR, self.analyse(x)
            c_in = (alpha**2 * g_2 + beta**2).rsqrt()
            scaled = self.synthesise(c_in * bands)
        f_x = f(scaled).to(x)
        with torch.autocast(x.device.type, enabled=False):
            c_skip, c_out = alpha * beta * (1 - g_2) * c_in**2, g_2.sqrt() * c_in
            return self.synthesise(c_skip * bands + c_out * self.analyse(f_x))

    def analyse(self, x: Wave) -> Bands:
        """Lapped cosine transform (MDCT, sine window), around the ends: orthonormal, so white noise stays white."""
        n = self.bands
        around = F.pad(x.flatten(0, 1)[:, None], (n // 2, n // 2), mode="circular")
        return F.conv1d(around, self.basis.to(x), stride=n).reshape(len(x), 2 * n, -1)

    def synthesise(self, bands: Bands) -> Wave:
        """The inverse of `analyse`, which is its transpose: windows overlap and add, around the ends too."""
        n = self.bands
        flat = F.conv_transpose1d(bands.reshape(2 * len(bands), n, -1), self.basis.to(bands), stride=n)[:, 0]
        body, ends = flat[:, n // 2 : -(n // 2)], torch.zeros_like(flat[:, n:])
        ends[:, : n // 2], ends[:, -(n // 2) :] = flat[:, -(n // 2) :], flat[:, : n // 2]
        return (body + ends).reshape(len(bands), 2, -1)


def lapped_basis(bands: int) -> Float[Tensor, "bands 1 window"]:
    """MDCT, window 2n, hop n: sqrt(2 / n) sin(pi (t + 1/2) / 2n) cos(pi / n (t + 1/2 + n / 2) (k + 1/2))."""
    n = bands
    k, t = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(2 * n, dtype=torch.float64) + 0.5
    return ((2 / n) ** 0.5 * torch.sin(pi * t / (2 * n)) * torch.cos(pi / n * (t + n / 2) * (k + 0.5)))[:, None]
