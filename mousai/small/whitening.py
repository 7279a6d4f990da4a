"""Every band brought to unit size before noise is added: what the small stage 1 diffuses (ours).

The magnitude head predicts from z how large each band is at each moment, its standard deviation g. The paper adds noise
of one size to the waveform, so that quiet bands are lost in it at once and loud ones late; there a small network takes
hours to learn what follows from g alone. Here x_0 is the band over g, whose variance is 1 like the noise's, and nothing
else of v-diffusion changes. For Gaussian bands of the predicted size the best linear answer is then v_hat = 0:

    E[x_sigma v] = alpha beta E[eps^2 - x_0^2] = 0

so that a network that learns nothing leaves its loss at 1, and samples Gaussian noise of the predicted spectrum.
"""

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-5  # of g^2: silence stays finite
Octave = Float[Tensor, "batch channel_bands frames"]  # one of `octaves.Bands`


def band_size(log_g: Octave) -> Octave:
    """g, the predicted standard deviation, never 0."""
    return (torch.exp(2 * log_g) + FLOOR).sqrt()


def negative_log_likelihood(energy: Octave, log_g: Octave) -> Octave:
    """-log p of a Gaussian of standard deviation g, without its constant; `energy` is the number's square."""
    return 0.5 * (energy + FLOOR) * torch.exp(-2 * log_g) + log_g
