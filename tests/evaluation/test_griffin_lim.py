"""The baselines of stage 1."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.nets import predicts

from mousai.evaluation import griffin_lim, real
from mousai.small.dmae import MAGNITUDE_FLOOR
from mousai.small.encoder import log_magnitude
from mousai.small.stages import new_dmae
from mousai.spectrogram import log_mel_l1, magnitude


def test_the_baselines_clips_are_the_same_chunks_as_the_reconstructions(work, monkeypatch):
    for module in (real, griffin_lim):
        monkeypatch.setattr(module, "model_context", lambda *_: {})
        monkeypatch.setattr(module, "load_dmae", lambda profile, _: new_dmae(profile.dmae).eval())
    sets = [make(work) for make in (real.reconstruction_set, griffin_lim.pca_set, griffin_lim.griffin_lim_set)]
    original = real.original_set(work)
    for clips in sets:
        assert list(clips.prompts) == list(original.prompts) and clips[0].shape == original[0].shape
        assert torch.isfinite(clips[0]).all()
    assert len({clips.name for clips in sets}) == 3


def test_griffin_lim_from_a_perfect_magnitude_head_sounds_like_the_original(tiny, monkeypatch):
    dmae = new_dmae(replace(tiny.dmae, magnitude_contrast=1.0)).eval()
    time = torch.arange(2**14) / 48_000
    w = 0.1 * torch.sin(2 * math.pi * 440 * time).expand(1, 2, -1).contiguous()
    told = log_magnitude(magnitude(w, tiny.dmae.n_fft, tiny.dmae.hop), MAGNITUDE_FLOOR)
    predicts(dmae, told, monkeypatch)
    made = griffin_lim.griffin_lim_from_z(dmae, w)
    assert made.shape == w.shape and log_mel_l1(made, w).item() < 0.15 < log_mel_l1(torch.zeros_like(w), w).item()
    dmae.config = replace(dmae.config, magnitude_contrast=2.0)
    assert (griffin_lim.griffin_lim_from_z(dmae, w) - made).std() > 1e-3 * made.std()


def test_a_dmae_without_a_magnitude_head_has_nothing_to_start_griffin_lim_from(work):
    profile = replace(work.profile, dmae=replace(work.profile.dmae, octaves=None))
    with pytest.raises(ValueError, match="no magnitude head"):
        griffin_lim.griffin_lim_set(replace(work, profile=profile))
