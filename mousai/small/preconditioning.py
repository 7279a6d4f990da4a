"""The best linear denoiser once each band's size is known: where the small stage 1's network starts (ours).

A small network takes hours to learn what is a formula as soon as g is known, the standard deviation of x_0 in each band
at each moment, which the magnitude head predicts from z. For Gaussian x_0 and x_sigma = alpha x_0 + beta eps,

    E[v | x_sigma] = c_skip x_sigma,   c_skip = alpha beta (1 - g^2) / (alpha^2 g^2 + beta^2)
    sd[v | x_sigma] = c_out = g / sqrt(alpha^2 g^2 + beta^2),   sd[x_sigma] = 1 / c_in = sqrt(alpha^2 g^2 + beta^2)

so v_hat = c_skip x_sigma + c_out f(c_in x_sigma), and f has numbers of unit size to look at and to give. With one g for
all bands this is the preconditioning of EDM (Karras et al. 2022). The diffusion itself is untouched.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.diffusion import alpha_beta
from mousai.shapes import Level

FLOOR = 1e-5  # of g^2: silence stays finite
Octave = Float[Tensor, "batch channel_bands frames"]  # one of `octaves.Bands`


class Scales(NamedTuple):
    """The formula's three factors, a number a band and frame."""

    c_skip: Octave
    c_out: Octave
    c_in: Octave


def scales(log_g: Octave, sigma: Level) -> Scales:
    """For bands of standard deviation g at noise level sigma."""
    alpha, beta = alpha_beta(sigma)
    g_2 = torch.exp(2 * log_g) + FLOOR
    c_in = (alpha**2 * g_2 + beta**2).rsqrt()
    return Scales(alpha * beta * (1 - g_2) * c_in**2, g_2.sqrt() * c_in, c_in)


def negative_log_likelihood(energy: Octave, log_g: Octave) -> Octave:
    """-log p of a Gaussian of standard deviation g, without its constant; `energy` is the number's square."""
    return 0.5 * (energy + FLOOR) * torch.exp(-2 * log_g) + log_g
