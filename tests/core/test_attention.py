"""Softmax of scaled products; where a U-Net looks: the weights it computes with, and looking changes nothing."""

from dataclasses import replace
from math import sqrt

import pytest
import torch
from helpers.nets import WITH_LATENT
from torch.nn import functional as F
from torch.testing import assert_close

from mousai.attention import Attention, attention_written_out, word_mask
from mousai.evaluation.attention import attention_weights, depth_of
from mousai.unet import UNet

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
CONFIG = replace(WITH_LATENT, inject_depth=None)


def test_attention_is_softmax_of_scaled_products(generator):
    torch.manual_seed(0)
    block, x = Attention(8, 2, 4), torch.randn(1, 8, 5, generator=generator)
    y = x[0].T
    q, (k, v) = block.to_q(block.norm(y)), block.to_kv(block.norm_context(y)).chunk(2, dim=-1)
    heads = [
        torch.softmax(q[:, s] @ k[:, s].T / sqrt(4), dim=-1) @ v[:, s] for s in (slice(0, 4), slice(4, 8))
    ]  # head-major
    assert_close(block(x)[0].T, y + block.to_out(torch.cat(heads, dim=-1)), **CLOSE)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_written_out_is_attention_never_written_out(generator, masked):
    q, k, v = (torch.randn(3, 2, length, 4, generator=generator) for length in (5, 7, 7))
    mask = torch.arange(7) < torch.tensor([1, 4, 7])[:, None, None, None] if masked else None
    assert_close(attention_written_out(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask), **CLOSE)


def test_a_position_that_is_masked_has_no_weight(generator):
    q, k, v = (torch.randn(1, 1, 3, 4, generator=generator) for _ in range(3))
    mask = torch.tensor([True, True, False])
    expected = attention_written_out(q, k[..., :2, :], v[..., :2, :])
    assert_close(attention_written_out(q, k, v, mask), expected, **CLOSE)


def test_vectors_of_zeros_are_padding_and_a_prompt_of_zeros_alone_is_heard_whole():
    context = torch.tensor([[[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]], [[0.0, 0.0]] * 3])
    assert word_mask(context).tolist() == [[[[True, True, False]]], [[[True, True, True]]]]


def test_padding_is_not_heard_and_the_prompts_beside_it_do_not_matter(generator):
    block, x = Attention(8, 2, 4, 6), torch.randn(2, 8, 5, generator=generator)
    text = torch.randn(2, 7, 6, generator=generator)
    text[0, 3:] = 0
    assert_close(block(x, text)[:1], block(x[:1], text[:1, :3]), **CLOSE)
    assert_close(block(x, text)[1:], block(x[1:], text[1:]), **CLOSE)


def test_self_attention_knows_no_positions(generator):
    block, x = Attention(8, 2, 4), torch.randn(1, 8, 5, generator=generator)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert_close(block(x[..., order]), block(x)[..., order], **CLOSE)


def test_cross_attention_does_not_hear_the_order_of_tokens(generator):
    block, x = Attention(8, 2, 4, 6), torch.randn(1, 8, 5, generator=generator)
    text = torch.randn(1, 7, 6, generator=generator)
    assert_close(block(x, text.flip(1)), block(x, text), **CLOSE)
    assert (block(x, text + torch.rand_like(text)) - block(x, text)).abs().max() > 1e-3


@pytest.fixture
def asked(generator) -> tuple:
    """A net, x of 12 steps, sigma, and a text whose last two of five positions are padding."""
    torch.manual_seed(0)
    text = torch.randn(2, 5, 6, generator=generator)
    text[:, 3:] = 0
    return UNet(CONFIG), torch.randn(2, 4, 12, generator=generator), torch.tensor([0.2, 0.9]), text


def test_weights_are_shares_of_what_is_asked_and_padding_has_none(asked):
    weights = attention_weights(*asked)
    shapes = {name: tuple(part.shape) for name, part in weights.items()}
    cross = {name: shape for name, shape in shapes.items() if "cross" in name}
    assert len(weights) == 10 and len(cross) == 6
    for name, part in weights.items():
        steps = 12 if depth_of(name) == 0 else 6
        assert part.shape == (2, 2, steps, 5 if name in cross else steps)
        assert_close(part.sum(dim=-1), torch.ones(2, 2, steps))
        assert name not in cross or not part[..., 3:].any()


def test_with_these_weights_the_attention_gives_what_it_gave(asked):
    """y + to_out(weights v), for every self-attention, from what went in."""
    net, x, sigma, text = asked
    seen, hooks = {}, []
    for name, module in net.named_modules():
        if name.endswith("self_attention.0"):
            keep = lambda _, x, y, name=name: seen.update({name: (x[0].transpose(1, 2), y.transpose(1, 2))})  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    weights = attention_weights(net, x, sigma, text)
    assert len(seen) == 4
    for name, (y, out) in seen.items():
        module = net.get_submodule(name)
        v = module.to_kv(module.norm_context(y)).chunk(2, dim=-1)[1].unflatten(-1, (2, 8)).transpose(1, 2)
        assert_close(y + module.to_out((weights[name] @ v).transpose(1, 2).flatten(2)), out, atol=1e-5, rtol=1e-5)


def test_looking_changes_nothing(asked):
    net, x, sigma, text = asked
    before = net(x, sigma, embedding=text)
    attention_weights(*asked)
    with pytest.raises(ValueError, match="text embedding"):
        attention_weights(net, x, sigma)
    assert torch.equal(net(x, sigma, embedding=text), before)


def test_depth_is_counted_from_the_name(asked):
    assert [depth_of(name) for name, _ in asked[0].named_children()] == [0, 0]
    assert depth_of("net.inner.inner.items_up.0.self_attention.0") == 2
