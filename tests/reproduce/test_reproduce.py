"""Running notebooks: a result counts only if this run wrote it, and is kept only while nothing changed."""

import json
import os
import re
import sys
from dataclasses import replace

import nbformat
import psutil
import pytest
from helpers.notebooks import PARAMETERS, notebook, run, statuses
from rich.console import Console

from mousai.report.notebooks import UPSTREAM, select
from mousai.reproduce import kernel_monitor as kernel
from mousai.reproduce import run as reproduce
from mousai.reproduce.kernel_monitor import Pulse
from mousai.reproduce.progress_display import ProgressDisplay
from mousai.reproduce.run_log import RunLog
from mousai.small.profiles import A100


@pytest.mark.system
def test_a_second_run_is_cached_until_code_upstream_or_artefacts_change(lessons, capsys):
    graph = {"01_first": (), "02_second": ("01_first",)}
    notebook(lessons, "01_first", data='{"x": 1}')
    notebook(lessons, "02_second")
    assert run(lessons, graph) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "ok"), ("02_second", "ok")]
    assert run(lessons, graph) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "cached"), ("02_second", "cached")]
    notebook(lessons, "01_first", data='{"x": 2}')
    run(lessons, graph)
    assert statuses(capsys.readouterr().out) == [("01_first", "ok"), ("02_second", "ok")]
    (lessons.parent / "report" / "notebooks" / "02_second.ipynb").write_text("touched")
    run(lessons, graph)
    assert statuses(capsys.readouterr().out) == [("01_first", "cached"), ("02_second", "ok")]
    run(lessons, graph, only="01", force=True)
    assert statuses(capsys.readouterr().out) == [("01_first", "ok")]


@pytest.mark.system
def test_results_of_another_version_do_not_stop_a_notebook_that_reads_all(lessons, capsys):
    out = lessons.parent / "report"
    (out / "results").mkdir(parents=True)
    (out / "results" / "02_second.json").write_text('{"profile": "smoke", "format": 2}')
    reading = f"Results.read(Path({str(out)!r}), 'smoke')"
    read_all = f"from pathlib import Path\nfrom mousai.report.results import Results\n{reading}"
    notebook(lessons, "01_first", read_all)
    notebook(lessons, "02_second")
    assert run(lessons, {"01_first": (), "02_second": ()}) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "ok"), ("02_second", "ok")]


@pytest.mark.system
def test_a_failing_cell_is_named_and_what_depends_on_it_is_skipped(lessons, capsys):
    graph = {"01_first": (), "02_second": ("01_first",), "03_third": ()}
    notebook(lessons, "01_first", "x = 1", "y = 2\nraise ValueError('the sea is dry')")
    notebook(lessons, "02_second")
    notebook(lessons, "03_third")
    assert run(lessons, graph, keep_going=True) == 1
    printed = capsys.readouterr().out
    assert statuses(printed) == [("01_first", "failed"), ("02_second", "skipped"), ("03_third", "ok")]
    assert "cell 4: ValueError: the sea is dry" in printed
    assert "Traceback" not in printed and len(printed.splitlines()) < 15
    report = lessons.parent / "report"
    assert "notebook 00_text2music has no result" in (report / "README.md").read_text()
    assert not (report / "notebooks" / "01_first.ipynb").exists()


@pytest.mark.system
def test_without_keep_going_a_failure_ends_the_run_and_what_was_done_before_stays(lessons, capsys):
    graph = {"01_first": (), "02_second": (), "03_third": ()}
    for name in graph:
        notebook(lessons, name)
    assert run(lessons, graph) == 0
    notebook(lessons, "02_second", "raise ValueError")
    capsys.readouterr()
    assert run(lessons, graph) == 1
    printed = capsys.readouterr().out
    assert statuses(printed) == [("01_first", "cached"), ("02_second", "failed"), ("03_third", "skipped")]
    assert "03_third skipped: an earlier notebook failed: --keep-going runs those that do not depend on it" in printed
    results = lessons.parent / "report" / "results"
    assert (results / "03_third.json").exists() and not (results / "02_second.json").exists()
    notebook(lessons, "02_second")
    assert run(lessons, graph) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "cached"), ("02_second", "ok"), ("03_third", "cached")]


@pytest.mark.system
@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("import sys\nsys.exit(0)", "01_first failed 1 s: cell 3: SystemExit"),
        ("import os\nos._exit(0)", "01_first killed 1 s: the kernel died"),
        ("import os\nos.kill(os.getpid(), 9)", "01_first killed 1 s: the kernel died"),
    ],
    ids=["sys.exit", "dead kernel", "killed kernel"],
)
def test_a_notebook_that_leaves_early_has_failed(lessons, capsys, cell, said):
    notebook(lessons, "01_first", cell)
    assert run(lessons, {"01_first": ()}) == 1
    assert said in re.sub(r" \d+ s:", " 1 s:", capsys.readouterr().out)
    assert not (lessons.parent / "report" / "results" / "01_first.json").exists()


HUGE = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"


@pytest.mark.system
def test_a_lesson_that_takes_too_long_is_ended_with_all_that_it_started(lessons, capsys, monkeypatch):
    monkeypatch.setattr(kernel, "TICK", 0.1)
    notebook(lessons, "01_first", f"{HUGE}time.sleep(99)")
    assert run(lessons, {"01_first": ()}, timeout=4 / 60) == 1
    said = "01_first timeout 4 s: not done after 4 s: give it longer with --timeout"
    assert said in re.sub(r"timeout \d+ s", "timeout 4 s", capsys.readouterr().out)
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not any("import time; time.sleep(99)" in words for words in running)
    [entry] = RunLog(lessons.parent / "home" / "run_logs" / "smoke.jsonl").entries()
    assert entry["status"] == "timeout" and 3 < entry["seconds"] < 20


@pytest.mark.system
def test_a_kernel_that_the_system_ended_for_want_of_memory_is_said_to_be_so(lessons, capsys, monkeypatch):
    counter = lessons.parent / "vmstat"
    counter.write_text("nr_free_pages 7\noom_kill 3\n")
    monkeypatch.setattr(kernel, "COUNTERS", (counter, lessons / "not there"))
    more = f"import os, pathlib\npathlib.Path({str(counter)!r}).write_text('oom_kill 4')\nos.kill(os.getpid(), 9)"
    notebook(lessons, "01_first", more)
    assert run(lessons, {"01_first": ()}) == 1
    printed = capsys.readouterr().out
    assert statuses(printed) == [("01_first", "killed")]
    assert "the machine ran out of memory, last seen with" in printed and "close other programs" in printed


@pytest.mark.system
@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("file.unlink()", "figures/a.png is missing: 01_first.json names it"),
        ("file.write_bytes(b'whol')", "figures/a.png is not as the notebook wrote it: cut off"),
        ("file.write_bytes(b'whole')", ""),
    ],
    ids=["missing", "truncated", "whole"],
)
def test_an_artefact_that_is_missing_or_cut_off_is_no_success(lessons, capsys, after, said):
    cell = (
        "import hashlib, pathlib\nfile = pathlib.Path(out) / 'figures' / 'a.png'\nfile.parent.mkdir(parents=True)\n"
        f"file.write_bytes(b'whole')\nARTEFACTS = {{'figures/a.png': hashlib.sha256(b'whole').hexdigest()}}\n{after}"
    )
    notebook(lessons, "01_first", cell)
    assert run(lessons, {"01_first": ()}) == bool(said)
    printed = capsys.readouterr().out
    assert said in printed and statuses(printed) == [("01_first", "failed" if said else "ok")]


@pytest.mark.system
@pytest.mark.parametrize("content", ["", '{"artefacts": {', "[]", "{}"])
def test_a_result_that_is_not_whole_is_no_success(lessons, capsys, content):
    notebook(lessons, "01_first")
    lesson = nbformat.read(lessons / "01_first.ipynb", as_version=4)
    lesson.cells[-1].source += f'\n(folder / f"{{NAME}}.json").write_text({content!r})'
    nbformat.write(lesson, lessons / "01_first.ipynb")
    assert run(lessons, {"01_first": ()}) == 1
    assert "01_first.json is damaged" in capsys.readouterr().out


@pytest.mark.system
def test_a_dry_run_says_what_would_run_and_writes_nothing(lessons, capsys):
    graph = {"01_first": (), "02_second": ("01_first",), "03_third": ()}
    for name in graph:
        notebook(lessons, name)
    assert run(lessons, graph, dry_run=True) == 0
    assert statuses(capsys.readouterr().out) == [(name, "would") for name in graph]
    assert [path.name for path in lessons.parent.iterdir()] == ["notebooks"]
    assert run(lessons, graph) == 0
    capsys.readouterr()
    run(lessons, graph, dry_run=True)
    assert capsys.readouterr().out == "".join(f"{name} is still valid\n" for name in graph)
    notebook(lessons, "01_first", "x = 1")
    run(lessons, graph, dry_run=True)
    said = "01_first would run\n02_second would run\n03_third is still valid\n"
    assert capsys.readouterr().out == said
    run(lessons, graph, dry_run=True, only="03", force=True)
    assert capsys.readouterr().out == "03_third would run\n"


def test_a_run_at_the_papers_size_says_first_what_it_will_leave_out(space, monkeypatch):
    assert reproduce.limits(space) == []
    paper = replace(space, profile=A100)
    said = reproduce.limits(paper)
    assert [line.split()[2] for line in said] == ["LAION-CLAP", "Riffusion"]
    assert all(line.startswith("not run: ") and "hf download" in line for line in said)
    monkeypatch.setattr(reproduce.torch.cuda, "mem_get_info", lambda device: (16e9, 40e9))
    [*_, memory] = reproduce.limits(replace(paper, device="cuda:0"))
    assert memory == "cuda:0: 16 GB of memory are free, 24 are wanted: free some, or use a larger GPU"


@pytest.mark.system
def test_two_runs_in_one_folder_are_refused_and_a_dead_one_holds_nothing(lessons):
    notebook(lessons, "01_first")
    with reproduce.alone(lessons.parent / "report"):
        with pytest.raises(ValueError, match="another run is writing there: wait for it, or choose another --out"):
            run(lessons, {"01_first": ()})
        assert not (lessons.parent / "report").exists()
        with reproduce.alone(lessons.parent / "other"):
            pass
    assert run(lessons, {"01_first": ()}) == 0


@pytest.mark.system
def test_a_result_of_an_earlier_run_does_not_count(lessons, capsys):
    notebook(lessons, "01_first")
    assert run(lessons, {"01_first": ()}) == 0
    content = nbformat.read(lessons / "01_first.ipynb", as_version=4)
    content.cells.pop()
    nbformat.write(content, lessons / "01_first.ipynb")
    assert run(lessons, {"01_first": ()}) == 1
    assert "01_first.json was not written" in capsys.readouterr().out
    assert not (lessons.parent / "report" / "results" / "01_first.json").exists()


@pytest.mark.system
def test_a_parameter_that_the_notebook_does_not_know_is_refused(lessons, capsys):
    notebook(lessons, "01_first", parameters='profile = "cpu"\nout = ""')
    assert run(lessons, {"01_first": ()}) == 1
    assert "unknown parameter 'seed'" in capsys.readouterr().out


@pytest.mark.system
def test_paper_size_reaches_the_notebook_that_knows_it_and_is_another_run(lessons, capsys):
    graph = {"01_first": (), "02_second": ()}
    notebook(lessons, "01_first")
    notebook(lessons, "02_second", parameters=f"{PARAMETERS}\npaper_size = False", data='{"asked": paper_size}')
    result = lessons.parent / "report" / "results" / "02_second.json"
    for asked, status in ((False, "ok"), (True, "ok"), (True, "cached")):
        assert run(lessons, graph, paper_size=asked) == 0
        assert statuses(capsys.readouterr().out)[1] == ("02_second", status)
        assert json.loads(result.read_text())["data"] == {"asked": asked}
    with pytest.raises(ValueError, match="paper size: notebook 09 measures it and is not among those chosen"):
        run(lessons, graph, only="01", paper_size=True)


@pytest.mark.system
def test_the_kernel_is_this_interpreter_offline_in_the_notebooks_folder(lessons, monkeypatch):
    fake = lessons.parent / "share" / "kernels" / "python3"
    fake.mkdir(parents=True)
    (fake / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(lessons.parent / "share"))
    data = '{"exe": __import__("sys").executable, "cwd": os.getcwd(), "hub": os.environ["HF_HUB_OFFLINE"]}'
    notebook(lessons, "01_first", "import os", data=data)
    assert run(lessons, {"01_first": ()}) == 0
    result = json.loads((lessons.parent / "report" / "results" / "01_first.json").read_text())
    assert result["data"] == {"exe": sys.executable, "cwd": str(lessons), "hub": "1"}
    assert os.environ["JUPYTER_PATH"] == str(lessons.parent / "share")


@pytest.mark.system
def test_an_executed_copy_holds_no_times_and_no_paths_of_this_machine(lessons):
    notebook(lessons, "01_first", "import sys\nprint(sys.prefix + '/lib/x.py:3: UserWarning')")
    run(lessons, {"01_first": ()})
    text = (lessons.parent / "report" / "notebooks" / "01_first.ipynb").read_text()
    assert ".venv/lib/x.py:3: UserWarning" in text
    assert sys.prefix not in text and "start_time" not in text


@pytest.mark.system
def test_a_log_shows_which_cell_is_running(lessons, capsys, monkeypatch):
    monkeypatch.setattr(kernel, "TICK", 0.2)
    notebook(lessons, "01_first", "import time\ntime.sleep(1)")
    run(lessons, {"01_first": ()})
    assert re.search(r"  01_first: cell 2 of 3, \d s, 0\.\d GB\n", capsys.readouterr().out)
    notebook(lessons, "01_first", "import time\ntime.sleep(1.1)")
    run(lessons, {"01_first": ()})
    assert re.search(r"  01_first: cell 2 of 3, \d s, about \d s left, 0\.\d GB\n", capsys.readouterr().out)


def test_in_a_terminal_a_table_shows_each_lesson_and_errors_stand_above_it(capsys):
    def drawn() -> list[list[str]]:
        with console.capture() as captured:
            console.print(display.table())
        return [line.split() for line in captured.get().splitlines()]

    console = Console(width=100)
    with ProgressDisplay({"01_first": 65.0, "02_second": 0.0, "03_third": 600.0}, terminal=True) as display:
        display.started("01_first")
        display.progress("01_first", Pulse(cell=7, cells=31, seconds=5.2, memory_gb=1.26))
        assert drawn()[1:] == [
            ["01_first", "running", "7", "of", "31", "0:05", "0:59", "1.3", "GB"],
            ["02_second", "waiting"],
            ["03_third", "waiting", "10:00"],
            ["about", "10:00", "for", "notebooks", "still", "waiting"],
        ]
        display.ended("01_first", "failed", 9.0, "cell 8: ValueError: [red]the sea is dry")
        assert drawn()[1] == ["01_first", "failed", "7", "of", "31", "0:09", "1.3", "GB"]
    assert "01_first failed 9 s: cell 8: ValueError: [red]the sea is dry" in capsys.readouterr().out


def test_what_a_lesson_usually_takes_is_what_it_took_when_it_last_ended_well(lessons):
    notebook(lessons, "01_first")
    request = reproduce.Request("smoke", notebooks=lessons, upstream={"01_first": ()})
    made = reproduce.Run(request, reproduce.tasks_of(request, lessons.parent), lessons.parent)
    assert made.usual_seconds() == {"01_first": 0.0}
    made.log.add(notebook="01_first", status="ok", seconds=33.0)
    made.log.add(notebook="01_first", status="failed", seconds=3.0)
    assert made.usual_seconds() == {"01_first": 33.0}


def test_a_torn_line_of_the_run_log_is_skipped(tmp_path):
    log = RunLog(tmp_path / "x.jsonl")
    log.add(notebook="01_first", status="ok")
    with log.path.open("a") as file:
        file.write('{"notebook": "01_fi')
    assert log.last(notebook="01_first")["status"] == "ok"
    log.add(notebook="02_second", status="ok", why="a\u2028line \ud7ff")
    assert [entry["notebook"] for entry in log.entries()] == ["01_first", "02_second"]
    with log.path.open("ab") as file:
        file.write(b"\xff\xfe[1]\n[1]\n")
    assert len(log.entries()) == 2


def test_lessons_are_chosen_by_number_and_unknown_numbers_named():
    names = list(UPSTREAM)
    assert select(names) == names
    assert select(names, only="07,06") == ["06_clap_score", "07_genre_confusion"]
    assert select(names, start="09") == ["09_time_and_memory", "10_paper_report", "11_play", "12_small_models"]
    with pytest.raises(ValueError, match="unknown notebook '13': choose from 00, 01"):
        select(names, only="06,13")
    with pytest.raises(ValueError, match="no notebook is left"):
        select(names, only="01", start="02")


def test_every_lesson_stands_after_what_it_depends_on():
    names = list(UPSTREAM)
    for name, others in UPSTREAM.items():
        assert all(names.index(other) < names.index(name) for other in others)
