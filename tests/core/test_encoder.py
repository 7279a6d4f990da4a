"""The magnitude encoder: its logarithm and back, its two paths, what z is squeezed into."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from mousai.dmae import MagnitudeEncoder
from mousai.small.encoder import linear_magnitude, log_magnitude


def noise(*shape) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_logarithm_and_back_is_the_magnitude_and_never_negative():
    m = torch.linspace(0, 50, 40, dtype=torch.float64).reshape(1, 8, 5)
    assert_close(linear_magnitude(log_magnitude(m, 1e-3), 1e-3), m, atol=1e-12, rtol=1e-12)
    assert linear_magnitude(torch.full((1, 8, 5), -9.0), 1e-3).min() == 0


def test_the_encoders_straight_path_joins_its_net(paper_dmae):
    """It is linear in the log magnitude, so that a start from PCA is possible; the net is added before tanh."""
    encoder = MagnitudeEncoder(replace(paper_dmae.encoder, pca_start=True, log_floor=1e-3))
    torch.nn.init.zeros_(encoder.to_out.weight), torch.nn.init.constant_(encoder.to_out.bias, 0.1)
    m_w = noise(1, 128, 64).abs()
    straight = encoder.straight(log_magnitude(m_w, 1e-3))
    assert straight.shape == (1, 8, 16)
    assert_close(encoder(m_w), torch.tanh(0.1 + straight), atol=1e-5, rtol=1e-5)


def test_tanh_comes_last(paper_dmae):
    plain = MagnitudeEncoder(paper_dmae.encoder)
    torch.nn.init.zeros_(plain.to_out.weight)
    torch.nn.init.constant_(plain.to_out.bias, 0.5)
    assert_close(plain(noise(1, 128, 64).abs()), torch.full((1, 8, 16), 0.5).tanh())


def test_the_norm_before_tanh_gives_every_step_the_same_spread(paper_dmae):
    normed = MagnitudeEncoder(replace(paper_dmae.encoder, norm_before_tanh=True))
    before = normed(noise(2, 128, 64).abs()).atanh()
    assert_close(before.mean(dim=1), torch.zeros(2, 16), atol=1e-3, rtol=0)
    assert_close(before.std(dim=1, correction=0), torch.ones(2, 16), atol=1e-2, rtol=0)
