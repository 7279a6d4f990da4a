"""Another library's product, the same sums."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mousai.inference.onednn import ChannelsLastGroupNorm, OneDNNConv1d, OneDNNLinear, dense, linear, onednn_layer


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 5, 7), (2, 3, 5, 7)])
def test_a_product_is_the_sum_over_the_last_axis_whatever_the_strides(kind, turned, shape):
    x, weight, bias = normal(*shape), normal(4, 7, seed=1), normal(4, seed=2)
    expected = (x.double()[..., None, :] * weight.double()).sum(-1) + bias.double()
    x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
    if turned:
        x, weight = x.mT.contiguous().mT if x.ndim > 1 else x, weight.mT.contiguous().mT
    assert_close(linear(x, weight, bias), expected.to(kind), atol=1e-5, rtol=1e-5)
    assert_close(linear(x, weight), (expected - bias.double()).to(kind), atol=1e-5, rtol=1e-5)


# where the processor lacks it, oneDNN refuses bfloat16
KINDS = [torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])]


def innermost(x):
    """The same with channels innermost in memory."""
    return x.mT.contiguous().mT


LAYERS = {
    "linear": lambda bias: nn.Linear(8, 12, bias),
    "one tap": lambda bias: nn.Conv1d(8, 12, 1, bias=bias),
    "three taps": lambda bias: nn.Conv1d(8, 12, 3, padding=1, bias=bias),
    "down": lambda bias: nn.Conv1d(8, 12, 2, stride=2, bias=bias),
    "groups": lambda bias: nn.Conv1d(8, 12, 1, groups=2, bias=bias),
    "norm": lambda bias: nn.GroupNorm(4, 8),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_the_layer_it_replaces_for_every_size_it_meets(name, bias, kind):
    torch.manual_seed(0)
    layer = LAYERS[name](bias)
    quick, whole = onednn_layer(layer, kind), kind == torch.float32
    close = {"atol": 1e-5, "rtol": 1e-5} if whole else {"atol": 2e-2, "rtol": 2e-2}
    for shape in ((2, 8, 16), (2, 8, 64), (5, 8, 16), (2, 8, 16)):  # the first once more
        x = normal(*shape) if name != "linear" else normal(*shape).mT
        with torch.no_grad():
            twice = x.repeat(1, 1, 2)
            for given in (x, innermost(x), *(wide[..., : x.shape[-1]] for wide in (twice, innermost(twice)))):
                made = quick(given)
                assert_close(made.float(), layer(x), **close)
                assert made.dtype == (kind if name != "norm" else x.dtype)
    assert quick.bias is None or not quick.bias.requires_grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_use_can_be_copied_and_pickled(name, kind):
    quick, x = onednn_layer(LAYERS[name](True), kind), normal(2, 8, 16) if name != "linear" else normal(2, 16, 8)
    with torch.no_grad():
        expected = quick(x)
        assert torch.equal(deepcopy(quick)(x), expected) and torch.equal(pickle.loads(pickle.dumps(quick))(x), expected)
        assert torch.equal(quick(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_stay_innermost_from_layer_to_layer(kind):
    x = innermost(normal(2, 8, 16)).to(kind)
    with torch.no_grad():
        for name in ("one tap", "three taps", "down", "groups", "norm"):
            y = onednn_layer(LAYERS[name](True), kind)(x)
            assert y.dtype == kind and y.mT.is_contiguous() and not y.is_contiguous(), name


def test_only_what_it_does_better_is_replaced(monkeypatch):
    kinds = {name: type(onednn_layer(make(True))) for name, make in LAYERS.items()}
    expected = (OneDNNLinear, OneDNNLinear, *[OneDNNConv1d] * 3, ChannelsLastGroupNorm)
    assert kinds == dict(zip(LAYERS, expected, strict=True))
    others = [nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 8).double(), nn.Conv1d(8, 8, 3, padding="same")]
    others += [nn.Conv1d(8, 8, 3, dilation=2), nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular")]
    assert [onednn_layer(layer) for layer in others] == [None] * len(others)
    monkeypatch.setattr("mousai.inference.onednn.ONEDNN", None)
    assert onednn_layer(nn.Linear(8, 8)) is None


def test_where_this_torch_lacks_the_other_library_the_usual_product_serves(monkeypatch):
    monkeypatch.setattr("mousai.inference.onednn.ONEDNN", None)
    x, weight = normal(5, 7), normal(4, 7, seed=1)
    assert torch.equal(linear(x, weight), nn.functional.linear(x, weight))


def test_a_slice_of_a_wider_matrix_is_multiplied_as_it_is_alone():
    wide = normal(40, 7, 30)
    for part in (wide[0, :, 3:8], wide[0, :, 3:8].mT, wide[:, 2], wide[::2, 0]):
        assert dense(part).is_contiguous() or dense(part).mT.is_contiguous()
        weight = normal(4, part.shape[-1], seed=1)
        assert_close(linear(part, weight), part.contiguous() @ weight.mT)
        assert_close(linear(weight, part), weight @ part.mT)
    vector = wide[:, 0, 0]
    assert_close(linear(vector, wide[:4, 0, 0].expand(40, 4).mT), (vector * wide[:4, 0, 0][:, None]).sum(-1))
    assert dense(weight) is weight and dense(weight.mT).data_ptr() == weight.data_ptr()
