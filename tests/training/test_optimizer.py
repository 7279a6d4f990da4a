"""AdamW: the paper's settings, the encoder's own rate, and what a resumed run remembers."""

from dataclasses import replace

import torch
from helpers.lines import CONFIG, CPU, Exact, batches, line
from torch.testing import assert_close

from mousai.config import TrainConfig
from mousai.train import step_generator
from mousai.training.loop import fit
from mousai.training.optimizer import load_state_tensors, new_optimizer, parameter_groups, state_tensors


def test_the_papers_is_adamw():
    paper = new_optimizer(line(), TrainConfig())
    assert type(paper) is torch.optim.AdamW
    settings = [paper.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")]
    assert settings == [1e-4, (0.95, 0.999), 1e-6, 1e-3]


def test_the_encoder_alone_has_its_scale_of_the_rate():
    model = Exact()
    groups = new_optimizer(model, replace(CONFIG, encoder_lr_scale=0.1)).param_groups
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert {scales[id(parameter)] for parameter in model.encoder.parameters()} == {0.1}
    assert {scales[id(parameter)] for parameter in model.rest.parameters()} == {1.0}


def test_moments_and_step_counts_go_to_tensors_and_back():
    model = Exact()
    optimizer, other = new_optimizer(model, CONFIG), new_optimizer(model, CONFIG)
    model(*batches(0), step_generator(0, 0)).backward()
    optimizer.step()
    tensors = state_tensors(optimizer)
    assert len(tensors) == 3 * len(list(model.parameters())) and "0.exp_avg" in tensors
    load_state_tensors(other, tensors)
    for parameter in model.parameters():
        assert_close(other.state[parameter], optimizer.state[parameter], atol=0, rtol=0)


def test_the_encoder_learns_with_its_share_of_the_rate():
    model, twin = Exact(), Exact()
    fit(model, batches, replace(CONFIG, encoder_lr_scale=0.25), 3, device=CPU)
    optimizers = [
        torch.optim.AdamW(part.parameters(), lr, betas=(0.95, 0.999), eps=1e-6, weight_decay=1e-3)
        for part, lr in ((twin.encoder, 0.25 * 0.05), (twin.rest, 0.05))
    ]
    for step in range(3):
        twin.zero_grad()
        twin(*batches(step), step_generator(0, step), step).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert_close(dict(model.state_dict()), dict(twin.state_dict()), atol=1e-6, rtol=1e-6)


def test_every_parameter_is_in_one_group_and_without_an_encoder_there_is_one_group():
    groups, model = parameter_groups(model := Exact(), 0.25), model
    assert [group["lr_scale"] for group in groups] == [1.0, 0.25]
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in model.encoder.parameters()}
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    assert [group["lr_scale"] for group in parameter_groups(line(), 0.25)] == [1.0]
