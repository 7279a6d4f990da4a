"""One step of each stage at full size, and the same function on a small copy of the paper's architecture."""

import math
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from mousai.bench import efficiency, riffusion
from mousai.bench.efficiency import in_fresh_process
from mousai.bench.paper_size import STAGES, fresh_steps, paper_size_row, paper_size_steps, watch_gradients
from mousai.config import A100
from mousai.interop.riffusion import HOP
from mousai.small.profiles import SMOKE
from mousai.unet import count_parameters

SHAPES = {
    "dmae": ([[1, 2, 2**18]], [1, 2, 2**18]),
    "tcld": ([[1, 32, 2048], [1, 64, 768]], [1, 32, 2048]),
}
COUNTS = {"dmae": 185_107_872, "tcld": 562_508_096 + 64 * 768}  # the U-Net and the learned "no text"


@pytest.fixture
def small_paper(paper_dmae):
    """The paper's profile in small, every departure off: latents of 8 channels, 16 steps a chunk."""
    unet = replace(A100.tcld.unet, in_channels=8, channels=(8, 16, 16, 16, 16, 16), items=(1,) * 6, features=32)
    return replace(A100, dmae=paper_dmae, tcld=replace(A100.tcld, unet=unet, crop=32 * paper_dmae.latent_stride))


def check_steps(run: dict) -> None:
    assert math.isfinite(run["loss"]) and run["sample_finite"]
    assert run["no_finite_gradient"] == [] and run["not_moved"] == []
    # one item either has its text or has it replaced: then alone does "no text" learn
    assert set(run["zero_gradient"]) <= {"null_embedding"}
    assert run["precision"] == "float32" and run["items"] == 1 and run["ema"]
    assert run["train_seconds"] > 0 and run["sample_seconds"] > 0


@pytest.mark.paper_size
@pytest.mark.parametrize("stage", STAGES)
def test_one_step_of_the_papers_size_fits_in_20_gb_and_moves_every_parameter(stage):
    run = fresh_steps(stage)
    check_steps(run)
    assert (run["item_shapes"], run["sample_shape"]) == SHAPES[stage]
    assert run["parameters"] == COUNTS[stage]
    assert 4 * 4 * COUNTS[stage] / 1e9 < run["memory_gb"] < 20  # at least weights, gradients and AdamW's two moments
    assert run["sample_memory_gb"] < run["memory_gb"]


@pytest.mark.parametrize("stage", STAGES)
def test_one_step_of_the_papers_architecture_in_small_moves_every_parameter(small_paper, stage):
    run = paper_size_steps(stage, small_paper)
    check_steps(run)
    shapes = {"dmae": [[1, 2, 2048]], "tcld": [[1, 8, 32], [1, 64, 768]]}
    assert run["item_shapes"] == shapes[stage] and run["sample_shape"] == shapes[stage][0]


def test_the_papers_row_of_table_3_is_seconds_a_call_times_calls():
    """43.7 s: one window of stage 2, eleven of stage 1, a hundred steps each."""
    same = {"precision": "float32", "threads": 2, "device": "cpu"}
    runs = {
        "dmae": same | {"sample_seconds": 0.5, "sample_quartiles": [0.4, 0.6], "sample_memory_gb": 2.0},
        "tcld": same | {"sample_seconds": 1.0, "sample_quartiles": [0.9, 1.2], "sample_memory_gb": 3.0},
    }
    row = paper_size_row(runs, A100)
    assert row["calls"] == {"dmae": 1100, "tcld": 100}
    assert (row["seconds"], row["seconds_quartiles"], row["memory_gb"]) == (650.0, [530.0, 780.0], 5.0)
    assert row["time_per_audio"] == pytest.approx(650 * 48_000 / 2**21)


def test_riffusions_row_counts_a_call_of_the_u_net_for_every_step_of_every_clip(monkeypatch):
    clock = iter(0.5 * i for i in range(1000))
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    called, layer = Counter(), torch.nn.Linear(1, 1)
    names = ("text", "U-Net", "decoder", "sound")
    parts = {name: (layer, lambda name=name: called.update([name]) or torch.empty(0)) for name in names}
    row = riffusion.riffusion_row(2**21 / 48_000, lambda: parts)
    assert row["calls"] == {"text": 9, "U-Net": 450, "decoder": 9, "sound": 9}
    assert called == dict.fromkeys(names, 1 + efficiency.TIMED)
    assert row["seconds"] == 0.5 * 477 and row["seconds_quartiles"] == [0.5 * 477] * 2
    assert row["audio_seconds"] == pytest.approx(9 * 5.12) and row["parameters"]["U-Net"] == 2


def test_riffusions_networks_have_as_many_parameters_as_stable_diffusion():
    """The counts that are published with its weights: 860 M, 84 M and 123 M."""
    with torch.device("meta"):
        nets = riffusion.u_net(), riffusion.decoder(), riffusion.text_encoder()
    assert [count_parameters(net) for net in nets] == [859_520_964, 83_653_863, 123_060_480]


def test_riffusions_sound_lasts_as_long_as_a_clip():
    with torch.no_grad():
        wave = riffusion.Sound()(torch.rand(1, 512, 64))
    assert wave.shape == (1, 63 * HOP) and wave.isfinite().all()


def test_parameters_that_a_step_does_not_reach_are_named():
    run = paper_size_steps("dmae", SMOKE)  # begins by training encoder and head alone
    unheard = {name.split(".")[0] for name in run["no_finite_gradient"]}
    assert unheard == {name.split(".")[0] for name in run["not_moved"]} == {"groups", "unet"}


def test_a_gradient_is_finite_zero_or_not_finite():
    layer = torch.nn.Linear(1, 1)
    for factor, said in ((1.0, "finite"), (0.0, "zero"), (math.nan, "not finite")):
        seen = watch_gradients(layer)
        (factor * layer(torch.ones(1, 1))).sum().backward()
        assert seen == {"weight": said, "bias": said}
        layer.zero_grad()


def test_an_unknown_stage_is_refused():
    with pytest.raises(ValueError, match="unknown stage 'vocoder': choose one of dmae, tcld"):
        paper_size_steps("vocoder", SMOKE)


@pytest.mark.system
def test_a_fresh_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"json\.tool no-such\.json failed: .*no-such\.json"):
        in_fresh_process("json.tool", "no-such.json")


@pytest.mark.system
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux, where a child starts with its parent's peak"
)
def test_a_fresh_process_measures_its_own_memory_and_not_its_parents():
    held = bytearray(2 * 10**9)
    run = fresh_steps("tcld", "smoke")
    check_steps(run)
    assert 0.1 < run["memory_gb"] < len(held) / 1e9
