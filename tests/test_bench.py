"""Ours against the authors' packages: the same result on the same weights, and ratios of what was timed."""

import json

import pytest
import torch

from mousai.batch import bench
from mousai.cli import main


@pytest.fixture(scope="module")
def parts() -> dict[str, bench.Part]:
    return {part.name: part for part in bench.build_parts("smoke")}


@pytest.mark.parametrize("name", ["tcld", "dmae"])
def test_both_give_the_same_from_the_same_weights_and_noise(parts, name):
    torch.testing.assert_close(parts[name].ours(), parts[name].theirs(), atol=1e-4, rtol=0)


def test_a_whole_generation_is_as_long_both_ways(parts):
    assert parts["prompt_to_wave"].ours().shape == parts["prompt_to_wave"].theirs().shape == (1, 2, 2**17)


def test_a_training_step_moves_both(parts):
    for call in (parts["train_step"].ours, parts["train_step"].theirs):
        losses = [call().item() for _ in range(3)]
        assert all(0 < loss < 10 for loss in losses) and len(set(losses)) == 3


def test_ratios_are_of_neighbours_and_say_how_many_times_theirs_takes_as_long(monkeypatch):
    clock = iter([2.0, 6.0, 2.0, 8.0])
    monkeypatch.setattr(bench, "timed", lambda call: next(clock))
    zero = lambda: torch.zeros(3)  # noqa: E731
    row = bench.measure(bench.Part("x", zero, lambda: zero() + 0.25), 2, 10.0, lambda: None)
    assert row["exact_ratio"] == (3.25, 3.5, 3.75) and row["seconds"] == {"exact": 2.0, "theirs": 7.0}
    assert row["difference"] == 0.25 and row["fast_ratio"] is None


def test_the_command_prints_a_table_and_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "machine_peak", lambda: 100.0)
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--size", "smoke", "--repeats", "1", "--json", str(tmp_path / "bench.json")])
    assert not ended.value.code and "train_step" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "bench.json").read_text())["metrics"]
    ratios = {f"bench.{part}.{kind}_ratio" for part in ("tcld", "dmae", "prompt_to_wave") for kind in ("exact", "fast")}
    assert metrics.keys() == ratios | {"bench.train_step.ratio", "bench.peak_share"}
    assert all(value > 0 for value in metrics.values())


def test_an_unknown_size_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown size 'huge': choose one of a100, cpu, smoke"):
        bench.sized("huge")
