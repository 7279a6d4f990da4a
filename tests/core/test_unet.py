"""The one U-Net of both stages: its items, its conditions, its counts. Parity with the authors is in test_parity."""

import copy
from dataclasses import replace
from math import pi

import pytest
import torch
from helpers.nets import WITH_LATENT as CONFIG
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from mousai.config import A100, PaperExact
from mousai.unet import Inject, Modulation, NoiseLevel, Resnet, UNet, channel_norm, count_parameters

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def net(generator) -> UNet:
    torch.manual_seed(0)
    return UNet(CONFIG)


@pytest.fixture
def inputs(generator) -> tuple[torch.Tensor, ...]:
    """x, sigma, latent, embedding of two items."""
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(2, 4, 20), torch.tensor([0.2, 0.9]), draw(2, 3, 10), draw(2, 5, 6)


def test_the_output_has_the_shape_of_the_input(net, inputs):
    assert net(*inputs).shape == inputs[0].shape


def test_without_skip_scales_the_net_is_the_identity(net, inputs):
    nn.init.zeros_(net.net.skip.weight)
    nn.init.zeros_(net.net.skip.bias)
    assert_close(net(*inputs), inputs[0])


def test_items_of_a_batch_do_not_see_each_other(net, inputs):
    alone = [net(*(tensor[i : i + 1] for tensor in inputs)) for i in range(2)]
    assert_close(net(*inputs), torch.cat(alone), **CLOSE)


@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["x", "sigma", "latent", "embedding"])
def test_every_input_is_heard(net, inputs, which):
    changed = [tensor + 0.5 * (i == which) * torch.rand_like(tensor) for i, tensor in enumerate(inputs)]
    assert (net(*inputs) - net(*changed)).abs().amax(dim=(1, 2)).min() > 1e-4


def test_every_parameter_is_in_use(net, inputs):
    net(*inputs).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_deep_copy_computes_with_its_own_weights(net, inputs):
    """In the authors' packages it runs the original's, so that their EMA changes nothing."""
    expected, twin = net(*inputs), copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_close(net(*inputs), expected)
    assert_close(twin(*inputs), inputs[0])


def test_the_noise_level_is_waves_and_itself_through_a_layer_used_twice():
    torch.manual_seed(0)
    level, sigma = NoiseLevel(16), torch.tensor([0.3])
    w = 2 * pi * 0.3 * level.freqs
    h = F.gelu(level.proj(torch.cat([sigma, w.sin(), w.cos()])))
    h = F.gelu(level.mlp(F.gelu(level.mlp(h))))
    assert_close(level(sigma)[0], h, **CLOSE)
    assert count_parameters(level) == 128 + (257 * 16 + 16) + (16 * 16 + 16)


def test_a_resnet_whose_last_convolution_is_zero_is_the_identity(generator):
    block, x = Resnet(8, 8), torch.randn(2, 8, 12, generator=generator)
    assert (block(x) - x).abs().max() > 1e-2
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    assert_close(block(x), x)


def test_modulation_replaces_size_and_offset_of_its_input(generator):
    """Not residual: LayerNorm over channels takes away what x had of either."""
    block = Modulation(8, 4)
    x, features = torch.randn(2, 8, 12, generator=generator), torch.randn(2, 4, generator=generator)
    assert_close(block(5 * x + 3, features), block(x, features), **CLOSE)


def test_modulation_scales_by_one_plus_the_first_half_and_shifts_by_the_second(generator):
    block, x = Modulation(8, 4), torch.randn(1, 8, 12, generator=generator)
    nn.init.zeros_(block.linear.weight)
    block.linear.bias.data = torch.cat([torch.full((8,), 2.0), torch.full((8,), 0.5)])
    result = block(x, torch.zeros(1, 4))
    assert_close(result.mean(dim=1), torch.full((1, 12), 0.5), **CLOSE)
    assert_close(result.std(dim=1, correction=0), torch.full((1, 12), 3.0), atol=1e-3, rtol=0)


def test_a_latent_of_another_length_is_refused_by_number():
    with pytest.raises(ValueError, match="latent has 9 steps where the U-Net has 10"):
        Inject(8, 3)(torch.zeros(1, 8, 10), torch.zeros(1, 3, 9))


def test_a_latent_of_another_length_is_refused_also_where_it_would_divide(net, inputs):
    x, sigma, latent, embedding = inputs
    with pytest.raises(ValueError, match="latent has 5 steps where the U-Net has 10: lengths must match"):
        net(x, sigma, latent[..., :5], embedding)


def test_the_paper_exact_net_writes_attention_out_and_computes_the_same(net, inputs, monkeypatch):
    x, sigma, latent, embedding = inputs
    embedding[1, 3:] = 0  # padding
    expected = net(x, sigma, latent, embedding)
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    exact = UNet(replace(CONFIG, paper_exact=PaperExact(attention=True)))
    exact.load_state_dict(net.state_dict())
    assert_close(exact(x, sigma, latent, embedding), expected, **CLOSE)


def test_a_length_that_does_not_divide_is_refused_by_number(net, inputs):
    x, sigma, latent, embedding = inputs
    with pytest.raises(ValueError, match="length 19 is not a multiple of the stride 2: pad it first"):
        net(x[..., :19], sigma, latent, embedding)


def test_a_missing_or_unheard_condition_is_refused(net, inputs):
    x, sigma, latent, embedding = inputs
    with pytest.raises(ValueError, match="latent is needed"):
        net(x, sigma, None, embedding)
    with pytest.raises(ValueError, match="embedding is needed"):
        net(x, sigma, latent, None)
    deaf = UNet(replace(CONFIG, cross_attentions=(0, 0)))
    with pytest.raises(ValueError, match="embedding is needed exactly where"):
        deaf(x, sigma, latent, embedding)


def test_lists_of_unequal_length_and_indivisible_widths_are_refused():
    with pytest.raises(ValueError, match="one entry per depth"):
        UNet(replace(CONFIG, items=(1,)))
    with pytest.raises(ValueError, match="12 channels are not a multiple of 8"):
        UNet(replace(CONFIG, channels=(8, 12)))


def test_the_papers_unets_have_the_papers_counts():
    with torch.device("meta"):
        assert count_parameters(UNet(A100.dmae.unet)) == 160_604_032
        assert count_parameters(UNet(A100.tcld.unet)) == 562_508_096


@pytest.mark.parametrize("shape", [(2, 8, 5), (1, 64, 33)])
def test_the_norm_over_channels_is_layer_norm(shape):
    x = 3 + torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.layer_norm(x.mT, shape[1:2], eps=1e-6).mT
    assert_close(channel_norm(x), expected, atol=1e-12, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(channel_norm(x.float()), expected.float(), atol=1e-5, rtol=0)
