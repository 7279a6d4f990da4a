"""Another library's product, the same sums."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mousai.products import Pointwise, Product, dense, product


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
    assert_close(product(x, weight, bias), expected.to(kind), atol=1e-5, rtol=1e-5)
    assert_close(product(x, weight), (expected - bias.double()).to(kind), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_call_it_are_the_layers_they_replace(bias):
    torch.manual_seed(0)
    linear, conv, x = nn.Linear(6, 9, bias), nn.Conv1d(6, 9, 1, bias=bias), normal(2, 6, 5)
    with torch.no_grad():
        assert_close(Product(linear)(x.mT), linear(x.mT))
        assert_close(Pointwise(conv)(x), conv(x))
    assert Product(linear).weight is linear.weight and Pointwise(conv).bias is conv.bias


def test_where_this_torch_lacks_the_other_library_the_usual_product_serves(monkeypatch):
    monkeypatch.setattr("mousai.products.ONEDNN", None)
    x, weight = normal(5, 7), normal(4, 7, seed=1)
    assert torch.equal(product(x, weight), nn.functional.linear(x, weight))


def test_a_slice_of_a_wider_matrix_is_multiplied_as_it_is_alone():
    wide = normal(40, 7, 30)
    for part in (wide[0, :, 3:8], wide[0, :, 3:8].mT, wide[:, 2], wide[::2, 0]):
        assert dense(part).is_contiguous() or dense(part).mT.is_contiguous()
        weight = normal(4, part.shape[-1], seed=1)
        assert_close(product(part, weight), part.contiguous() @ weight.mT)
        assert_close(product(weight, part), weight @ part.mT)
    vector = wide[:, 0, 0]
    assert_close(product(vector, wide[:4, 0, 0].expand(40, 4).mT), (vector * wide[:4, 0, 0][:, None]).sum(-1))
    assert dense(weight) is weight and dense(weight.mT).data_ptr() == weight.data_ptr()
