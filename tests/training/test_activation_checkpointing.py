"""Gradient checkpointing: the same gradients, each block computed once more, and only where gradients are wanted."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mousai.bench.paper_size import build
from mousai.config import A100, Profile, TrainConfig
from mousai.dmae import DMAE, ResnetIn
from mousai.training.activation_checkpointing import BLOCKS, activation_checkpointing, outermost_blocks
from mousai.training.loop import fit
from mousai.unet import Group, Resnet

CPU = torch.device("cpu")


@pytest.fixture(params=["tiny", "paper"])
def profile(request, tiny, paper_dmae) -> Profile:
    """With every departure on, and with none."""
    if request.param == "tiny":
        return tiny
    unet = replace(A100.tcld.unet, in_channels=8, channels=(8,) * 6, items=(1,) * 6, features=32, heads=2)
    return replace(A100, dmae=paper_dmae, tcld=replace(A100.tcld, unet=unet, crop=32 * paper_dmae.latent_stride))


def gradients(stage: str, profile: Profile, on: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model, item, _, _ = build(stage, profile, 2)
    with activation_checkpointing(model.double(), on):
        model(*(tensor.double() for tensor in item), torch.Generator().manual_seed(1)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_gradients_are_those_of_activations_that_are_kept(profile, stage):
    again, kept = (gradients(stage, profile, on) for on in (True, False))
    assert len(kept) > 20
    assert_close(again, kept, atol=1e-12, rtol=1e-12)


@pytest.fixture
def made(monkeypatch) -> Counter:
    """How often each kind of block is computed, from now on."""
    counts = Counter()

    def counting(kind: type[nn.Module]):
        forward = kind.forward
        return lambda self, *args: counts.update([kind]) or forward(self, *args)

    for kind in BLOCKS:
        monkeypatch.setattr(kind, "forward", counting(kind))
    return counts


def test_a_step_computes_every_block_once_more_and_sampling_none(paper_dmae, made):
    model, w = DMAE(paper_dmae), torch.randn(1, 2, paper_dmae.crop)
    once = {Group: 8, Resnet: 8 + 3, ResnetIn: 1}  # groups both ways, each with one; the encoder's
    for on, gradient, times in ((False, True, 1), (True, True, 2), (True, False, 1)):
        made.clear()
        with activation_checkpointing(model, on), torch.set_grad_enabled(gradient):
            loss = model(w, torch.Generator())
            if gradient:
                loss.backward()
        assert made == {kind: times * n for kind, n in once.items()}


def test_the_outermost_blocks_are_checkpointed_and_none_inside_them_and_afterwards_none(paper_dmae):
    model = DMAE(paper_dmae)
    groups = [module for module in model.unet.modules() if isinstance(module, Group)]
    inside = [module for module in model.encoder.modules() if isinstance(module, BLOCKS)]
    assert set(outermost_blocks(model)) == {*groups, *inside}
    with activation_checkpointing(model):
        assert all("forward" in vars(block) for block in (*groups, *inside))
        assert not any("forward" in vars(group.resnet) for group in groups)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_training_with_it_is_training_without_it(tiny, stage, made):
    trained = []
    for on in (False, True):
        torch.manual_seed(0)
        model, item, _, _ = build(stage, tiny, 2)
        config = TrainConfig(lr=1e-3, eps=1e-3, max_grad_norm=1.0, checkpointing=on)  # eps: AdamW forgives rounding
        made.clear()
        average, history = fit(model, lambda _, item=item: item, config, 4, device=CPU)
        trained.append((dict(average.state_dict()), history.loss.tolist(), made[Group]))
    assert_close(trained[1][:2], trained[0][:2], atol=1e-5, rtol=1e-5)
    assert trained[1][2] == 2 * trained[0][2] > 0
