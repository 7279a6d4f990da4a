"""All notebooks run in the smoke profile, and a second run finds the same."""

import json
from pathlib import Path

import pytest
from helpers.lessons import NAMES, with_answers

from mousai.report.build import SECTIONS
from mousai.reproduce.run import Request, reproduce

pytestmark = [pytest.mark.system, pytest.mark.notebooks]

TIMED = ("09_time_and_memory", "10_paper_report")  # what takes how long, and the page that repeats it


@pytest.fixture(scope="module")
def report(tmp_path_factory, session_home: Path) -> Path:
    """All lessons in the smoke profile, each followed by the code of its exercises' answers."""
    out = tmp_path_factory.mktemp("smoke") / "report"
    lessons = with_answers(tmp_path_factory.mktemp("lessons"))
    assert reproduce(Request("smoke", out=out, keep_going=True, notebooks=lessons)) == 0
    return out


def test_all_lessons_and_their_answers_run_in_the_smoke_profile(report: Path):
    assert sorted(path.stem for path in (report / "notebooks").glob("*.ipynb")) == NAMES
    page = (report / "README.md").read_text()
    assert "it failed or was not run" not in page
    assert {"table_1.csv", "table_5.md"} <= {path.name for path in (report / "tables").iterdir()}
    assert len(list((report / "tables").iterdir())) == 2 * len(SECTIONS)
    assert (report / "figures" / "figure_5.png").exists() and (report / "figures" / "figure_6.png").exists()
    assert str(report.parent) not in page


@pytest.mark.full
def test_a_second_run_finds_the_same(report: Path, tmp_path: Path):
    names = [name for name in NAMES if name not in TIMED]
    numbers = ",".join(name.split("_")[0] for name in names)
    assert reproduce(Request("smoke", only=numbers, out=tmp_path / "again")) == 0
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
