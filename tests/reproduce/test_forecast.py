"""What a run says before it begins: what it will do, and how long that took elsewhere, at this machine's speed."""

import json

import pytest
from helpers.notebooks import notebook

from mousai.reproduce import forecast
from mousai.reproduce import run as reproduce

BENCH = {"data": {"bench": {"peak_gflop_s": 200.0}}}


def store(out, name: str, content: dict) -> None:
    (out / "results").mkdir(exist_ok=True)
    (out / "results" / f"{name}.json").write_text(json.dumps(content))


def test_a_machine_of_half_the_speed_takes_twice_as_long(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "machine_peak", lambda: 100.0)
    store(tmp_path, "01_first", {"provenance": {"seconds": 30.0}})
    assert forecast.from_report(tmp_path, ["01_first", "02_second"]) == {"01_first": 30.0, "02_second": 0.0}
    store(tmp_path, forecast.TIMED, BENCH)
    assert forecast.from_report(tmp_path, ["01_first", "02_second"]) == {"01_first": 60.0, "02_second": 0.0}


@pytest.mark.parametrize("text", ["", "[]", "{", "7"])
def test_a_result_that_cannot_be_read_says_nothing(text, tmp_path):
    store(tmp_path, "01_first", {})
    (tmp_path / "results" / "01_first.json").write_text(text)
    assert forecast.from_report(tmp_path, ["01_first"]) == {"01_first": 0.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ([300.0, 420.0], "about 12 minutes"),
        ([5.0], "about 1 minute"),
        ([600.0, 0.0], "about 10 minutes, 1 not timed yet"),
        ([0.0, 0.0], "2 not timed yet"),
    ],
)
def test_a_forecast_in_words(seconds, words):
    assert forecast.in_words(seconds) == words


def test_a_run_says_first_what_is_due_and_how_long_it_may_take(lessons, capsys):
    graph = {"01_first": (), "02_second": ("01_first",)}
    for name in graph:
        notebook(lessons, name)
    out = lessons.parent
    store(out, "02_second", {"provenance": {"seconds": 100.0}})
    request = reproduce.Request("smoke", notebooks=lessons, upstream=graph)
    made = reproduce.Run(request, reproduce.tasks_of(request, out), out)
    made.log.add(notebook="01_first", status="ok", seconds=140.0)
    usual = made.usual_seconds()
    assert usual == {"01_first": 140.0, "02_second": 100.0}
    made.announce(usual)
    assert capsys.readouterr().out == "smoke: 2 notebooks, 2 to run: about 4 minutes; then the report\n"
