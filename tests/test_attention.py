"""Where a U-Net looks: the weights are those it computes with, and looking changes nothing."""

from dataclasses import replace

import pytest
import torch
from test_unet import CONFIG as WITH_LATENT
from torch.testing import assert_close

from mousai.evaluation.attention import attention_weights, depth_of
from mousai.unet import UNet

CONFIG = replace(WITH_LATENT, inject_depth=None)


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
