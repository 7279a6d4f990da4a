"""One training step reckoned: against sizes worked out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mousai.config import Profile, TrainConfig
from mousai.small.profiles import A100, SMOKE
from mousai.training.estimator import Live, optimizer_bytes, reckon
from mousai.training.optimizer import EIGHT_BIT, new_optimizer
from mousai.training.plan import trained


def test_bytes_count_while_they_are_held_and_the_peak_is_the_most_there_were():
    x = torch.zeros(250)  # 1,000 bytes
    with Live([x]) as live:
        a = x + 1
        b = torch.cat([a, a])
        view = b[:10]
        assert live.now == 4000
        del a, b
        assert live.now == 3000  # the view holds its storage
        del view
        c = x * 2
    assert (live.now, live.peak) == (2000, 4000)
    del c


def test_of_a_layer_everything_is_reckoned_as_by_hand(monkeypatch):
    """Ten items through 100 x 100 weights, float32: 40,000 bytes of weights, 4,000 a batch."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(100, 100, bias=False)

        def forward(self, x, generator):
            return self.layer(x).square().sum()

    monkeypatch.setattr(
        "mousai.training.estimator.build", lambda *_: (Square(), (torch.zeros(10, 100),), None, TrainConfig())
    )
    step = reckon("dmae", SMOKE, 10, gpu=False)
    assert (step.weights, step.average, step.optimizer) == (40_000, 40_000, 80_000)
    assert step.flop == 2 * 2 * 10 * 100 * 100  # there, and back for the weights alone
    # x, what comes back to y, and the gradient while it is made
    assert step.gradients == 40_000 and 48_000 <= step.activations < 60_000
    # fuller when the optimizer is at work: weights twice, moments, gradients, and two copies of the tensor it is at
    assert step.memory == 2 * 40_000 + 80_000 + 40_000 + 80_000


@pytest.mark.parametrize("stage", ["dmae", pytest.param("tcld", marks=pytest.mark.paper_size)])
def test_a_paper_sized_step_is_reckoned_without_its_memory(stage):
    n = {"dmae": 185_107_872, "tcld": 562_508_096 + 64 * 768}[stage]
    step = reckon(stage, A100, 32)
    assert step.weights == pytest.approx(4 * n, abs=8)  # and the spread of the latents
    assert (step.average, step.optimizer) == (step.weights, 8 * n)
    assert step.gradients == 4 * n and step.activations > 10 * n
    assert 16 * n + step.activations <= step.memory <= 20 * n + step.activations


@pytest.fixture
def small(paper_dmae) -> Profile:
    """Stage 1 as the paper has it, in small; stage 2 of `smoke`."""
    unet = replace(SMOKE.tcld.unet, in_channels=paper_dmae.encoder.latent_channels)
    return replace(SMOKE, dmae=paper_dmae, tcld=replace(SMOKE.tcld, unet=unet))


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_computing_again_takes_less_memory_and_at_most_one_pass_more_of_three(stage, small):
    kept, again = (reckon(stage, trained(small, checkpointing=on), 64) for on in (False, True))
    assert again.activations < 0.7 * kept.activations
    assert 1.1 < again.flop / kept.flop < 4 / 3


def test_twice_the_batch_is_twice_the_work_and_twice_the_activations(small):
    one, two = (reckon("dmae", small, batch) for batch in (64, 128))
    assert two.flop == pytest.approx(2 * one.flop, rel=0.01)
    assert two.activations == pytest.approx(2 * one.activations, rel=0.05) and two.weights == one.weights


@pytest.mark.parametrize("gpu", [True, False])
def test_bfloat16_keeps_fewer_bytes_of_the_same_work(small, gpu):
    full, half = (reckon("dmae", small, 64, bfloat16, gpu) for bfloat16 in (False, True))
    assert 0.4 < half.activations / full.activations < 0.9
    assert half.flop == full.flop and half.weights == full.weights


def test_the_moments_of_adamw_are_what_the_optimizer_keeps():
    model = nn.Linear(100, 50)
    optimizer = new_optimizer(model, TrainConfig())
    model(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    kept = sum(value.nbytes for state in optimizer.state.values() for name, value in state.items() if name != "step")
    assert optimizer_bytes(model, "adamw", gpu=False) == (kept, 2 * 4 * 5000)
    assert optimizer_bytes(model, "adamw") == (kept, 4 * 5050)
    # 5,000 weights in 20 blocks; 50 biases are too few
    assert optimizer_bytes(model, EIGHT_BIT) == (2 * (5000 + 4 * 20) + 8 * 50, 0)
