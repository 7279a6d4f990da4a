"""What `mousai verify` finds: every kind of tampering is planted in a small report and named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.notebooks import notebook
from matplotlib.figure import Figure
from matplotlib.image import imsave

from mousai.cli import main
from mousai.report.build import build
from mousai.report.record import Report
from mousai.reproduce import verify as module
from mousai.reproduce.verify import LEVELS, same, same_picture, verify

NAME = "01_v_diffusion"
RESULT = f"results/{NAME}.json"


@pytest.fixture
def report(tmp_path) -> Path:
    """A report of one lesson with a number and a figure, and its executed copy, beside the lesson it is a run of."""
    notebook(tmp_path / "lessons", NAME, "x = 1", data='{"x": [1.0, {"y": 2}]}')
    out = tmp_path / "report"
    lesson = Report(NAME, "smoke", out, device="cpu")
    lesson.figure(Figure(), "circle")
    lesson.data("x", [1.0, {"y": 2}])
    lesson.done()
    (out / "notebooks").mkdir()
    shutil.copy(tmp_path / "lessons" / f"{NAME}.ipynb", out / "notebooks")
    build(out, "smoke")
    return out


def found(report: Path, again: tuple[str, ...] = ()) -> list[str]:
    return verify(report, "smoke", again, report.parent / "lessons")


def rewrite(report: Path, change) -> None:
    """Change the stored result, and draw the report from it anew, so that only its hashes tell."""
    content = json.loads((report / RESULT).read_text())
    change(content)
    (report / RESULT).write_text(json.dumps(content))
    build(report, "smoke")


def test_in_an_untouched_report_nothing_differs_and_nothing_is_changed(report):
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    assert found(report) == []
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_files_that_were_touched_are_named(report):
    (report / "figures" / "01_circle.png").write_bytes(b"another")
    (report / "README.md").write_text("better numbers")
    (report / "tables" / "table_3.csv").unlink()
    assert found(report) == [
        f"figures/01_circle.png: not the file that {NAME} made",
        "README.md: differs from the one drawn again from the results",
        "tables/table_3.csv: differs from the one drawn again from the results",
    ]
    (report / "figures" / "01_circle.png").unlink()
    assert f"figures/01_circle.png: missing; {NAME} made it" in found(report)


def test_other_weights_settings_and_code_are_named(report):
    rewrite(report, lambda content: content["provenance"]["weights_sha256"].update(dmae="0"))
    assert found(report) == [f"{NAME}: made with other weights of dmae than those here"]
    rewrite(report, lambda content: content["provenance"].update(profile_sha256="0"))
    assert f"{NAME}: made with other settings of the profile smoke than those here" in found(report)
    notebook(report.parent / "lessons", NAME, "x = 2")
    assert f"notebooks/{NAME}.ipynb: not a run of the notebook that is here" in found(report)


def test_a_number_that_a_second_run_does_not_find_is_named(report, monkeypatch):
    def run_as(data: dict, artefacts: dict | None = None) -> None:
        def execute(lesson, parameters, out):
            assert lesson.stem == NAME and parameters == {"profile": "smoke", "seed": 0, "out": str(out)}
            (out / "results").mkdir()
            now = {"metrics": {}, "data": data, "artefacts": artefacts or stored}
            (out / RESULT).write_text(json.dumps(now))

        monkeypatch.setattr(module.execute, "execute", execute)

    stored = json.loads((report / RESULT).read_text())["artefacts"]
    run_as({"x": [1.0 + 1e-9, {"y": 2}]}, stored | {"audio/01_tone.ogg": "0"})
    assert found(report, (NAME, "02_ddim")) == []
    run_as({"x": [1.001, {"y": 2}], "z": 0})
    assert found(report, (NAME,)) == [f"{NAME}, run again: {key} differs" for key in "xz"]


@pytest.mark.parametrize(("off", "equal"), [(0, True), (LEVELS, True), (LEVELS + 1, False)])
def test_pictures_are_the_same_where_no_colour_is_further_off_than_another_processor_rounds(tmp_path, off, equal):
    picture = np.full((3, 4, 4), 100, dtype=np.uint8)
    for name, more in (("a", 0), ("b", off)):
        picture[1, 2, 0] = 100 + more
        imsave(tmp_path / f"{name}.png", picture)
    assert same_picture(tmp_path / "a.png", tmp_path / "b.png") is equal


def test_pictures_of_another_size_missing_ones_and_other_files_are_not_the_same(tmp_path):
    for name, height in (("a", 3), ("b", 4)):
        imsave(tmp_path / f"{name}.png", np.zeros((height, 4, 4), dtype=np.uint8))
    (tmp_path / "a.csv").write_text("1")
    for a, b in (("a.png", "b.png"), ("a.png", "c.png"), ("c.png", "a.png"), ("a.csv", "a.csv")):
        assert not same_picture(tmp_path / a, tmp_path / b)


def test_same_is_equal_but_for_rounding():
    assert same({"a": [1, 2.0, None, "b"]}, {"a": [1.0, 2.0 + 1e-7, None, "b"]})
    for a, b in (([1], [1, 2]), ({"a": 1}, {"b": 1}), (1.0, 1.01), ("a", "b"), (None, 0), ([1], {"a": 1})):
        assert not same(a, b)


def test_the_command_says_what_differs_and_exits_with_1(report, capsys):
    if module.NOTEBOOKS.is_dir():  # not where mistakes are planted in a copy of the package
        shutil.copy(module.NOTEBOOKS / f"{NAME}.ipynb", report / "notebooks")
    for touched, code, said in (
        (False, 0, "nothing differs\n"),
        (True, 1, "README.md: differs from the one drawn again from the results\n"),
    ):
        if touched:
            (report / "README.md").write_text("better numbers")
        with pytest.raises(SystemExit) as left:
            main(["verify", "--profile", "smoke", "--out", str(report), "--redraw-only"])
        assert left.value.code == code and capsys.readouterr().out.endswith(said)


def test_a_folder_without_results_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="mousai reproduce --profile smoke"):
        verify(tmp_path, "smoke")
