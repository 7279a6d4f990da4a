"""The closed formula is the best linear denoiser of Gaussian bands; the network has numbers of unit size around it."""

from math import log, pi

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, alpha_beta, v_target
from mousai.small.preconditioning import FLOOR, negative_log_likelihood, scales

SIGMA = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)


def log_of(g: float) -> torch.Tensor:
    return torch.full((3, 4, 20_000), log(g), dtype=torch.float64)


@pytest.fixture
def drawn(request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log g, x_sigma and v of independent normal numbers of standard deviation g."""
    torch.manual_seed(0)
    log_g = log_of(request.param)
    x_0, eps = log_g.exp() * torch.randn_like(log_g), torch.randn_like(log_g)
    return log_g, add_noise(x_0, eps, SIGMA), v_target(x_0, eps, SIGMA)


@pytest.mark.parametrize("drawn", [0.05, 0.3, 2.0], indirect=True)
def test_c_skip_is_what_least_squares_finds(drawn):
    log_g, x, v = drawn
    slope = (x * v).sum(dim=(1, 2)) / x.square().sum(dim=(1, 2))
    assert_close(scales(log_g, SIGMA).c_skip[:, 0, 0], slope, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("drawn", [0.05, 0.3, 2.0], indirect=True)
def test_what_the_network_sees_and_is_asked_for_has_unit_size(drawn):
    log_g, x, v = drawn
    c_skip, c_out, c_in = scales(log_g, SIGMA)
    for numbers in (c_in * x, (v - c_skip * x) / c_out):
        assert_close(numbers.std(dim=(1, 2)), torch.ones(3).double(), atol=1e-2, rtol=0)


def test_c_out_is_the_standard_deviation_that_is_left():
    alpha, beta = alpha_beta(SIGMA)
    expected = 0.3 / (alpha**2 * 0.3**2 + beta**2).sqrt()
    assert_close(scales(log_of(0.3), SIGMA).c_out[..., :1], expected.expand(3, 4, 1), atol=1e-4, rtol=1e-3)


def test_the_likelihood_is_the_gaussians_without_its_constant():
    log_g, x = torch.randn(3, 4, 8).double(), torch.randn(3, 4, 8).double()
    expected = -torch.distributions.Normal(0.0, log_g.exp()).log_prob(x) - 0.5 * log(2 * pi)
    floor = 0.5 * FLOOR * torch.exp(-2 * log_g)
    assert_close(negative_log_likelihood(x.square(), log_g), expected + floor, atol=1e-12, rtol=1e-12)


def test_silence_is_finite():
    silent, sigma = torch.full((3, 4, 8), -20.0).double(), torch.tensor([0.0, 0.5, 1.0]).double()
    assert all(part.isfinite().all() for part in scales(silent, sigma)[::2])
    assert negative_log_likelihood(torch.zeros(3, 4, 8).double(), torch.full((3, 4, 8), -5.0).double()).isfinite().all()
