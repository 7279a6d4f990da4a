"""The learned patches: an exact inverse pair where they start as a DCT, and float32 on a CPU."""

import pytest
import torch
from torch.testing import assert_close

from mousai.dmae import PatchFrontEnd


def noise(*shape, **kind) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), **kind)


def test_the_front_end_starts_as_an_exact_inverse_pair():
    front, w = PatchFrontEnd(64, 128, dct_start=True).double(), noise(2, 2, 640, dtype=torch.float64)
    assert_close(front.synthesis(front.analysis(w)), w, atol=1e-5, rtol=0)
    assert_close(front.analysis(w).norm(), w.norm(), atol=1e-5, rtol=1e-5)


def test_the_front_ends_channels_start_as_mid_and_side_of_each_band_low_bands_first():
    front, t = PatchFrontEnd(64, 128, dct_start=True), (torch.arange(640.0) + 0.5) % 64
    band = torch.cos(torch.pi * 5 * t / 64)
    for wave, channel in ((torch.stack([band, band]), 10), (torch.stack([band, -band]), 11)):
        heard = front.analysis(wave[None])[0].abs().mean(dim=1)
        assert_close(heard / heard[channel], torch.eye(128)[channel], atol=1e-4, rtol=0)


def test_a_front_end_that_cannot_be_an_inverse_pair_is_refused_by_number():
    with pytest.raises(ValueError, match="100 patch channels: an exact inverse pair needs 2 x 64"):
        PatchFrontEnd(64, 100, dct_start=True)


def test_the_front_end_is_right_under_bfloat16_too():
    """The library's own convolution is not, on some CPUs."""
    front, w = PatchFrontEnd(64, 256), noise(1, 2, 4096)
    with torch.autocast("cpu", torch.bfloat16):
        split, joined = front.split(w), front.join(front.split(w))
    assert_close(split, front.analysis(w), atol=0, rtol=0)
    assert_close(joined, front.synthesis(front.analysis(w)), atol=0, rtol=0)
