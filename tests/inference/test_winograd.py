"""Half the multiplications, the same convolution."""

from dataclasses import replace

import pytest
import torch
from mousai.inference.winograd import Winograd, quicken
from torch import nn
from torch.testing import assert_close

from mousai.inference import winograd
from mousai.inference.onednn import OneDNNConv1d
from mousai.small.stages import new_tcld


@pytest.mark.parametrize("length", [*range(1, 10), 64])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_for_every_length(length, bias):
    torch.manual_seed(0)
    conv, x = nn.Conv1d(5, 7, 3, padding=1, bias=bias).double(), torch.randn(2, 5, length).double()
    assert_close(Winograd(conv)(x), conv(x), atol=1e-12, rtol=1e-12)


def test_in_float32_it_errs_by_a_hundred_thousandth_at_the_papers_width():
    torch.manual_seed(0)
    conv, x = nn.Conv1d(1024, 1024, 3, padding=1), torch.randn(2, 1024, 64)
    assert_close(Winograd(conv)(x), conv(x), atol=1e-4, rtol=0)


def test_a_net_stays_the_same_and_only_what_fits_is_replaced(tiny, monkeypatch):
    monkeypatch.setattr(winograd, "WIDE", 24)
    unet = replace(tiny.tcld.unet, channels=(16, 32, 32), groups=4)
    torch.manual_seed(0)
    model = new_tcld(replace(tiny, tcld=replace(tiny.tcld, unet=unet))).eval()
    z, text = torch.randn(2, 32, model.window), torch.randn(2, tiny.tcld.text.tokens, tiny.tcld.text.features)
    with torch.no_grad():
        before = model.velocity(z, torch.tensor([0.3, 0.8]), text, 3.0)
        assert_close(quicken(model).velocity(z, torch.tensor([0.3, 0.8]), text, 3.0), before, atol=1e-4, rtol=1e-4)
    replaced = [m for m in model.modules() if isinstance(m, Winograd)]
    assert replaced and all(m.weight.shape[1:] == (32, 32) for m in replaced)
    others = [m.weight.shape for m in model.modules() if isinstance(m, OneDNNConv1d)]
    assert others and all(min(shape[:2]) < 24 or shape[2] != 3 for shape in others)


def test_narrow_nets_are_left_alone(tiny):
    assert not any(isinstance(module, Winograd) for module in quicken(new_tcld(tiny)).modules())
