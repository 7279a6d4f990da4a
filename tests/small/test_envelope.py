"""What z tells: its reader's frames in order, an orthonormal transform, the best linear denoiser of a Gaussian."""

from dataclasses import replace
from math import log, pi

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, alpha_beta, v_target
from mousai.small.dmae import SmallDMAE, new_reader
from mousai.small.encoder import log_magnitude
from mousai.small.preconditioning import FLOOR, Envelope, Reader, lapped_basis, unfolded
from mousai.spectrogram import magnitude

BANDS = 16
FRAMES = 2048
EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.fixture
def envelope() -> Envelope:
    torch.manual_seed(0)
    return Envelope(BANDS).double()


@pytest.fixture
def reader() -> Reader:
    """Of 4 latent channels into 6 bands, 2 frames a step, and 5 magnitudes, 3 frames a step."""
    torch.manual_seed(0)
    return Reader(4, 16, (6, 5), (2, 3)).double()


def told(g: float, frames: int = FRAMES) -> torch.Tensor:
    """log g, the same everywhere."""
    return torch.full((3, 2 * BANDS, frames), log(g), dtype=torch.float64)


def gaussian(log_g: torch.Tensor, envelope: Envelope) -> torch.Tensor:
    """A signal of independent normal numbers of standard deviation g in every band and frame."""
    return envelope.synthesise(log_g.exp() * torch.randn_like(log_g))


@pytest.mark.parametrize("length", [BANDS * 2, BANDS * 20])
def test_the_lapped_transform_is_orthonormal_and_its_own_transpose_undoes_it(envelope, length):
    x = torch.randn(3, 2, length, dtype=torch.float64)
    bands = envelope.analyse(x)
    assert bands.shape == (3, 2 * BANDS, length // BANDS)
    assert_close(envelope.synthesise(bands), x, **EXACT)
    assert_close(bands.square().sum(), x.square().sum(), **EXACT)


@pytest.mark.parametrize(("right", "first"), [(1.0, 0), (-1.0, BANDS)])
def test_a_sine_sounds_in_its_own_band_mid_before_side(envelope, right, first):
    """Band k of n lies around (k + 1/2) / 2n of the sample rate."""
    t = torch.arange(BANDS * 32, dtype=torch.float64)
    sine = torch.sin(2 * pi * (5 + 0.5) / (2 * BANDS) * t)
    energy = envelope.analyse(torch.stack([sine, right * sine])[None]).square().sum(dim=(0, 2))
    assert energy.argmax() == first + 5 and energy[BANDS - first :][:BANDS].max() == 0


def test_a_step_is_unfolded_number_by_number_the_frames_of_each_together():
    x = torch.arange(2 * 3 * 4.0).reshape(1, 6, 4)  # 2 numbers, 3 frames a step, 4 steps
    expected = torch.stack(
        [torch.cat([x[0, 3 * number : 3 * number + 3, step] for step in range(4)]) for number in (0, 1)]
    )
    assert_close(unfolded(x, 2)[0], expected, atol=0, rtol=0)


def test_the_reader_tells_both_at_their_own_pace(reader):
    log_g, log_m = reader(torch.randn(2, 4, 7, dtype=torch.float64))
    assert log_g.shape == (2, 6, 14) and log_m.shape == (2, 5, 21)


def test_beside_its_trunk_every_latent_step_tells_its_own_frames(reader):
    for head in (reader.to_envelope, reader.to_magnitude):
        head.weight.data[:, 4:] = 0
    z = torch.randn(1, 4, 6, dtype=torch.float64)
    other = z.clone()
    other[..., 2] += 1
    for one, two, per_step in zip(reader(z), reader(other), (2, 3), strict=True):
        changed = (one != two).any(dim=1)[0]
        assert changed.nonzero().flatten().tolist() == list(range(2 * per_step, 3 * per_step))


def test_the_trunk_hears_the_neighbours_too(reader):
    z = torch.randn(1, 4, 12, dtype=torch.float64)
    other = z.clone()
    other[..., 6] += 1
    assert (reader(z)[0] - reader(other)[0])[..., 10].abs().max() > 1e-6


def test_without_bands_the_reader_has_no_envelope_to_tell(plain):
    reader = new_reader(replace(plain, readout_weight=0.5))
    assert reader.to_envelope is None
    log_g, log_m = reader(torch.randn(2, 8, 3))
    assert log_g.shape[1] == 0 and log_m.shape == (2, 128, 12)


def test_with_bands_the_readers_frames_are_the_transforms_and_the_magnitudes(tiny, generator):
    model, w = SmallDMAE(tiny.dmae), torch.randn(1, 2, tiny.dmae.crop, generator=generator)
    log_g, log_m = model.reader(model.encode(w))
    assert log_g.shape == model.envelope.analyse(w).shape
    assert log_m.shape == magnitude(w).shape == log_magnitude(magnitude(w), 1e-3).shape


@pytest.mark.parametrize("g", [0.3, 2.0])
def test_with_nothing_added_v_hat_is_the_best_linear_guess_for_gaussian_noise_of_that_size(envelope, g):
    """Least squares of v on x_sigma over many draws finds the same factor."""
    sigma, log_g = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), told(g)
    x_0 = gaussian(log_g, envelope)
    eps = torch.randn_like(x_0)
    x, v = add_noise(x_0, eps, sigma), v_target(x_0, eps, sigma)
    factor = (x * v).sum(dim=(1, 2)) / x.square().sum(dim=(1, 2))
    v_hat = envelope.precondition(torch.zeros_like, x, sigma, log_g)
    assert_close(v_hat, factor[:, None, None] * x, atol=3e-2, rtol=3e-2)
    left = (v - v_hat).square().mean(dim=(1, 2))
    alpha, beta = (weight.flatten() for weight in alpha_beta(sigma))
    assert_close(left, g**2 / (alpha**2 * g**2 + beta**2), atol=0.0, rtol=3e-2)


def test_every_band_is_guessed_by_its_own_size(envelope):
    log_g = torch.linspace(-3, 1, 2 * BANDS).double()[None, :, None].expand(3, -1, FRAMES)
    sigma, x_0 = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64), gaussian(log_g, envelope)
    eps = torch.randn_like(x_0)
    v_hat = envelope.precondition(torch.zeros_like, add_noise(x_0, eps, sigma), sigma, log_g)
    left = envelope.analyse(v_target(x_0, eps, sigma) - v_hat).square().mean(dim=2)
    (alpha, beta), g_2 = alpha_beta(sigma), torch.exp(2 * log_g[..., 0])
    assert_close(left, g_2 / (alpha[..., 0] ** 2 * g_2 + beta[..., 0] ** 2), atol=0.0, rtol=0.15)


def test_the_net_inside_sees_and_is_asked_for_numbers_of_unit_size(envelope):
    sigma, seen, log_g = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64), [], told(0.05)
    torch.nn.init.zeros_(envelope.tell.weight), torch.nn.init.zeros_(envelope.tell.bias)
    x_0 = gaussian(log_g, envelope)
    eps = torch.randn_like(x_0)
    x = add_noise(x_0, eps, sigma)
    without = envelope.precondition(lambda y: seen.append(y) or torch.zeros_like(y), x, sigma, log_g)
    with_one = envelope.precondition(torch.ones_like, x, sigma, log_g)
    assert seen[0].shape == log_g.shape
    assert_close(seen[0].std(dim=(1, 2)), torch.ones(3).double(), atol=2e-2, rtol=0.0)
    added, asked = envelope.analyse(with_one - without), envelope.analyse(v_target(x_0, eps, sigma) - without)
    assert_close(added.mean(dim=(1, 2)), asked.std(dim=(1, 2)), atol=0.0, rtol=3e-2)


def test_the_net_inside_hears_of_the_envelope_itself(envelope):
    """Its input alone hides g: whatever g is, it has unit size."""
    x, sigma, seen = torch.randn(3, 2, 8 * BANDS).double(), torch.full((3,), 0.5).double(), []
    for size in (1.0, 0.0):
        envelope.tell.weight.data *= size
        envelope.tell.bias.data *= size
        envelope.precondition(lambda y: seen.append(y) or y, x, sigma, told(0.1, 8))
        if size:
            expected = envelope.tell((told(0.1, 8) + 3) / 2).detach()
    assert_close((seen[0] - seen[1]).detach(), expected, **EXACT)
    assert expected.abs().min() > 0


def test_what_is_told_of_mid_does_not_reach_side(envelope):
    log_g, other = told(0.1, 4), told(0.1, 4)
    other[:, :BANDS] += 1
    changed = (envelope.tell(log_g) != envelope.tell(other)).any(dim=2)
    assert changed[:, :BANDS].all() and not changed[:, BANDS:].any()


def test_the_loss_is_least_where_the_told_size_is_the_true_one(envelope):
    x_0 = gaussian(told(0.2), envelope)
    losses = [envelope.loss(told(g), x_0).item() for g in (0.17, 0.2, 0.235)]
    assert losses[1] == min(losses)


def test_the_loss_is_the_gaussians_negative_log_likelihood_without_its_constant(envelope):
    log_g = torch.randn(3, 2 * BANDS, 8).double()
    x_0 = gaussian(log_g, envelope)
    likelihood = torch.distributions.Normal(0.0, log_g.exp()).log_prob(envelope.analyse(x_0))
    floor = 0.5 * FLOOR * torch.exp(-2 * log_g).mean()
    assert_close(envelope.loss(log_g, x_0), -likelihood.mean() - 0.5 * log(2 * pi) + floor, **EXACT)


def test_silence_is_finite(envelope):
    log_g, x = torch.full((3, 2 * BANDS, 8), -20.0).double(), torch.zeros(3, 2, 8 * BANDS).double()
    assert envelope.loss(log_g, x).isfinite()
    sigma = torch.tensor([0.0, 0.5, 1.0]).double()
    assert envelope.precondition(torch.zeros_like, x, sigma, log_g).isfinite().all()


def test_stage_one_uses_it_only_where_the_profile_asks(plain, tiny, generator):
    paper = SmallDMAE(plain)
    assert paper.envelope is None and paper.reader is None and paper.front is not None
    model = SmallDMAE(tiny.dmae)
    assert model.front is None
    model(0.1 * torch.randn(2, 2, tiny.dmae.crop), generator).backward()
    for part in (model.reader, model.envelope, model.unet):
        assert all(parameter.grad is not None for parameter in part.parameters())
    assert model.reader.to_envelope.weight.grad.any() and model.envelope.tell.weight.grad.any()


def test_the_basis_is_the_mdcts():
    n = 8
    basis = lapped_basis(n)
    assert basis.shape == (n, 2 * n) and basis.dtype == torch.float64
    assert_close(basis @ basis.T, torch.eye(n).double(), **EXACT)
    assert_close(basis[:, n:] @ basis[:, :n].T, torch.zeros(n, n).double(), **EXACT)
