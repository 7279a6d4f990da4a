"""Stage 2: text, guidance, the embedding that stands for no text, lengths beyond the window."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mousai.config import A100, PaperExact, TextConfig
from mousai.diffusion import ddim, guidance
from mousai.small.stages import new_tcld
from mousai.tcld import TCLD
from mousai.unet import count_parameters

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def noise(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(tiny) -> TCLD:
    torch.manual_seed(0)
    return new_tcld(tiny).eval()


@pytest.fixture
def text(tiny) -> torch.Tensor:
    return noise(2, tiny.tcld.text.tokens, tiny.tcld.text.features, seed=9)


def test_the_papers_stage_two_adds_49_152_for_the_missing_text():
    with torch.device("meta"):
        model = new_tcld(A100)
    assert count_parameters(model.unet) == 562_508_096
    assert model.null_embedding.numel() == 49_152
    assert count_parameters(model) == 562_508_096 + 49_152


def test_the_papers_crop_of_2_to_the_21_is_a_latent_of_32_by_2048():
    with torch.device("meta"):
        model = new_tcld(A100)
        assert model.window == 2048
        z, embedding = torch.empty(1, 32, model.window), torch.empty(1, 64, 768)
        assert model.velocity(z, torch.empty(1), embedding, 1.0).shape == (1, 32, 2048)


@torch.no_grad()
def test_one_batched_call_is_two_calls_mixed(model, text):
    x, sigma = noise(2, 32, model.window), torch.tensor([0.3, 0.8])
    uncond = model.unet(x, sigma, embedding=model.null(2))
    cond = model.unet(x, sigma, embedding=text)
    assert_close(model.velocity(x, sigma, text, 3.0), guidance(uncond, cond, 3.0), **CLOSE)
    assert_close(model.velocity(x, sigma, text, 1.0), cond, **CLOSE)
    assert_close(model.velocity(x, sigma, text, 0.0), uncond, **CLOSE)


def paper_exact(model: TCLD, **switches) -> TCLD:
    """The same weights, with the authors' way switched on."""
    unet = replace(model.config.unet, paper_exact=PaperExact(**switches))
    exact = TCLD(replace(model.config, unet=unet), model.window)
    exact.load_state_dict(model.state_dict())
    return exact.eval()


@torch.no_grad()
def test_guidance_is_one_call_of_both_branches_or_exactly_two_calls_of_one(model, text):
    x, sigma, batches = noise(2, 32, model.window), torch.tensor([0.3, 0.8]), []
    exact = paper_exact(model, guidance=True)
    for net in (model, exact):
        net.unet.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    assert_close(exact.velocity(x, sigma, text, 3.0), model.velocity(x, sigma, text, 3.0), **CLOSE)
    assert batches == [2, 2, 4]


@pytest.mark.parametrize("attention", [False, True])
@torch.no_grad()
def test_the_net_does_not_depend_on_how_much_padding_follows_the_prompt(model, text, attention):
    net, x, sigma = paper_exact(model, attention=attention).unet, noise(2, 32, model.window), torch.tensor([0.3, 0.8])
    text[:, 5:] = 0
    expected = net(x, sigma, embedding=text[:, :5])
    for tokens in (6, 20, 64):
        assert_close(net(x, sigma, embedding=text[:, :tokens]), expected, **CLOSE)
    assert (net(x, sigma, embedding=text[:, :4]) - expected).abs().max() > 1e-3


def test_the_learned_embedding_replaces_whole_items_with_the_given_probability(tiny, text):
    z = noise(2, 32, 32)
    deaf = TCLD(replace(tiny.tcld, mask_share=1.0), 32)
    losses = [deaf(z, embedding, torch.Generator().manual_seed(0)) for embedding in (text, text.flip(0))]
    assert_close(*losses)
    losses[0].backward()
    assert deaf.null_embedding.grad.any()
    heard = TCLD(replace(tiny.tcld, mask_share=0.0), 32)
    heard(z, text, torch.Generator().manual_seed(0)).backward()
    assert not heard.null_embedding.grad.any()
    losses = [heard(z, embedding, torch.Generator().manual_seed(0)) for embedding in (text, text.flip(0))]
    assert (losses[0] - losses[1]).abs() > 1e-7


def test_a_tenth_of_the_items_is_masked(tiny, monkeypatch):
    model, seen = TCLD(replace(tiny.tcld, text=TextConfig(tokens=2, features=3)), 32), []
    monkeypatch.setattr(model.unet, "forward", lambda x, sigma, embedding: seen.append(embedding) or x)
    model(torch.zeros(4000, 32, 4), torch.zeros(4000, 2, 3), torch.Generator().manual_seed(0))
    masked = (seen[0] == model.null_embedding).all(dim=(1, 2))
    assert_close(masked.double().mean().item(), 0.1, atol=0.015, rtol=0)
    assert (seen[0][~masked] == 0).all()


def test_the_latents_spread_divides_in_training_and_multiplies_in_sampling(model, text):
    z = noise(2, 32, 32)
    plain = model(z, text, torch.Generator().manual_seed(0))
    w = model.sample(text, 32, 2, 2.0, torch.Generator().manual_seed(0))
    model.latent_std.fill_(0.25)
    assert_close(model(0.25 * z, text, torch.Generator().manual_seed(0)), plain, **CLOSE)
    assert_close(model.sample(text, 32, 2, 2.0, torch.Generator().manual_seed(0)), 0.25 * w, **CLOSE)


@torch.no_grad()
def test_sampling_is_ddim_with_guided_velocities_also_beyond_the_window(model, text):
    length = 3 * model.window
    eps = noise(2, 32, length, seed=4)
    expected = ddim(lambda x, sigma: model.velocity(x, sigma, text, 3.0), eps, 3)
    assert_close(model.sample(text, length, 3, 3.0, torch.Generator().manual_seed(4)), expected, **CLOSE)


@pytest.mark.parametrize("length", [1, 5, 32, 33, 100])
def test_any_number_of_latent_steps_can_be_asked_for(model, text, length):
    z = model.sample(text, length, 1, 3.0, torch.Generator().manual_seed(0))
    assert z.shape == (2, 32, length) and z.isfinite().all()


def test_with_paper_exact_lengths_only_multiples_of_the_stride_are_sampled(model, text):
    exact = paper_exact(model, lengths=True)
    draw = lambda net, length: net.sample(text, length, 2, 3.0, torch.Generator().manual_seed(0))  # noqa: E731
    assert_close(draw(exact, 16), draw(model, 16))
    assert_close(draw(model, 13), draw(model, 16)[..., :13])  # padded inside, cut outside
    with pytest.raises(ValueError, match="length 13 is not a multiple of the stride 4: pad it first"):
        draw(exact, 13)


def test_the_same_seed_gives_the_same_latent_and_another_seed_another(model, text):
    a, b, c = (model.sample(text, 32, 2, 3.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert_close(a, b, atol=0, rtol=0)
    assert (a - c).abs().max() > 0.1


def test_null_repeats_the_learned_embedding(model):
    assert_close(model.null(3), torch.stack([model.null_embedding.detach()] * 3))
