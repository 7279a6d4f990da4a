"""Bands of the predicted size: of unit variance after it, back to themselves, nothing left to a linear answer."""

from dataclasses import replace
from math import log, pi

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, v_target
from mousai.small.dmae import SmallDMAE
from mousai.small.whitening import FLOOR, band_size, negative_log_likelihood


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(tiny) -> SmallDMAE:
    torch.manual_seed(0)
    return SmallDMAE(tiny.dmae).eval()


def test_coloured_undoes_whitened(model, tiny):
    x = noise(2, 2, tiny.dmae.crop)
    condition = model.condition(noise(2, 32, 16).tanh())
    assert_close(model.coloured(model.whitened(x, condition), condition), x, atol=1e-4, rtol=1e-4)


def test_bands_of_the_predicted_size_become_white(model, tiny):
    condition = model.condition(noise(4, 32, 16).tanh())
    octaves = [band_size(log_g) * noise(*log_g.shape, seed=i) for i, log_g in enumerate(condition.log_g)]
    x = model.octaves.synthesise(octaves)
    for octave in model.octaves.analyse(model.whitened(x, condition)):
        assert_close(octave.std().item(), 1.0, atol=0.03, rtol=0)


def test_nothing_is_left_to_a_linear_answer(model, tiny):
    """Least squares of v on x_sigma finds a slope of 0 where bands have unit variance."""
    x_0, eps = noise(8, 2, tiny.dmae.crop), noise(8, 2, tiny.dmae.crop, seed=1)
    for sigma in (0.2, 0.5, 0.9):
        level = torch.full((8,), sigma)
        x, v = add_noise(x_0, eps, level), v_target(x_0, eps, level)
        assert abs(((x * v).sum() / x.square().sum()).item()) < 0.01


def test_on_patches_nothing_is_whitened(plain):
    model, x = SmallDMAE(plain), noise(1, 2, 2048)
    assert torch.equal(model.whitened(x, None), x) and torch.equal(model.coloured(x, None), x)
    scaled = SmallDMAE(replace(plain, wave_scale=2.0))
    assert torch.equal(scaled.to_signal(x, noise(1, 8, 16)), 2 * x)


def test_the_likelihood_is_the_gaussians_without_its_constant():
    log_g, x = torch.randn(3, 4, 8).double(), torch.randn(3, 4, 8).double()
    expected = -torch.distributions.Normal(0.0, log_g.exp()).log_prob(x) - 0.5 * log(2 * pi)
    floor = 0.5 * FLOOR * torch.exp(-2 * log_g)
    assert_close(negative_log_likelihood(x.square(), log_g), expected + floor, atol=1e-12, rtol=1e-12)


def test_silence_is_finite(model, tiny):
    silent = torch.zeros(1, 2, tiny.dmae.crop)
    assert model.to_signal(silent, model.encode(silent)).isfinite().all()
    assert band_size(torch.full((1, 2, 3), -50.0)).min() == pytest.approx(FLOOR**0.5)
