"""Short runs that change one thing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mousai.evaluation import structure, study
from mousai.small.stages import new_dmae
from mousai.spectrogram import log_mel_l1


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


def test_the_two_nets_of_the_attention_study_differ_in_self_attention_alone(tiny):
    nets = study.with_and_without_attention(tiny)
    (mine, without), tcld = (nets[name].tcld for name in ("attention", "no_attention")), tiny.tcld
    assert mine == replace(tcld, mask_share=1.0, unet=replace(tcld.unet, channels=(8, 8, 8)))
    assert without == replace(mine, unet=replace(mine.unet, attentions=(0, 0, 0))) != mine


def test_the_polish_ladder_adds_one_field_a_row_and_leaves_the_model_as_it_was(tiny):
    after = {"phase_share": 0.5, "magnitude_contrast": 1.5, "polish": 1}
    config = replace(tiny.dmae, **after)
    model, w = new_dmae(config).eval(), 0.1 * torch.randn(5, 2, 2**14, generator=torch.Generator().manual_seed(0))
    rows = study.polish_ladder(model, w, w)
    assert model.config == config
    names = ["phase_share", "magnitude_contrast"]
    assert list(rows) == ["as sampled", "polished", *(f"and {name}" for name in names), "original"]
    same = {"log-mel L1": 0, "level (dB)": 0, "side over mid": structure.side_over_mid(w)}
    assert rows["as sampled"] == rows["original"] == pytest.approx(same)
    assert rows["and phase_share"]["side over mid"] < rows["polished"]["side over mid"] - 0.2
    made = study.repolished(model, w, w)
    assert rows["and magnitude_contrast"]["log-mel L1"] == log_mel_l1(made, w).mean().item()
    model.config = replace(config, polish=0)
    assert list(study.polish_ladder(model, w, w)) == ["as sampled", "original"]
