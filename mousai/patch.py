"""The learned patches around stage 1's U-Net: w -> channels, and back (Section 3.1)."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import dct
from torch import Tensor, nn

from mousai.shapes import Signal, Wave


class PatchFrontEnd(nn.Module):
    """The learned filter bank around stage 1's U-Net: patches of 64 stereo samples <-> channels, no overlap."""

    def __init__(self, patch: int, channels: int, dct_start: bool = False):
        super().__init__()
        self.analysis = nn.Conv1d(2, channels, patch, stride=patch, bias=False)
        self.synthesis = nn.ConvTranspose1d(channels, 2, patch, stride=patch, bias=False)
        if dct_start:
            self.analysis.weight.data = dct_basis(patch, channels)
            self.synthesis.weight.data = dct_basis(patch, channels)

    def split(self, w: Wave) -> Signal:
        """Waveform to channels, on a CPU in float32: torch 2.14's bfloat16 convolution of few channels and 32 taps or
        more gives numbers there that have nothing to do with the right ones.
        """
        with torch.autocast("cpu", enabled=False):
            return self.analysis(w)

    def join(self, x: Signal) -> Wave:
        """Channels to waveform, there in float32 as well."""
        with torch.autocast("cpu", enabled=False):
            return self.synthesis(x.to(self.synthesis.weight.dtype))


def dct_basis(patch: int, channels: int) -> Float[Tensor, "channels 2 patch"]:
    """Orthonormal DCT of mid and side, low bands first: its transpose undoes it exactly (ours).

    Raises ValueError unless there are as many channels as stereo samples in a patch.
    """
    if channels != 2 * patch:
        raise ValueError(f"{channels} patch channels: an exact inverse pair needs 2 x {patch}")
    bands = torch.from_numpy(dct(np.eye(patch), norm="ortho", axis=0)).float()  # [band, sample]
    mid_side = torch.stack([torch.stack([bands, bands], 1), torch.stack([bands, -bands], 1)], 1) / 2**0.5
    return mid_side.reshape(channels, 2, patch)
