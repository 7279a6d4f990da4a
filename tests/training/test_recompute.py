"""Gradient checkpointing: the same gradients, each block computed once more, and only where gradients are wanted."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mousai.bench.paper_size import build
from mousai.config import Profile, TrainConfig
from mousai.dmae import DMAE
from mousai.encoder import ResnetIn
from mousai.small.profiles import A100
from mousai.train import EMA, fit
from mousai.training.activation_checkpointing import Recomputed, recompute
from mousai.unet import Group, Resnet

CPU = torch.device("cpu")


@pytest.fixture(params=["tiny", "paper"])
def profile(request, tiny, paper_dmae) -> Profile:
    """With every departure on, and with none."""
    if request.param == "tiny":
        return replace(tiny, dmae=replace(tiny.dmae, freeze_encoder=False))
    unet = replace(A100.tcld.unet, in_channels=8, channels=(8,) * 6, items=(1,) * 6, features=32, heads=2)
    return replace(A100, dmae=paper_dmae, tcld=replace(A100.tcld, unet=unet, crop=32 * paper_dmae.latent_stride))


def gradients(stage: str, profile: Profile, on: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model, item, _, _ = build(stage, profile, 2)
    recompute(model.double(), on)
    model(*(tensor.double() for tensor in item), torch.Generator().manual_seed(1)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_gradients_are_those_of_activations_that_are_kept(profile, stage):
    again, kept = (gradients(stage, profile, on) for on in (True, False))
    assert len(kept) > 20
    assert_close(again, kept, atol=1e-12, rtol=1e-12)


def calls(model: nn.Module) -> Counter:
    """How often each kind of block is computed, from now on."""
    made = Counter()
    for module in model.modules():
        if isinstance(module, Recomputed):
            module.register_forward_pre_hook(lambda module, _: made.update([type(module)]))
    return made


def test_a_step_computes_every_block_once_more_and_sampling_none(paper_dmae):
    model, w = DMAE(paper_dmae), torch.randn(1, 2, paper_dmae.crop)
    made, once = calls(model), {Group: 8, Resnet: 8 + 3, ResnetIn: 1}  # groups both ways, each with one; the encoder's
    for on, gradient, times in ((False, True, 1), (True, True, 2), (True, False, 1)):
        made.clear()
        recompute(model, on)
        with torch.set_grad_enabled(gradient):
            loss = model(w, torch.Generator())
        if gradient:
            loss.backward()
        assert made == {kind: times * n for kind, n in once.items()}


def test_the_outermost_blocks_forget_and_none_inside_them(paper_dmae):
    model = DMAE(paper_dmae)
    recompute(model, True)
    groups = [module for module in model.unet.modules() if isinstance(module, Group)]
    assert all(group.recompute and not group.resnet.recompute for group in groups)
    assert all(module.recompute for module in model.encoder.modules() if isinstance(module, Recomputed))
    recompute(model, False)
    assert not any(module.recompute for module in model.modules() if isinstance(module, Recomputed))


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_training_with_it_is_training_without_it(tiny, stage):
    trained = []
    for on in (False, True):
        torch.manual_seed(0)
        model, item, _, _ = build(stage, tiny, 2)
        config = TrainConfig(lr=1e-3, eps=1e-3, max_grad_norm=1.0, checkpointing=on)  # eps: where AdamW forgives rounding
        made = calls(model)
        average, history = fit(model, lambda _, item=item: item, config, 4, device=CPU)
        trained.append((dict(average.state_dict()), history.loss.tolist(), made[Group]))
    assert_close(trained[1][:2], trained[0][:2], atol=1e-5, rtol=1e-5)
    assert trained[1][2] == 2 * trained[0][2] > 0


def test_the_average_keeps_its_own_way(paper_dmae):
    model = DMAE(paper_dmae)
    ema = EMA(model, 0.995, 0.7)
    recompute(model, True)
    assert not any(module.recompute for module in ema.model.modules() if isinstance(module, Recomputed))
