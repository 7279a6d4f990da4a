"""Running notebooks: a result counts only if this run wrote it, and is kept only while nothing changed."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

from mousai.batch import execute, reproduce
from mousai.batch.ledger import Ledger
from mousai.batch.lessons import UPSTREAM, select

PARAMETERS = 'profile = "cpu"\nseed = 0\nout = ""'
WRITE = """
import json, os, pathlib, platform
folder = pathlib.Path(out) / "results"
folder.mkdir(parents=True, exist_ok=True)
run = {"versions": {"python": "3", "torch": "2"}, "machine": "m", "threads": 1, "device": "cpu", "seconds": 1.0,
       "peak_memory_gb": 1.0}
result = {"notebook": NAME, "profile": profile, "seed": seed, "provenance": run, "metrics": {}, "data": DATA,
          "not_run": {}, "artefacts": {}}
(folder / f"{NAME}.json").write_text(json.dumps(result))
"""


def notebook(folder: Path, name: str, *cells: str, parameters: str = PARAMETERS, data: str = "{}") -> None:
    """A lesson: a parameters cell, the cells given, and a last cell that writes its result."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    last = f"NAME, DATA = {name!r}, {data}\n{WRITE}"
    sources = [nbformat.v4.new_code_cell(source) for source in (*cells, last)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *sources], metadata=kernel), folder / f"{name}.ipynb")


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """An empty folder for notebooks, and ledgers that stay in the test's own folder."""
    monkeypatch.setenv("MOUSAI_HOME", str(tmp_path / "home"))
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


def run(lessons: Path, graph: dict, **options) -> int:
    return reproduce.reproduce("smoke", out=lessons.parent / "report", notebooks=lessons, upstream=graph, **options)


def statuses(printed: str) -> list[tuple[str, str]]:
    words = [line.split() for line in printed.splitlines() if line[:2].isdigit()]
    return [(line[0], line[1].rstrip(":")) for line in words if line[1] != "starts"]


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


def test_prose_alone_reruns_nothing_and_another_seed_everything(lessons, tmp_path):
    notebook(lessons, "01_first")
    lesson = lessons / "01_first.ipynb"
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("x = 1")

    def key(**parameters) -> str:
        return reproduce.fingerprint.fingerprint(lesson, {"profile": "smoke", **parameters}, (), tmp_path, package)

    before = key(seed=0)
    content = nbformat.read(lesson, as_version=4)
    content.cells.append(nbformat.v4.new_markdown_cell("a word"))
    nbformat.write(content, lesson)
    assert key(seed=0) == before
    assert key(seed=1) != before
    page, own = package / "weights" / "smoke" / "README.md", package / "weights" / "smoke" / "dmae.json"
    page.parent.mkdir(parents=True)
    page.write_text("what a report said of the weights")
    assert key(seed=0) == before
    own.write_text("{}")
    assert key(seed=0) != before
    own.unlink()
    (package / "a.py").write_text("x = 2")
    assert key(seed=0) != before


def test_a_failing_cell_is_named_and_what_depends_on_it_is_skipped(lessons, capsys):
    graph = {"01_first": (), "02_second": ("01_first",), "03_third": ()}
    notebook(lessons, "01_first", "x = 1", "y = 2\nraise ValueError('the sea is dry')")
    notebook(lessons, "02_second")
    notebook(lessons, "03_third")
    assert run(lessons, graph) == 1
    printed = capsys.readouterr().out
    assert statuses(printed) == [("01_first", "failed"), ("02_second", "skipped"), ("03_third", "ok")]
    assert "cell 4: ValueError: the sea is dry" in printed
    assert "Traceback" not in printed and len(printed.splitlines()) < 12
    report = lessons.parent / "report"
    assert "notebook 00_text2music has no result" in (report / "README.md").read_text()
    assert not (report / "notebooks" / "01_first.ipynb").exists()


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
    assert capsys.readouterr().out == "".join(f"{name} is still good\n" for name in graph)
    notebook(lessons, "01_first", "x = 1")
    run(lessons, graph, dry_run=True)
    said = "01_first would run\n02_second would run\n03_third is still good\n"
    assert capsys.readouterr().out == said
    run(lessons, graph, dry_run=True, only="03", force=True)
    assert capsys.readouterr().out == "03_third would run\n"


def test_two_runs_in_one_folder_are_refused_and_a_dead_one_holds_nothing(lessons):
    notebook(lessons, "01_first")
    with reproduce.alone(lessons.parent / "report"):
        with pytest.raises(ValueError, match="another run writes there: wait for it, or choose another --out"):
            run(lessons, {"01_first": ()})
        assert not (lessons.parent / "report").exists()
        with reproduce.alone(lessons.parent / "other"):
            pass
    assert run(lessons, {"01_first": ()}) == 0


def test_a_result_of_an_earlier_run_does_not_count(lessons, capsys):
    notebook(lessons, "01_first")
    assert run(lessons, {"01_first": ()}) == 0
    content = nbformat.read(lessons / "01_first.ipynb", as_version=4)
    content.cells.pop()
    nbformat.write(content, lessons / "01_first.ipynb")
    assert run(lessons, {"01_first": ()}) == 1
    assert "01_first.json was not written" in capsys.readouterr().out
    assert not (lessons.parent / "report" / "results" / "01_first.json").exists()


def test_a_parameter_that_the_notebook_does_not_know_is_refused(lessons, capsys):
    notebook(lessons, "01_first", parameters='profile = "cpu"\nout = ""')
    assert run(lessons, {"01_first": ()}) == 1
    assert "unknown parameter 'seed'" in capsys.readouterr().out


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


def test_an_executed_copy_holds_no_times_and_no_paths_of_this_machine(lessons):
    notebook(lessons, "01_first", "import sys\nprint(sys.prefix + '/lib/x.py:3: UserWarning')")
    run(lessons, {"01_first": ()})
    text = (lessons.parent / "report" / "notebooks" / "01_first.ipynb").read_text()
    assert ".venv/lib/x.py:3: UserWarning" in text
    assert sys.prefix not in text and "start_time" not in text


def test_a_log_shows_which_cell_is_running(lessons, capsys, monkeypatch):
    monkeypatch.setattr(execute, "TICK", 0.2)
    notebook(lessons, "01_first", "import time\ntime.sleep(1)")
    run(lessons, {"01_first": ()})
    assert "01_first: cell 2 of 3" in capsys.readouterr().out


def test_a_torn_line_of_the_ledger_is_passed_over(tmp_path):
    ledger = Ledger(tmp_path / "x.jsonl")
    ledger.add(notebook="01_first", status="ok")
    with ledger.path.open("a") as file:
        file.write('{"notebook": "01_fi')
    assert ledger.last(notebook="01_first")["status"] == "ok"
    assert ledger.last(notebook="02_second") is None


def test_lessons_are_chosen_by_number_and_unknown_numbers_named():
    names = list(UPSTREAM)
    assert select(names) == names
    assert select(names, only="07,06") == ["06_clap_score", "07_genre_confusion"]
    assert select(names, start="09") == ["09_time_and_memory", "10_paper_report"]
    with pytest.raises(ValueError, match="unknown notebook '11': choose from 00, 01"):
        select(names, only="06,11")
    with pytest.raises(ValueError, match="no notebook is left"):
        select(names, only="01", start="02")


def test_every_lesson_stands_after_what_it_depends_on():
    names = list(UPSTREAM)
    for name, others in UPSTREAM.items():
        assert all(names.index(other) < names.index(name) for other in others)
