"""The CLAP score, and LAION-CLAP by its own package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.clips import clip_set
from numpy.testing import assert_allclose

from mousai.evaluation import (
    clap,
    laion,
    samples,
)


class Echo:
    """An audio-text model whose vectors are known: sound -> the mean of each channel, text -> its first two numbers."""

    name = "echo"

    def embed_audio(self, w):
        return w.mean(dim=-1)

    def embed_text(self, texts):
        return torch.tensor([[float(part) for part in text.split()] for text in texts])


def test_clap_score_is_the_product_with_each_clips_own_text():
    waves = torch.tensor([[1.0, 0.0], [0.6, 0.8]])[..., None].expand(2, 2, 8)
    assert_allclose(clap.clap_score(Echo(), waves, ["1 0", "0 1"]), [1.0, 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="one text a sound"):
        clap.clap_score(Echo(), waves, ["1 0"])


def test_score_row_is_the_mean_over_clips_in_any_order():
    waves = torch.arange(8.0)[:, None, None].expand(8, 2, 4)
    forward, backward = clip_set(waves, ["Pop"] * 8), clip_set(waves.flip(0), ["Pop"] * 8)
    row = clap.score_row(Echo(), forward, "real")
    assert_allclose([row["value"], clap.score_row(Echo(), backward, "real")["value"]], 3.5)
    assert row["low"] < 3.5 < row["high"] and row["n"] == 8 and row["model"] == "echo"


def test_missing_laion_weights_give_one_line_that_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(laion, "try_to_load_from_cache", lambda repo, file: None)
    with pytest.raises(FileNotFoundError) as error:
        laion.LaionClap()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in ("hf download lukewys/laion_clap", "roberta-base", "HF_HOME"))


@pytest.mark.system
def test_laions_own_code_scores_with_a_checkpoint_and_tokenizers_from_the_cache(tmp_path):
    """Random weights and a text tower of two layers; everything else is the package's own, in a fresh process."""
    script = Path(__file__).parents[1] / "helpers" / "laion_for_real.py"
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["missing"] == [True, None] and said["loaded"]
    assert said["shapes"] == [[2, 512], [1, 512]]
    assert_allclose(said["norms"], 1.0, rtol=1e-5)
    assert said["same"] and all(-1 <= score <= 1 for score in said["scores"]) and len(set(said["scores"])) == 2
    named = "LAION-CLAP music_audioset_epoch_15_esc_90.14"
    assert said["context"]["model"] == named


def test_every_clip_is_scored_with_its_own_prompt():
    waves = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])[..., None].expand(3, 2, 8)
    prompts = [samples.Prompt("Pop", 1, f"Tune {i}", text) for i, text in enumerate(("1 0", "0 1", "0.6 0.8"))]
    clips = samples.ClipSet("test", prompts, lambda i: waves[i], {})
    assert_allclose(clap.scores(Echo(), clips), [1.0, 0.8, 0.8], rtol=1e-6)
