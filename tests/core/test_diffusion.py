"""The rotation between signal and noise, DDIM on a case with an exact answer, guidance."""

from math import cos, pi, prod, sin

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import (
    add_noise,
    alpha_beta,
    ddim,
    diffusion_loss,
    guidance,
    noise_levels,
    predict_x0_eps,
    v_target,
)

EXACT = {"atol": 1e-12, "rtol": 1e-12}


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_0, eps [7, 3, 5] and sigma [7], both ends among the levels."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 7, 3, 5, generator=generator, dtype=torch.float64)
    return x_0, eps, torch.linspace(0, 1, 7, dtype=torch.float64)


def test_alpha_squared_plus_beta_squared_is_one():
    alpha, beta = alpha_beta(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert_close(alpha**2 + beta**2, torch.ones_like(alpha), **EXACT)


def test_a_third_of_the_way_is_thirty_degrees():
    alpha, beta = alpha_beta(torch.tensor([1 / 3], dtype=torch.float64))
    assert_close(torch.cat([alpha, beta]).flatten(), torch.tensor([3**0.5 / 2, 0.5], dtype=torch.float64), **EXACT)


def test_level_zero_is_the_signal_and_level_one_the_noise(draws):
    x_0, eps, _ = draws
    assert_close(add_noise(x_0, eps, torch.zeros(7, dtype=torch.float64)), x_0, **EXACT)
    assert_close(add_noise(x_0, eps, torch.ones(7, dtype=torch.float64)), eps, **EXACT)


def test_v_is_the_derivative_of_x_sigma_by_phi(draws):
    x_0, eps, sigma = draws
    per_phi = torch.full_like(sigma, 2 / pi)  # d sigma / d phi
    _, derivative = torch.func.jvp(lambda s: add_noise(x_0, eps, s), (sigma,), (per_phi,))
    assert_close(v_target(x_0, eps, sigma), derivative, **EXACT)


def test_the_true_v_gives_back_signal_and_noise_exactly(draws):
    x_0, eps, sigma = draws
    x_0_hat, eps_hat = predict_x0_eps(add_noise(x_0, eps, sigma), v_target(x_0, eps, sigma), sigma)
    assert_close(x_0_hat, x_0, **EXACT)
    assert_close(eps_hat, eps, **EXACT)


def test_the_loss_is_the_mean_square_of_the_velocity_error_per_item(draws):
    x_0, eps, sigma = draws
    v = v_target(x_0, eps, sigma)
    assert_close(diffusion_loss(lambda x, s: v, x_0, eps, sigma), torch.zeros(7, dtype=torch.float64), **EXACT)
    error = torch.arange(7, dtype=torch.float64)
    assert_close(diffusion_loss(lambda x, s: v + error[:, None, None], x_0, eps, sigma), error**2, **EXACT)


def test_the_loss_shows_the_net_the_noisy_signal_and_its_level(draws):
    x_0, eps, sigma = draws
    seen = []
    diffusion_loss(lambda x, s: seen.append((x, s)) or x, x_0, eps, sigma)
    assert_close(seen[0], (add_noise(x_0, eps, sigma), sigma), **EXACT)


def test_levels_go_evenly_from_one_to_zero_both_included():
    assert_close(noise_levels(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


def test_no_steps_is_refused_by_name():
    with pytest.raises(ValueError, match="steps is 0"):
        noise_levels(0)


def test_levels_can_start_lower_and_are_as_even():
    assert_close(noise_levels(3, 0.6), torch.tensor([0.6, 0.4, 0.2, 0.0]))


@pytest.mark.parametrize("start", [0.0, -0.1, 1.1, float("nan")])
def test_a_start_that_is_no_level_is_refused_by_number(start):
    with pytest.raises(ValueError, match=r"sampling cannot start at noise level .*: choose more than 0 and at most 1"):
        noise_levels(4, start)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_net_that_knows_the_answer_is_right_after_any_number_of_steps(draws, steps):
    x_0, eps, _ = draws
    assert_close(ddim(lambda x, sigma: v_target(x_0, eps, sigma), eps, steps), x_0, **EXACT)


def test_ddim_can_begin_on_the_way(draws):
    x_0, eps, _ = draws
    x, seen = add_noise(x_0, eps, torch.full((7,), 0.3, dtype=torch.float64)), []
    found = ddim(lambda x, s: seen.append(s[0].item()) or v_target(x_0, eps, s), x, 3, start=0.3)
    assert_close(found, x_0, atol=1e-7, rtol=0)  # the level is a float32
    assert_close([round(s, 6) for s in seen], [0.3, 0.2, 0.1])


def test_the_net_is_called_once_a_step_at_every_level_but_the_last():
    seen = []
    ddim(lambda x, sigma: seen.append(sigma) or torch.zeros_like(x), torch.zeros(2, 1, 1), 4)
    assert_close(torch.stack(seen), noise_levels(4)[:-1, None].expand(4, 2))


def gaussian_net(scale: float):
    """The best v_hat for data N(0, scale^2): E[v | x] = alpha beta (1 - scale^2) / (alpha^2 scale^2 + beta^2) x."""

    def net(x, sigma):
        alpha, beta = alpha_beta(sigma)
        return alpha * beta * (1 - scale**2) / (alpha**2 * scale**2 + beta**2) * x

    return net


@pytest.mark.parametrize(("steps", "published"), [(5, 0.364), (20, 0.463), (100, 0.492), (1000, 0.499)])
def test_ddim_on_gaussian_data_falls_short_by_the_known_amount(steps, published):
    """Data of scale 0.5: the exact flow ends at 0.5, N steps at what is known."""
    eps = torch.ones(1, 1, 1, dtype=torch.float64)
    assert_close(ddim(gaussian_net(0.5), eps, steps).item(), published, atol=5e-4, rtol=0)


def test_ddim_on_gaussian_data_is_the_closed_product():
    """Each step multiplies x by cos(d) - sin(d) c, c the net's factor and d = pi / (2 N) the angle of a step."""
    steps, scale, d = 10, 0.3, pi / 20
    factors = []
    for i in range(steps):
        alpha, beta = cos(pi / 2 * (1 - i / steps)), sin(pi / 2 * (1 - i / steps))
        c = alpha * beta * (1 - scale**2) / (alpha**2 * scale**2 + beta**2)
        factors.append(cos(d) - sin(d) * c)
    eps = torch.ones(1, 1, 1, dtype=torch.float64)
    assert_close(ddim(gaussian_net(scale), eps, steps).item(), prod(factors), atol=1e-6, rtol=0)


def test_guidance_zero_is_unconditional_one_conditional_and_three_goes_on_in_line(draws):
    uncond, cond, _ = draws
    assert_close(guidance(uncond, cond, 0.0), uncond, **EXACT)
    assert_close(guidance(uncond, cond, 1.0), cond, **EXACT)
    assert_close(guidance(uncond, cond, 3.0), 3 * cond - 2 * uncond, **EXACT)
