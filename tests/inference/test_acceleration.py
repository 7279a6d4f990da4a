"""Copies that sample faster: the same numbers, the original untouched, no training."""

import copy

import pytest
import torch
from torch.testing import assert_close

from mousai.diffusion import noise_levels
from mousai.inference import acceleration
from mousai.inference.acceleration import (
    FEW_PAIRS,
    AcceleratedUNet,
    TextKV,
    at_levels,
    attend,
    is_accelerated,
    optimize_for_cpu,
    text_conditioning,
)
from mousai.inference.long import Run, decode, sample_latents
from mousai.inference.samplers import Guidance
from mousai.small.stages import new_dmae, new_tcld

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def noise(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["small", "paper"])
def dmae(request, tiny, paper_dmae):
    torch.manual_seed(0)
    return new_dmae(tiny.dmae if request.param == "small" else paper_dmae).eval()


@pytest.fixture
def tcld(tiny):
    torch.manual_seed(0)
    return new_tcld(tiny).eval()


@pytest.fixture
def text(tiny) -> torch.Tensor:
    words = noise(2, tiny.tcld.text.tokens, tiny.tcld.text.features, seed=9)
    words[1, 5:] = 0
    return words


def test_a_copy_samples_as_the_original_and_leaves_it_as_it_was(dmae, tcld, text):
    before = [copy.deepcopy(model.state_dict()) for model in (dmae, tcld)]
    fast = optimize_for_cpu(dmae), optimize_for_cpu(tcld)
    assert [type(one) for one in fast] == [type(dmae), type(tcld)]
    w, run = 0.1 * noise(1, 2, 3 * dmae.config.crop // 2), Run(2, "multistep", guidance=Guidance(3.0))
    z = dmae.encode(w)
    assert_close(fast[0].encode(w), z, **CLOSE)
    assert_close(decode(fast[0], z, run, seeded()), decode(dmae, z, run, seeded()), atol=1e-4, rtol=0)
    assert_close(fast[0].decode(z, 2, seeded()), dmae.decode(z, 2, seeded()), atol=1e-4, rtol=0)
    made = [sample_latents(model, text, 50, run, seeded()) for model in (fast[1], tcld)]
    assert_close(*made, **CLOSE)
    assert_close(fast[1].sample(text, 32, 2, 3.0, seeded()), tcld.sample(text, 32, 2, 3.0, seeded()), **CLOSE)
    for model, state in zip((dmae, tcld), before, strict=True):
        assert not is_accelerated(model) and all(p.requires_grad for p in model.parameters())
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_copy_says_what_it_is_and_refuses_a_backward_pass_by_name(dmae, tcld, text):
    fast, w = optimize_for_cpu(dmae), 0.1 * noise(1, 2, dmae.config.crop)
    assert is_accelerated(fast) and not is_accelerated(dmae)
    with pytest.raises(RuntimeError, match="made by `optimize_for_cpu`, for sampling alone: train the original"):
        fast.encode(w).square().sum().backward()
    with pytest.raises(RuntimeError, match="made by `optimize_for_cpu`, for sampling alone: train the original"):
        fast(w, seeded()).backward()
    fast = optimize_for_cpu(tcld)
    with pytest.raises(RuntimeError, match="made by `optimize_for_cpu`, for sampling alone: train the original"):
        fast(noise(2, 32, 32), text, seeded()).backward()
    dmae.encode(w).square().sum().backward()
    assert all(parameter.grad is not None for parameter in dmae.encoder.parameters())


def test_a_copy_can_be_copied(tcld, text):
    fast = optimize_for_cpu(tcld)
    twin = copy.deepcopy(fast)
    assert torch.equal(*(model.sample(text, 32, 1, 3.0, seeded()) for model in (fast, twin)))


@torch.no_grad()
def test_text_and_noise_levels_computed_once_give_what_they_give_at_every_step(tcld, text):
    x, levels = noise(2, 32, tcld.window), noise_levels(4)
    run = at_levels(optimize_for_cpu(tcld), levels)
    kept = text_conditioning(run.unet, text)
    assert isinstance(kept, TextKV) and len(kept.layers) == sum(
        2 * items * cross
        for items, cross in zip(tcld.config.unet.items, tcld.config.unet.cross_attentions, strict=True)
    )
    for sigma in levels:
        expected = tcld.unet(x, sigma.expand(2), None, text)
        assert_close(run.unet(x, sigma.expand(2), None, kept), expected, **CLOSE)
    with pytest.raises(ValueError, match=r"noise level 0.3.* is not one of those that were computed"):
        run.unet(x, torch.full((2,), 0.3), None, kept)


def test_without_a_copy_nothing_is_kept(tcld, text):
    assert at_levels(tcld, noise_levels(4)) is tcld and text_conditioning(tcld.unet, text) is text


@torch.no_grad()
def test_items_of_a_batch_may_have_different_noise_levels(tcld, text):
    x, sigma = noise(2, 32, tcld.window), torch.tensor([0.3, 0.8])
    unet = optimize_for_cpu(tcld).unet
    assert isinstance(unet, AcceleratedUNet)
    assert_close(unet(x, sigma, None, text), tcld.unet(x, sigma, None, text), **CLOSE)


def test_conditions_are_checked_as_ever(tcld, text):
    unet = optimize_for_cpu(tcld).unet
    with pytest.raises(ValueError, match="embedding is needed"):
        unet(noise(2, 32, tcld.window), torch.rand(2))


@pytest.mark.parametrize("many", [False, True])
def test_few_pairs_in_bfloat16_are_written_out(generator, monkeypatch, many):
    written = []
    monkeypatch.setattr(acceleration, "attention_written_out", lambda *given: written.append(given) or given[0])
    q = torch.randn(1, 1, FEW_PAIRS // 8 + many, 4, generator=generator)
    k = torch.randn(1, 1, 8, 4, generator=generator)
    for kind in (torch.float32, torch.bfloat16):
        attend(q.to(kind), k.to(kind), k.to(kind))
        assert bool(written) == (kind == torch.bfloat16 and not many)
