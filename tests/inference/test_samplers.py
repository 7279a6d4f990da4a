"""Every sampler on a case with an exact answer; what guidance can do beside its scale."""

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import add_noise, alpha_beta, ddim, guidance, predict_x0_eps, v_target
from mousai.inference.samplers import SAMPLERS, Guidance, get_sampler, rescaled, sample, v_towards

EXACT = {"atol": 1e-12, "rtol": 1e-12}
EPS = torch.ones(1, 1, 1, dtype=torch.float64)


@pytest.fixture
def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_0, eps [7, 3, 5] and sigma [7], both ends among the levels."""
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 7, 3, 5, generator=generator, dtype=torch.float64)
    return x_0, eps, torch.linspace(0, 1, 7, dtype=torch.float64)


def gaussian_net(scale: float):
    """The best v_hat for data N(0, scale^2): E[v | x] = alpha beta (1 - scale^2) / (alpha^2 scale^2 + beta^2) x."""

    def net(x, sigma):
        alpha, beta = alpha_beta(sigma)
        return alpha * beta * (1 - scale**2) / (alpha**2 * scale**2 + beta**2) * x

    return net


def error(sampler, steps: int) -> float:
    return abs(sample(gaussian_net(0.5), sampler(EPS, steps)).item() - 0.5)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("multistep", 2), ("heun", 2)])
def test_each_sampler_has_its_order(name, order):
    """Twice the steps divide the error by 2 or by 4, on data whose exact flow is known."""
    coarse, fine = (error(SAMPLERS[name], steps) for steps in (100, 200))
    assert_close(coarse / fine, 2.0**order, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_right_where_the_net_knows_the_answer(draws, name):
    x_0, eps, _ = draws
    for steps in (1, 2, 5):
        assert_close(sample(lambda x, s: v_target(x_0, eps, s), SAMPLERS[name](eps, steps)), x_0, **EXACT)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_begin_on_the_way(draws, name):
    x_0, eps, _ = draws
    x, seen = add_noise(x_0, eps, torch.full((7,), 0.3, dtype=torch.float64)), []
    net = lambda x, s: seen.append(s[0].item()) or v_target(x_0, eps, s)  # noqa: E731
    found = sample(net, SAMPLERS[name](x, 3, start=0.3))
    assert_close(found, x_0, atol=1e-7, rtol=0)  # the level is a float32
    assert_close(sorted({round(s, 6) for s in seen}), [0.1, 0.2, 0.3])


@pytest.mark.parametrize(("name", "calls"), [("ddim", 6), ("multistep", 6), ("heun", 11)])
def test_samplers_call_the_net_as_often_as_they_say_and_in_one_step_are_ddim(name, calls):
    seen = []
    sample(lambda x, s: seen.append(s) or x, SAMPLERS[name](torch.zeros(1, 1, 1), 6))
    assert len(seen) == calls
    assert_close(sample(gaussian_net(0.5), SAMPLERS[name](EPS, 1)), ddim(gaussian_net(0.5), EPS, 1))


@pytest.mark.parametrize("start", [1.0, 0.6])
def test_the_sampler_ddim_is_the_plain_loop(draws, start):
    eps, net = draws[1], lambda x, s: x.sin() * s[:, None, None]
    assert torch.equal(sample(net, SAMPLERS["ddim"](eps, 5, start)), ddim(net, eps, 5, start))


def test_an_unknown_sampler_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown sampler 'euler': choose one of ddim, multistep, heun"):
        get_sampler("euler")


def test_rescaling_gives_each_item_back_the_spread_it_has_with_the_text(draws):
    uncond, cond, _ = draws
    v_hat = guidance(uncond, cond, 5.0)
    assert_close(rescaled(v_hat, cond, 0.0), v_hat, **EXACT)
    assert_close(rescaled(v_hat, cond, 1.0).std(dim=(1, 2)), cond.std(dim=(1, 2)), **EXACT)
    half = (v_hat.std(dim=(1, 2)) + cond.std(dim=(1, 2))) / 2
    assert_close(rescaled(v_hat, cond, 0.5).std(dim=(1, 2)), half, **EXACT)


def test_channel_by_channel_guidance_gets_back_the_mean_and_spread_over_time_of_the_text_alone(generator):
    v_hat = 3 * torch.randn(2, 4, 50, generator=generator, dtype=torch.float64) + 1
    cond = torch.randn(2, 4, 50, generator=generator, dtype=torch.float64)
    assert_close(rescaled(v_hat, cond, 0.0, per_channel=True), v_hat, **EXACT)
    full = rescaled(v_hat, cond, 1.0, per_channel=True)
    assert_close(full.mean(-1), cond.mean(-1), **EXACT)
    assert_close(full.std(-1), cond.std(-1), **EXACT)
    assert_close(rescaled(v_hat, cond, 0.25, per_channel=True), 0.75 * v_hat + 0.25 * full, **EXACT)


@pytest.mark.parametrize("wrong", [{"low": -0.1}, {"high": 1.1}, {"low": 0.6, "high": 0.4}, {"rescale": 2.0}])
def test_levels_and_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"guidance settings out of range: levels .*: choose numbers from 0 to 1"):
        Guidance(3.0, **wrong)


def test_towards_the_signal_itself_is_the_velocity(draws):
    x_0, eps, sigma = (draw[1:] for draw in draws)  # without level 0
    assert_close(v_towards(x_0, add_noise(x_0, eps, sigma), sigma), v_target(x_0, eps, sigma), **EXACT)


def test_towards_another_signal_the_next_estimate_is_that(draws):
    x_0, x, sigma = (draw[1:] for draw in draws)
    assert_close(predict_x0_eps(x, v_towards(x_0, x, sigma), sigma)[0], x_0, **EXACT)
