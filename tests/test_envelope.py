"""The spectral envelope that z tells: an orthonormal transform, and the linear denoiser that is best for a Gaussian."""

from dataclasses import replace
from math import pi

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, alpha_beta, v_target
from mousai.dmae import DMAE
from mousai.envelope import Envelope, lapped_basis
from mousai.profiles import A100

BANDS, STRIDE = 16, 64
EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.fixture
def envelope() -> Envelope:
    torch.manual_seed(0)
    return Envelope(4, BANDS, STRIDE).double()


def told(envelope: Envelope, log_g: float, steps: int) -> torch.Tensor:
    """A latent and a read-out that say the same everywhere."""
    torch.nn.init.zeros_(envelope.read.weight)
    envelope.read.bias.data.fill_(log_g)
    return torch.zeros(3, 4, steps, dtype=torch.float64)


@pytest.mark.parametrize("length", [BANDS * 2, STRIDE * 5])
def test_the_lapped_transform_is_orthonormal_and_its_own_transpose_undoes_it(envelope, length):
    x = torch.randn(3, 2, length, dtype=torch.float64)
    bands = envelope.analyse(x)
    assert bands.shape == (3, 2 * BANDS, length // BANDS)
    assert_close(envelope.synthesise(bands), x, **EXACT)
    assert_close(bands.square().sum(), x.square().sum(), **EXACT)


def test_a_sine_sounds_in_its_own_band_left_before_right(envelope):
    """Band k of n lies around (k + 1/2) / 2n of the sample rate."""
    t = torch.arange(STRIDE * 8, dtype=torch.float64)
    x = torch.zeros(1, 2, len(t), dtype=torch.float64)
    x[0, 1] = torch.sin(2 * pi * (5 + 0.5) / (2 * BANDS) * t)
    energy = envelope.analyse(x).square().sum(dim=(0, 2))
    assert energy.argmax() == BANDS + 5 and energy[:BANDS].max() == 0


def test_every_latent_step_tells_its_own_frames(envelope):
    z = torch.randn(1, 4, 6, dtype=torch.float64)
    other = z.clone()
    other[..., 2] += 1
    per_step = STRIDE // BANDS
    changed = (envelope(z) != envelope(other)).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == list(range(2 * per_step, 3 * per_step))


def test_with_nothing_added_v_hat_is_the_best_linear_guess_for_gaussian_noise_of_that_size(envelope):
    """Least squares of v on x_sigma over many draws finds the same factor."""
    g, sigma = 0.3, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    z = told(envelope, torch.tensor(g).log().item(), 512)
    x_0, eps = g * torch.randn(3, 2, 512 * STRIDE).double(), torch.randn(3, 2, 512 * STRIDE).double()
    x, v = add_noise(x_0, eps, sigma), v_target(x_0, eps, sigma)
    factor = (x * v).sum(dim=(1, 2)) / x.square().sum(dim=(1, 2))
    v_hat = envelope.precondition(torch.zeros_like, x, sigma, z)
    assert_close(v_hat, factor[:, None, None] * x, atol=2e-2, rtol=2e-2)
    left = (v - v_hat).square().mean(dim=(1, 2))
    alpha, beta = (weight.flatten() for weight in alpha_beta(sigma))
    assert_close(left, g**2 / (alpha**2 * g**2 + beta**2), atol=0.0, rtol=2e-2)


def test_the_net_inside_sees_and_is_asked_for_numbers_of_unit_size(envelope):
    g, sigma, seen = 0.05, torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64), []
    z = told(envelope, torch.tensor(g).log().item(), 256)
    x_0, eps = g * torch.randn(3, 2, 256 * STRIDE).double(), torch.randn(3, 2, 256 * STRIDE).double()
    x = add_noise(x_0, eps, sigma)
    without = envelope.precondition(lambda y: seen.append(y) or torch.zeros_like(y), x, sigma, z)
    with_one = envelope.precondition(torch.ones_like, x, sigma, z)
    assert_close(seen[0].std(dim=(1, 2)), torch.ones(3).double(), atol=2e-2, rtol=0.0)
    asked = (v_target(x_0, eps, sigma) - without).std(dim=(1, 2))
    assert_close((with_one - without).mean(dim=(1, 2)), asked, atol=0.0, rtol=3e-2)


def test_the_loss_is_least_where_the_told_size_is_the_true_one(envelope):
    x_0 = 0.2 * torch.randn(3, 2, 256 * STRIDE).double()
    losses = [envelope.loss(told(envelope, torch.tensor(g).log().item(), 256), x_0).item() for g in (0.15, 0.2, 0.27)]
    assert losses[1] == min(losses)


def test_silence_is_finite(envelope):
    z, x = told(envelope, -20.0, 8), torch.zeros(3, 2, 8 * STRIDE).double()
    assert envelope.loss(z, x).isfinite()
    assert envelope.precondition(torch.zeros_like, x, torch.tensor([0.0, 0.5, 1.0]).double(), z).isfinite().all()


def test_stage_one_uses_it_only_where_the_profile_asks(paper_dmae, generator):
    assert A100.dmae.envelope_bands is None and DMAE(paper_dmae).envelope is None
    model = DMAE(replace(paper_dmae, envelope_bands=32))
    model(0.1 * torch.randn(2, 2, paper_dmae.crop), generator).backward()
    assert model.envelope.read.weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in model.unet.parameters())


def test_the_basis_is_the_mdcts():
    n = 8
    basis = lapped_basis(n)[:, 0]
    assert basis.shape == (n, 2 * n) and basis.dtype == torch.float64
    assert_close(basis @ basis.T, torch.eye(n).double(), **EXACT)
    assert_close(basis[:, n:] @ basis[:, :n].T, torch.zeros(n, n).double(), **EXACT)
