"""Ours against the authors' packages: the same result on the same weights, and ratios of what was timed."""

import json

import pytest
import torch

from mousai.bench import bench
from mousai.bench.bench import AUTHORS, EXACT, FAST
from mousai.cli import main
from mousai.inference.precision import bfloat16_pays


@pytest.fixture(scope="module")
def sides() -> dict[str, bench.Calls]:
    return bench.every_side("smoke")


@pytest.mark.parametrize("part", ["tcld", "dmae"])
def test_all_give_the_same_from_the_same_weights_and_noise(sides, part):
    expected = sides[AUTHORS][part]()
    torch.testing.assert_close(sides[EXACT][part](), expected, atol=1e-4, rtol=0)
    loose = 0.1 if bfloat16_pays(torch.device("cpu")) else 1e-4
    assert (sides[FAST][part]() - expected).abs().mean() < loose * expected.abs().mean()


def test_a_whole_generation_is_as_long_every_way(sides):
    assert {calls["prompt_to_wave"]().shape for calls in sides.values()} == {(1, 2, 2**17)}


def test_a_training_step_moves_both(sides):
    for way in (EXACT, AUTHORS):
        losses = [sides[way]["train_step"]().item() for _ in range(3)]
        assert all(0 < loss < 10 for loss in losses) and len(set(losses)) == 3


def test_ratios_are_of_neighbours_and_say_how_many_times_theirs_takes_as_long(monkeypatch):
    clock = iter([6.0, 2.0, 8.0, 2.0])
    monkeypatch.setattr(bench, "timed", lambda call: next(clock))
    zero = lambda: torch.zeros(3)  # noqa: E731
    monkeypatch.setattr(bench, "machine_peak", lambda: 10.0)
    row = bench.measure("dmae", {AUTHORS: lambda: zero() + 0.25, EXACT: zero}, 2, lambda: None)
    assert row["exact_ratio"] == (3.25, 3.5, 3.75) and row["seconds"] == {EXACT: 2.0, AUTHORS: 7.0}
    assert row["exact_difference"] == 0.25 and row["fast_ratio"] is None and row["fast_difference"] is None


def test_the_command_prints_a_table_and_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "machine_peak", lambda: 100.0)
    monkeypatch.setattr(bench, "fresh_memory", lambda size, way, part: 1.5)
    monkeypatch.setattr(bench, "fresh_riffusion", lambda seconds: {"time_per_audio": 9.0})
    out = tmp_path / "bench.json"
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--size", "smoke", "--repeats", "1", "--against", "authors,riffusion", "--json", str(out)])
    said = capsys.readouterr().out
    assert not ended.value.code and "train_step" in said and "authors 1.5" in said and "Riffusion" in said
    result = json.loads(out.read_text())
    ratios = {f"bench.{part}.{kind}_ratio" for part in ("tcld", "dmae", "prompt_to_wave") for kind in ("exact", "fast")}
    assert result["metrics"].keys() == ratios | {"bench.train_step.ratio", "bench.peak_share"}
    assert all(value > 0 for value in result["metrics"].values())
    assert result["riffusion"]["ratio"] == pytest.approx(9.0 / result["riffusion"]["ours"])


def test_another_rival_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--against", "everyone"])
    assert ended.value.code == 2 and "'everyone' is not one of 'authors'" in capsys.readouterr().err


@pytest.mark.parametrize("way", [AUTHORS, EXACT])
def test_memory_is_that_of_a_process_with_one_side_alone(way):
    assert 0.1 < bench.one_call("smoke", way, "tcld")["memory_gb"] < 20


def test_an_unknown_size_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown size 'huge': choose one of a100, cpu, smoke"):
        bench.sized("huge")
