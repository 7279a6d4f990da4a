"""Whitening: each band is divided by its predicted size before noise is added, in the small stage 1 (ours).

The magnitude head predicts from z the standard deviation g of each band in each frame. The paper adds noise of one
size to the waveform, so that quiet bands are lost in it at once and loud ones late; a small network then takes hours to
learn what follows from g alone. Here x_0 is the band over g, whose variance is 1 like the noise's; nothing else in
v-diffusion changes. If g is right, the best linear prediction is v_hat = 0, because

    E[x_sigma v] = alpha beta E[eps^2 - x_0^2] = 0

So a network that has learned nothing has a loss of 1, and samples Gaussian noise with the predicted spectrum.
"""

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-5  # added to g^2, so that silence stays finite
Octave = Float[Tensor, "batch channel_bands frames"]  # one of `octaves.Bands`


def band_size(log_g: Octave) -> Octave:
    """g, the predicted standard deviation, from its log; never 0."""
    return (torch.exp(2 * log_g) + FLOOR).sqrt()


def negative_log_likelihood(energy: Octave, log_g: Octave) -> Octave:
    """-log p of a number whose square is `energy`, for a Gaussian of standard deviation g; without its constant."""
    return 0.5 * (energy + FLOOR) * torch.exp(-2 * log_g) + log_g
