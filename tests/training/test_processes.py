"""Training in several processes: the same sums as in one, one of them writes, and none waits for one that is gone."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.killed import weights
from helpers.launched import TOGETHER
from helpers.lines import CONFIG, batches, line
from torch.testing import assert_close

from mousai.training.loop import fit
from mousai.training.processes import split_batch
from mousai.training.resume import Run

STEPS = 6


def launched(folder: Path, processes: int, *numbers: int) -> subprocess.CompletedProcess:
    """`launched.py` in so many processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [str(Path(__file__).parents[1] / "helpers" / "launched.py"), str(folder), *map(str, numbers)]
    kept = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return subprocess.run([*command, *words], env=kept, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The same training in one process, of a model that computes nothing again."""
    run = tmp_path_factory.mktemp("alone")
    fit(line(), batches, TOGETHER, STEPS, device=torch.device("cpu"), run=Run(run))
    return run


def same(a: Path, b: Path) -> None:
    assert_close(weights(a), weights(b), atol=1e-5, rtol=1e-5)
    losses = [pd.read_csv(run / "history.csv")[["step", "loss", "gradient"]].to_numpy() for run in (a, b)]
    assert_close(losses[0], losses[1], atol=1e-5, rtol=1e-5)


@pytest.mark.system
def test_two_processes_train_as_one_does(alone, tmp_path):
    ran = launched(tmp_path, 2, STEPS)
    assert ran.returncode == 0, ran.stderr
    same(tmp_path, alone)


@pytest.mark.system
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_process_ends_the_run_clearly_and_any_number_goes_on(alone, tmp_path, processes):
    ran = launched(tmp_path, 2, STEPS, 3)
    assert ran.returncode != 0
    said = [text for text in ran.stderr.splitlines() if text.startswith("process 0:")]
    gone = "process 0: one of the 2 processes failed or disappeared: what was trained is kept, go on with --resume ("
    assert len(said) == 1 and said[0].startswith(gone)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3
    ran = launched(tmp_path, processes, STEPS)
    assert ran.returncode == 0, ran.stderr
    same(tmp_path, alone)


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.mark.system
@pytest.mark.parametrize(
    "launcher", [TORCHRUN, pytest.param(ACCELERATE, marks=pytest.mark.full)], ids=["torchrun", "accelerate"]
)
def test_the_command_trains_in_two_processes_and_one_writes(launcher, tiny_data, home, tmp_path):
    train = ["-m", "mousai", "train", "dmae", "--profile", "smoke", "--steps", "2", "--device", "cpu"]
    kept = {**os.environ, "OMP_NUM_THREADS": "1", "MOUSAI_DATA": str(tiny_data), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", *launcher, *train, "--out", str(tmp_path / "dmae.safetensors")]
    ran = subprocess.run(words, env=kept, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("dmae.safetensors: 2 steps, loss ") == 1
    assert len(pd.read_csv(tmp_path / "dmae" / "history.csv")) == 2
    assert (tmp_path / "dmae.json").is_file()


@pytest.mark.parametrize(
    ("world", "batch", "accumulate", "expected"),
    [(1, 8, 1, (8, 1)), (2, 8, 1, (4, 2)), (4, 8, 2, (4, 4)), (2, 8, 4, (8, 4))],
)
def test_the_global_batch_stays_and_every_process_has_as_many(world, batch, accumulate, expected):
    config = split_batch(replace(CONFIG, batch=batch, accumulate=accumulate), world)
    assert (config.batch, config.accumulate) == expected
    assert config.batch * config.accumulate == batch * accumulate and config.accumulate % world == 0


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch 8 cannot be divided equally among 3 processes: start fewer"):
        split_batch(replace(CONFIG, batch=8), 3)
