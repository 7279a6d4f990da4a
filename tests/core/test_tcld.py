"""Stage 2: text, guidance, the embedding that stands for no text, lengths beyond the window."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mousai.config import A100, PaperExact, TextConfig
from mousai.diffusion import guidance
from mousai.inference.long import part_of_window
from mousai.inference.samplers import Guidance, sample
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


@torch.no_grad()
def test_a_negative_prompt_takes_the_place_of_no_text(model, text):
    x, sigma, away = noise(2, 32, model.window), torch.tensor([0.3, 0.8]), noise(1, *text.shape[1:], seed=5)
    cond, uncond = (model.unet(x, sigma, embedding=said) for said in (text, away.expand(2, -1, -1)))
    for net in (model, paper_exact(model, guidance=True)):
        assert_close(net.guided(text, 3.0, None, away)(x, sigma), guidance(uncond, cond, 3.0), **CLOSE)


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
def test_sampling_a_window_is_ddim_with_guided_velocities(model, text):
    eps = noise(2, 32, model.window, seed=4)
    expected = sample(lambda x, sigma: model.velocity(x, sigma, text, 3.0), eps, 3)
    assert_close(model.sample(text, model.window, 3, 3.0, torch.Generator().manual_seed(4)), expected, **CLOSE)


@pytest.mark.parametrize("length", [1, 5, 32, 33, 100])
def test_any_number_of_latent_steps_can_be_asked_for(model, text, length):
    z = model.sample(text, length, 1, 3.0, torch.Generator().manual_seed(0))
    assert z.shape == (2, 32, length) and z.isfinite().all()


def test_with_paper_exact_lengths_only_multiples_of_the_stride_are_sampled(model, text):
    exact = paper_exact(model, lengths=True)
    draw = lambda net, length: net.sample(text, length, 2, 3.0, torch.Generator().manual_seed(0))  # noqa: E731
    assert_close(draw(exact, 16), draw(model, 16))
    assert_close(draw(model, 13), draw(model, 16)[..., :13])  # padded inside, cut outside
    with pytest.raises(ValueError, match="length 13 does not divide by the stride 4: pad it first"):
        draw(exact, 13)


def test_the_same_seed_gives_the_same_latent_and_another_seed_another(model, text):
    a, b, c = (model.sample(text, 32, 2, 3.0, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert_close(a, b, atol=0, rtol=0)
    assert (a - c).abs().max() > 0.1


def test_null_repeats_the_learned_embedding(model):
    assert_close(model.null(3), torch.stack([model.null_embedding.detach()] * 3))


@torch.no_grad()
def test_outside_its_levels_guidance_is_off_and_within_it_is_as_ever(model, text):
    x, how = noise(2, 32, model.window), Guidance(3.0, low=0.2, high=0.6)
    for sigma, scale in ((0.1, 1.0), (0.4, 3.0), (0.7, 1.0)):
        level = torch.full((2,), sigma)
        assert_close(model.velocity(x, level, text, how), model.velocity(x, level, text, scale), **CLOSE)


@pytest.mark.parametrize("wrong", [{"low": -0.1}, {"high": 1.1}, {"low": 0.6, "high": 0.4}, {"rescale": 2.0}])
def test_levels_and_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"guidance cannot be so: levels .*: choose numbers from 0 to 1"):
        Guidance(3.0, **wrong)


@torch.no_grad()
def test_rescaled_guidance_has_the_spread_of_the_answer_with_text(model, text):
    x, sigma = noise(2, 32, model.window), torch.tensor([0.3, 0.8])
    cond = model.velocity(x, sigma, text, 1.0)
    made = model.velocity(x, sigma, text, Guidance(30.0, rescale=1.0))
    assert_close(made.std(dim=(1, 2)), cond.std(dim=(1, 2)), **CLOSE)
    assert (model.velocity(x, sigma, text, 30.0).std(dim=(1, 2)) - cond.std(dim=(1, 2))).abs().max() > 1e-4


@torch.no_grad()
def test_levels_gone_through_before_change_nothing(model, text):
    x, levels = noise(2, 32, model.window), torch.tensor([1.0, 0.5, 0.25])
    told = model.unet.tell(levels)
    for sigma in levels:
        expected = model.velocity(x, sigma.expand(2), text, 3.0)
        assert_close(model.guided(text, 3.0, told)(x, sigma.expand(2)), expected, **CLOSE)


@pytest.mark.parametrize(
    ("windows", "parts", "heard"),
    [
        (1, 1, [0]),
        (3, 1, [0, 0, 0]),
        (2, 4, [0, 3]),
        (3, 4, [0, 1, 3]),
        (6, 4, [0, 1, 1, 2, 2, 3]),
        (4, 2, [0, 0, 1, 1]),
    ],
)
def test_windows_hear_the_beginning_the_middle_in_turn_and_the_ending(windows, parts, heard):
    assert [part_of_window(i, windows, parts) for i in range(windows)] == heard


def test_each_window_hears_its_own_part(model, text, monkeypatch):
    parts, heard = [text + k for k in range(4)], []
    guided = model.guided

    def listening(embedding, scale, told=None, negative=None):
        each = [next(k for k in range(4) if one.equal(parts[k])) for one in embedding.split(len(text))]
        net = guided(embedding, scale, told, negative)
        return lambda x, sigma: heard.extend(each) or net(x, sigma)

    monkeypatch.setattr(model, "guided", listening)
    length = 4 * model.window
    made = model.sample(parts, length, 1, 3.0, torch.Generator().manual_seed(0))
    assert made.shape == (2, 32, length) and heard == [0, 1, 1, 2, 3]
