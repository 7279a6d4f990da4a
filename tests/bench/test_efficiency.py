"""Timing of whole runs in fresh processes."""

import json
from dataclasses import replace

import torch

from mousai.bench import efficiency


def test_the_cold_call_is_not_timed(monkeypatch):
    clock, costs = [0.0], [9.0, *(1.0 for _ in range(efficiency.TIMED))]

    def call() -> torch.Tensor:
        clock[0] += costs.pop(0)
        return torch.tensor(len(costs))

    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: clock[0])
    result, seconds = efficiency.timed_calls(call)
    assert (result.item(), seconds) == (0, (1.0, 1.0, 1.0))


def test_efficiency_row_names_both_ratios_and_counts_its_runs():
    shared = dict(memory_gb=1.5, steps=[1, 1], guidance=1.0, sampler="ddim", precision="float32", calls={}, threads=2)
    shared["device"] = "cpu"
    runs = [{"seconds": s, "audio_seconds": 40.0, **shared} for s in (30.0, 10.0, 20.0)]
    row = efficiency.efficiency_row(runs)
    assert (row["seconds"], row["seconds_quartiles"], row["n"]) == (20.0, [15.0, 25.0], 3)
    assert (row["time_per_audio"], row["inverse_rtf"]) == (0.5, 2.0)
    json.dumps(row)


def test_timed_runs_stop_where_one_more_would_pass_the_budget(tiny, monkeypatch):
    clock = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(efficiency, "fresh_run", lambda *_: {"seconds": 1.0})
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    profile = replace(tiny, evaluation=replace(tiny.evaluation, repeats=9))
    assert len(efficiency.timed_runs(profile, 1.0, budget=35.0)) == 3


def test_stopwatch_counts_calls_of_the_network_as_it_is():
    layer = torch.nn.Linear(2, 2)
    watch = efficiency.Stopwatch(layer)
    for _ in range(3):
        layer(torch.zeros(1, 2))
    assert watch.calls == 3 and watch.seconds > 0


def test_stopwatch_counts_windows_that_are_called_together():
    layer = torch.nn.Linear(2, 2)
    watch = efficiency.Stopwatch(layer, each=2)
    layer(torch.zeros(6, 2))
    assert watch.calls == 3


def test_peak_memory_is_this_process_in_gigabytes():
    assert 0.1 < efficiency.peak_memory_gb() < 60
