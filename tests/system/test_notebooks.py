"""The lessons as committed: no outputs, one shape, small budgets; and all of them run, in the smoke profile."""

import ast
import json
import re
from pathlib import Path
from statistics import median

import nbformat
import pytest
from helpers.lessons import NAMES, cells, with_answers

from mousai.report.build import SECTIONS
from mousai.reproduce.execute import declared
from mousai.reproduce.run import NOTEBOOKS, reproduce

lesson = pytest.mark.parametrize("name", NAMES)


def test_the_folder_holds_the_lessons_and_nothing_else():
    assert sorted(path.name for path in NOTEBOOKS.glob("*.ipynb")) == [f"{name}.ipynb" for name in NAMES]


@lesson
def test_a_lesson_is_stored_without_outputs(name):
    content = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    for cell in content["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert set(cell["metadata"]) <= {"tags"}
    assert set(content["metadata"]) <= {"kernelspec", "language_info"}


@lesson
def test_a_lesson_begins_with_its_parameters_and_ends_with_its_report(name):
    content = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert ["parameters" in cell.metadata.get("tags", []) for cell in code] == [True] + [False] * (len(code) - 1)
    assert code[-1].source.strip().splitlines()[-1] == "report.done()"
    assert {"profile", "seed", "out"} <= declared(NOTEBOOKS / f"{name}.ipynb")


@lesson
def test_parameters_are_scalars(name):
    for node in ast.parse(cells(name, "code")[0]).body:
        assert isinstance(node, ast.Assign) and isinstance(ast.literal_eval(node.value), bool | int | float | str)


@lesson
def test_a_lesson_keeps_its_budget(name):
    code, prose = cells(name, "code"), cells(name, "markdown")
    lines = [len([line for line in source.splitlines() if line.strip()]) for source in code]
    assert 12 <= len(code) <= 25
    assert median(lines) <= 6
    assert 0.5 <= len(prose) / len(code) <= 1.6
    assert len(" ".join(prose).split()) < 1200


@lesson
def test_a_lesson_asks_checks_and_links_on(name):
    code, prose = "\n".join(cells(name, "code")), cells(name, "markdown")
    assert prose[0].startswith("# ") and "?" in prose[0]
    assert re.search(r"^\s*(torch\.testing\.|np\.testing\.)?assert", code, re.MULTILINE)
    assert "xercise" in "\n".join(prose) and "<details>" in "\n".join(prose)
    place = NAMES.index(name)
    for neighbour in NAMES[max(0, place - 1) : place] + NAMES[place + 1 : place + 2]:
        assert f"({neighbour}.ipynb)" in prose[-1]


@lesson
def test_loudness_is_never_changed_silently(name):
    for call in re.findall(r"(?<![\w.])Audio\([^\n]*", "\n".join(cells(name, "code"))):
        assert "normalize=False" in call


TIMED = ("09_time_and_memory", "10_paper_report")  # what takes how long, and the page that repeats it


@pytest.fixture(scope="module")
def report(tmp_path_factory, session_home: Path) -> Path:
    """All lessons in the smoke profile, each followed by the code of its exercises' answers."""
    out = tmp_path_factory.mktemp("smoke") / "report"
    lessons = with_answers(tmp_path_factory.mktemp("lessons"))
    assert reproduce("smoke", out=out, keep_going=True, notebooks=lessons) == 0
    return out


@pytest.mark.notebooks
def test_all_lessons_and_their_answers_run_in_the_smoke_profile(report: Path):
    assert sorted(path.stem for path in (report / "notebooks").glob("*.ipynb")) == NAMES
    page = (report / "README.md").read_text()
    assert "it failed or was not run" not in page
    assert {"table_1.csv", "table_5.md"} <= {path.name for path in (report / "tables").iterdir()}
    assert len(list((report / "tables").iterdir())) == 2 * len(SECTIONS)
    assert (report / "figures" / "figure_5.png").exists() and (report / "figures" / "figure_6.png").exists()
    assert str(report.parent) not in page


@pytest.mark.notebooks
def test_a_second_run_finds_the_same(report: Path, tmp_path: Path):
    names = [name for name in NAMES if name not in TIMED]
    numbers = ",".join(name.split("_")[0] for name in names)
    assert reproduce("smoke", only=numbers, out=tmp_path / "again") == 0
    for name in names:
        first, second = (found(folder / "results" / f"{name}.json") for folder in (report, tmp_path / "again"))
        assert first == second, name


def found(result: Path) -> dict:
    """What a lesson found, without what it was run with and times; an Ogg stream holds a number drawn by chance."""
    content = json.loads(result.read_text())
    del content["provenance"]
    content["metrics"] = {name: number for name, number in content["metrics"].items() if "seconds" not in name}
    content["artefacts"] = {file: sha for file, sha in content["artefacts"].items() if not file.startswith("audio/")}
    return content
