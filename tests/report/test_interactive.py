"""Sliders: a reader moves them, a batch run shows one place and makes no widget."""

import pytest
from matplotlib.figure import Figure

from mousai.report import interactive
from mousai.report.record import Report


@pytest.fixture
def drawn() -> list[float]:
    return []


@pytest.fixture
def shown(monkeypatch) -> list[Figure]:
    figures = []
    monkeypatch.setattr(interactive, "display", figures.append)
    return figures


@pytest.fixture
def draw(drawn):
    return lambda value: drawn.append(value) or Figure()


def test_a_batch_run_shows_one_figure_and_leaves_no_widget_behind(tmp_path, monkeypatch, draw, drawn, shown):
    monkeypatch.setattr(interactive, "SelectionSlider", None)
    report = Report("01_lesson", "smoke", tmp_path)
    assert interactive.slider(report, "moved", draw, [0.0, 0.5, 1.0], 0.5, "sigma") is None
    assert drawn == [0.5] and len(shown) == 1
    assert report.artefacts == [tmp_path / "figures" / "01_moved.png"] and report.artefacts[0].is_file()


def test_a_reader_gets_each_value_that_the_slider_is_moved_to(home, monkeypatch, draw, drawn, shown):
    monkeypatch.setenv("JPY_SESSION_NAME", "01_lesson.ipynb")  # as a Jupyter server says to a kernel
    report = Report("01_lesson", "smoke")
    choose = interactive.slider(report, "moved", draw, [0.0, 0.5, 1.0], 0.5, "sigma").children[0]
    assert (choose.value, choose.description) == (0.5, "sigma")
    assert [text for text, _ in choose.options] == ["0", "0.5", "1"]
    choose.value = 1.0
    assert drawn == [0.5, 1.0] and len(shown) == 2
    assert report.artefacts == [home / "lessons" / "smoke" / "figures" / "01_moved.png"]


def test_a_slider_begins_at_one_of_its_values(tmp_path, draw):
    with pytest.raises(ValueError, match=r"slider 'moved': 0.3 is not among its values"):
        interactive.slider(Report("01_lesson", "smoke", tmp_path), "moved", draw, [0.0, 0.5], 0.3, "sigma")
