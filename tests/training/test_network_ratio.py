"""Take it away and see: a network that does nothing is told from one that does."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mousai.data.arranger import arrange
from mousai.data.embedded import RMS
from mousai.data.sound import render
from mousai.data.tunes import headers, read_tune
from mousai.small.dmae import SmallDMAE
from mousai.small.profiles import CPU, SMOKE
from mousai.small.stages import load_dmae, load_tcld
from mousai.training.network_ratio import (
    SIGMAS,
    condition_ratios,
    dmae_network_ratio,
    exchanged,
    linear_ratio,
    spectrum,
    tcld_network_ratio,
    wiener,
    without_network,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coloured(items: int, length: int) -> torch.Tensor:
    """Gaussian, stationary around the ends, of a smooth spectrum."""
    noise = torch.randn(items, 2, length, generator=generator(1), dtype=torch.float64)
    frequency = torch.linspace(0, 1, length // 2 + 1, dtype=torch.float64)
    return torch.fft.irfft(torch.fft.rfft(noise) * 2 / (1 + 20 * frequency), n=length)


@pytest.fixture(scope="module")
def small() -> SmallDMAE:
    torch.manual_seed(0)
    return SmallDMAE(SMOKE.dmae).eval()


def crops(dmae) -> torch.Tensor:
    return 0.1 * torch.randn(2, 2, dmae.config.crop, generator=generator())


def test_a_network_that_returns_its_input_has_ratio_one(small):
    for octaves in (None, 2):
        found = dmae_network_ratio(without_network(small), crops(small), generator(), octaves=octaves)
        assert all(ratio == pytest.approx(1, abs=1e-6) for ratio in found.values())


def test_a_network_that_does_something_has_not():
    torch.manual_seed(0)
    found = dmae_network_ratio(SmallDMAE(SMOKE.dmae).eval(), 0.1 * torch.randn(2, 2, SMOKE.dmae.crop), generator())
    assert list(found) == list(SIGMAS)
    assert min(abs(ratio - 1) for ratio in found.values()) > 1e-6  # it starts quietly


def test_the_linear_answer_is_the_best_linear_one():
    x_0 = coloured(64, 512)
    power = spectrum(x_0)
    level = torch.full((64,), 0.5, dtype=torch.float64)
    best = lambda x, sigma: wiener(x, sigma, power)  # noqa: E731
    assert_close(linear_ratio(best, x_0, generator(), (0.5,))[0.5], 1.0)
    for factor in (0.9, 1.1):
        off = lambda x, sigma: factor * wiener(x, sigma, power)  # noqa: B023, E731
        assert linear_ratio(off, x_0, generator(), (0.5,))[0.5] > 1.001
    assert wiener(x_0, level, power).shape == x_0.shape


def test_white_noise_leaves_nothing_to_any_network():
    x_0 = torch.randn(256, 2, 64, generator=generator(1), dtype=torch.float64)
    zero = linear_ratio(lambda x, sigma: torch.zeros_like(x), x_0, generator(), (0.3, 0.5, 0.9))
    for ratio in zero.values():
        assert ratio == pytest.approx(1, abs=0.03)


@pytest.mark.integration
def test_the_shipped_stage_2_does_something():
    """On latents of its own kind: those it samples itself, with the text they were sampled for."""
    tcld = load_tcld(CPU)
    embedding = 0.1 * torch.randn(2, CPU.tcld.text.tokens, CPU.tcld.text.features, generator=generator())
    z = tcld.sample(embedding, tcld.window, 10, 1.0, generator())
    found = tcld_network_ratio(tcld, z, embedding, generator())
    assert max(found[sigma] for sigma in (0.3, 0.5, 0.7)) < 0.9


@pytest.mark.integration
def test_the_network_of_the_shipped_stage_1_lowers_the_loss_at_every_level():
    """On a piece that is arranged for the test. An earlier version's network did nothing, and no test could tell."""
    tune = next(tune for tune in map(read_tune, headers()[:20]) if tune is not None)
    arrangement = arrange(tune, "Pop", 8.0, np.random.default_rng(0))
    w = torch.from_numpy(render(arrangement, 6 * CPU.dmae.crop, RMS)).split(CPU.dmae.crop, dim=-1)
    dmae = load_dmae(CPU)
    found = dmae_network_ratio(dmae, torch.stack(w[1:5]), generator(), (0.1, 0.3, 0.5, 0.7))
    assert max(found.values()) < 0.99 and found[0.3] < 0.95 and found[0.5] < 0.95
    removed = dmae_network_ratio(without_network(dmae), torch.stack(w[1:5]), generator(), (0.5,))
    assert removed[0.5] == pytest.approx(1, abs=1e-6)


def test_the_two_ways_of_z_are_measured_apart():
    torch.manual_seed(0)
    small = SmallDMAE(SMOKE.dmae).eval()
    w = (
        0.1
        * torch.randn(4, 2, SMOKE.dmae.crop, generator=generator(1))
        * torch.tensor([1.0, 0.1, 1.0, 0.01])[:, None, None]
    )
    tags = ["1 of 2", "2 of 2", "1 of 2", "2 of 2"]
    found = condition_ratios(small, w, tags, generator(), steps=2)
    assert set(found) == {"inject", "head", "both"}
    small = without_network(small)
    alone = condition_ratios(small, w, tags, generator(), steps=2)
    assert alone["inject"] == 1.0
    assert alone["head"] == alone["both"] != 1.0


@pytest.mark.integration
def test_another_latent_through_the_head_of_the_shipped_stage_1_sounds_wrong():
    tune = next(tune for tune in map(read_tune, headers()[:20]) if tune is not None)
    pieces = [
        torch.from_numpy(render(arrange(tune, genre, 8.0, np.random.default_rng(0)), 2 * CPU.dmae.crop, RMS))
        for genre in ("Metal", "Electronic")
    ]
    w = torch.stack(pieces)[..., CPU.dmae.crop :]
    found = condition_ratios(load_dmae(CPU), w, ["2 of 4"] * 2, generator(), steps=8)
    assert min(found["head"], found["both"]) > 1.3 > found["inject"] > 0.9


def test_clips_are_exchanged_within_their_group():
    assert exchanged(["a", "b", "a", "b", "a"]) == [2, 3, 4, 1, 0]
    with pytest.raises(ValueError, match="one clip alone"):
        exchanged(["a", "b", "a"])
