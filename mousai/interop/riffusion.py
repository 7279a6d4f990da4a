"""Riffusion, a baseline: the size of its pictures, its settings, and how mel amplitudes become sound.

Riffusion draws mel spectrograms of 5.1 s as pictures, with Stable Diffusion 1.5. The settings here are its defaults,
from recollection ([M] in `mousai.config`).
"""

from jaxtyping import Float
from torch import Tensor, nn

SIZE = 512  # of a picture: 512 mel bands, 512 frames
HOP = 441  # samples, 10 ms a frame
WINDOW = 4410  # samples, 100 ms
N_FFT = 17_640  # samples, padded to 400 ms
RATE = 44_100  # Hz
CLIP_SECONDS = SIZE * HOP / RATE  # 5.12 s
STEPS = 50  # of its sampler
GUIDANCE = 7.0  # scale
ITERATIONS = 32  # of Griffin-Lim


class Sound(nn.Module):
    """Mel amplitudes [n, 512, frames] -> mono waveform [n, samples]: least squares to frequencies, then Griffin-Lim."""

    def __init__(self):
        super().__init__()
        from torchaudio.transforms import GriffinLim, InverseMelScale

        self.inverse = InverseMelScale(N_FFT // 2 + 1, SIZE, RATE, f_max=10_000.0)
        self.griffin_lim = GriffinLim(N_FFT, ITERATIONS, WINDOW, HOP, power=1.0)

    def forward(self, amplitude: Float[Tensor, "n mels frames"]) -> Float[Tensor, "n samples"]:
        return self.griffin_lim(self.inverse(amplitude))
