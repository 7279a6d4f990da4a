"""AdamW and its 8-bit relative: what a missing library says, what a resumed run remembers."""

import importlib.util
import re
import sys
from dataclasses import replace

import pytest
import torch
from helpers.lines import CONFIG, CPU, Exact, batches, line, states_equal
from torch import nn
from torch.testing import assert_close

from mousai import cli
from mousai.config import TrainConfig
from mousai.train import fit
from mousai.training import optimizer
from mousai.training.optimizer import EIGHT_BIT, load_state_tensors, new_optimizer, optimizer_class, state_tensors
from mousai.training.setup import switched, switches

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
WITH_LIBRARY = pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed: pip install -e '.[large]'")
MISSING = "optimizer adamw8bit needs bitsandbytes, which is missing: pip install -e '.[large]', or choose"


def test_the_papers_is_adamw_and_another_name_is_refused():
    paper = new_optimizer(line(), TrainConfig())
    assert type(paper) is torch.optim.AdamW
    settings = [paper.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")]
    assert settings == [1e-4, (0.95, 0.999), 1e-6, 1e-3]
    with pytest.raises(ValueError, match="unknown optimizer 'sgd': choose one of adamw, adamw8bit"):
        optimizer_class("sgd")


def test_the_encoder_alone_has_its_share_of_the_rate():
    model = Exact()
    groups = new_optimizer(model, replace(CONFIG, encoder_lr_scale=0.1)).param_groups
    shares = {id(parameter): group["share"] for group in groups for parameter in group["params"]}
    assert {shares[id(parameter)] for parameter in model.encoder.parameters()} == {0.1}
    assert {shares[id(parameter)] for parameter in model.rest.parameters()} == {1.0}


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)


def test_a_missing_library_is_named_before_anything_is_made(no_library, home, tiny, capsys):
    with pytest.raises(ImportError, match=re.escape(MISSING)):
        switched(tiny, False, EIGHT_BIT)
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "dmae", "--profile", "smoke", "--optimizer", "adamw8bit"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.startswith(f"mousai: {MISSING}") and said.count("\n") == 1
    assert not home.exists()


def test_what_is_switched_on_is_in_both_stages_and_the_rest_stays(tiny):
    on = switched(tiny, True, None)
    assert (on.dmae_train, on.tcld_train) == tuple(
        replace(config, checkpointing=True) for config in (tiny.dmae_train, tiny.tcld_train)
    )
    assert switched(on, False, None) == on and switched(tiny, False, "adamw") == tiny
    assert switches(tiny.dmae_train) == "" and switches(on.dmae_train) == " --checkpointing"
    assert switches(replace(on.dmae_train, optimizer=EIGHT_BIT)) == " --checkpointing --optimizer adamw8bit"


class Counting(torch.optim.Optimizer):
    """Counts its steps in a plain number, and all its parameters look into one table, as bitsandbytes does it."""

    def __init__(self, parameters):
        super().__init__(parameters, {})
        table = torch.arange(3.0)
        for group in self.param_groups:
            for i, parameter in enumerate(group["params"]):
                self.state[parameter] = {"step": 7 + i, "table": table}


def test_counts_and_shared_tables_go_to_a_file_and_back():
    saved = Counting(line().parameters())
    tensors = state_tensors(saved)
    assert sorted(tensors) == ["0.step", "0.table", "1.step", "1.table"]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 4
    other = Counting(line().parameters())
    for state in other.state.values():
        state["step"] = 0
    load_state_tensors(other, tensors)
    assert [state["step"] for state in other.state.values()] == [7, 8]
    assert all(type(state["step"]) is int for state in other.state.values())


def test_a_run_of_another_optimizer_is_refused_and_left_as_it_is(tmp_path, monkeypatch):
    class AdamW8bit(torch.optim.AdamW):
        """Stands in for the library's."""

    fit(line(), batches, CONFIG, 2, run=tmp_path, device=CPU)
    before = (tmp_path / "last.safetensors").read_bytes()
    monkeypatch.setattr(optimizer, "optimizer_class", lambda name: AdamW8bit)
    said = r"last\.safetensors was trained with AdamW, not AdamW8bit: go on with the --optimizer it began with, or"
    with pytest.raises(ValueError, match=said):
        fit(line(), batches, CONFIG, 4, run=tmp_path, resume=True, device=CPU)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    fit(line(), batches, CONFIG, 2, run=tmp_path, device=CPU)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="was trained with AdamW8bit, not AdamW"):
        fit(line(), batches, CONFIG, 4, run=tmp_path, resume=True, device=CPU)


def test_checkpointing_may_change_on_the_way(tmp_path):
    fit(line(), batches, CONFIG, 2, run=tmp_path, device=CPU)
    _, history = fit(line(), batches, replace(CONFIG, checkpointing=True), 4, run=tmp_path, resume=True, device=CPU)
    assert len(history) == 4


class Wide(nn.Module):
    """y = a x + b through 64 x 64 weights, so many that their moments are kept in 8 bits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.outside = nn.Linear(1, 64), nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 1))

    def forward(self, x, y, generator, step):
        return (self.outside(self.inside(x)) - y).square().mean()


@WITH_LIBRARY
def test_eight_bits_a_moment_train_about_as_well_and_keep_a_quarter():
    config, losses = TrainConfig(lr=3e-3), {}
    for kind in ("adamw", EIGHT_BIT):
        _, history = fit(Wide(), batches, replace(config, optimizer=kind), 60, device=CPU)
        losses[kind] = history.loss
    assert losses[EIGHT_BIT].tail(5).mean() < 0.1 * losses[EIGHT_BIT].head(1).mean()
    assert_close(losses[EIGHT_BIT].tolist()[:3], losses["adamw"].tolist()[:3], atol=0.05, rtol=0.05)


@WITH_LIBRARY
def test_a_run_of_eight_bits_goes_on_bit_identically(tmp_path):
    config = replace(CONFIG, lr=3e-3, optimizer=EIGHT_BIT)
    whole_model, model = Wide(), Wide()
    whole, expected = fit(whole_model, batches, config, 6, device=CPU)
    fit(Wide(), batches, config, 3, run=tmp_path, device=CPU)
    resumed, history = fit(model, batches, config, 6, run=tmp_path, resume=True, device=CPU)
    states_equal(model, whole_model)
    states_equal(resumed, whole)
    assert history.loss.tolist() == expected.loss.tolist()
