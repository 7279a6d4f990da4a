"""A notebook is stale when what it depends on changed, and only then."""

from pathlib import Path

import nbformat
import pytest
from helpers.notebooks import notebook

from mousai.data.records import write_manifest
from mousai.report import cache
from mousai.report.cache import dependencies, key

NAME = "01_first"
UNET = '''"""What it is."""
import numpy


class UNet:
    """A net."""

    def forward(self):
        return 1
'''
FILES = {
    "__init__.py": "",
    "report/__init__.py": "",
    "report/record.py": "from pathlib import Path\nimport json\nfrom mousai.unet import UNet\nPAPER = 'paper.json'\n",
    "report/paper.json": "{}",
    "report/other.json": "{}",
    "unet.py": UNET,
    "bench/__init__.py": "",
    "bench/speed.py": "x = 1\n",
    "cli/__init__.py": "HELP = 'what it does'\n",
    "tcld.py": "y = 1\n",
    "weights/smoke/dmae.json": "{}",
    "weights/smoke/README.md": "a page",
    "weights/cpu/dmae.json": "{}",
}


@pytest.fixture
def package(tmp_path) -> Path:
    """A package of a few modules, of which the notebook imports one that imports another."""
    for name, text in FILES.items():
        path = tmp_path / "mousai" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mousai"


@pytest.fixture
def lesson(tmp_path, home) -> Path:
    cell = "from mousai.report.record import Report\nfresh('mousai.bench.speed')"
    notebook(tmp_path / "notebooks", NAME, cell)
    return tmp_path / "notebooks" / f"{NAME}.ipynb"


def now(lesson: Path, package: Path, **parameters) -> str:
    return key(lesson, {"profile": "smoke", "seed": 0, "out": "x"} | parameters, (), package.parent, package)


STALE = {
    "a module it imports": ("report/record.py", "from mousai.unet import UNet\nPAPER = 'paper.json'\nz = 1\n"),
    "a module that one imports": ("unet.py", UNET.replace("return 1", "return 2")),
    "a default": ("unet.py", UNET.replace("self)", "self, x=1)")),
    "a module it runs by name": ("bench/speed.py", "x = 2\n"),
    "the folder's __init__": ("report/__init__.py", "x = 1\n"),
    "a file that a module names": ("report/paper.json", "[]"),
    "a card of its weights": ("weights/smoke/dmae.json", "[]"),
    "new weights": ("weights/smoke/tcld.json", "{}"),
}
GOOD = {
    "a docstring": ("unet.py", UNET.replace("A net.", "The net, in other words.")),
    "no docstring": ("unet.py", UNET.replace('    """A net."""\n\n', "")),
    "a comment": ("unet.py", UNET + "# a word\n"),
    "layout": ("unet.py", UNET.replace("return 1", "return (1)")),
    "a help string": ("cli/__init__.py", "HELP = 'in other words'\n"),
    "a module it does not import": ("tcld.py", "y = 2\n"),
    "a file that nothing names": ("report/other.json", "[]"),
    "the weights' page": ("weights/smoke/README.md", "another page"),
    "another profile's weights": ("weights/cpu/dmae.json", "[]"),
}


@pytest.mark.parametrize(("name", "text"), STALE.values(), ids=STALE)
def test_it_is_stale_when_what_it_depends_on_changed(lesson, package, name, text):
    before = now(lesson, package)
    (package / name).write_text(text)
    assert now(lesson, package) != before


@pytest.mark.parametrize(("name", "text"), GOOD.values(), ids=GOOD)
def test_it_stays_good_when_anything_else_changed(lesson, package, name, text):
    before = now(lesson, package)
    (package / name).write_text(text)
    assert now(lesson, package) == before


def test_its_code_and_parameters_count_and_its_prose_and_place_do_not(lesson, package):
    before = now(lesson, package)
    content = nbformat.read(lesson, as_version=4)
    content.cells.append(nbformat.v4.new_markdown_cell("a word"))
    content.cells[1].source += "  # a comment"
    nbformat.write(content, lesson)
    assert now(lesson, package, out="y") == before != now(lesson, package, seed=1)
    content.cells[1].source = "%matplotlib inline\n" + content.cells[1].source
    nbformat.write(content, lesson)
    assert now(lesson, package) != before


def test_the_versions_that_count_are_those_of_the_libraries_it_imports(lesson, package, monkeypatch):
    assert dependencies(cache.code_cells(lesson), package)[1] >= {"json", "pathlib", "numpy"}
    before = now(lesson, package)
    real = cache.version
    monkeypatch.setattr(cache, "version", lambda name: "0" if name == "scipy" else real(name))
    assert now(lesson, package) == before
    monkeypatch.setattr(cache, "version", lambda name: "0" if name == "numpy" else real(name))
    assert now(lesson, package) != before


def test_its_data_counts(lesson, package, tmp_path, monkeypatch):
    before = now(lesson, package)
    monkeypatch.setenv("MOUSAI_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    write_manifest([], tmp_path / "data" / "manifest.jsonl")
    assert now(lesson, package) != before


def test_what_an_earlier_notebook_found_counts_and_how_long_it_took_does_not(lesson, package, tmp_path):
    def with_result(text: str) -> str:
        (tmp_path / "results").mkdir(exist_ok=True)
        (tmp_path / "results" / "00_data.json").write_text(text)
        return key(lesson, {"profile": "smoke"}, ("00_data",), tmp_path, package)

    first = with_result('{"metrics": 1, "provenance": 1}')
    assert with_result('{"metrics": 1, "provenance": 2}') == first != with_result('{"metrics": 2, "provenance": 1}')


def test_of_the_real_package_a_notebook_needs_what_it_calls_and_not_the_shell():
    cells = ["from mousai.report.record import Report", "from mousai.bench.efficiency import fresh_run"]
    files, libraries = dependencies(cells, cache.PACKAGE)
    assert {"report/record.py", "bench/efficiency.py", "unet.py", "config.py"} <= files.keys()
    assert not any(name.startswith(("cli/", "reproduce/", "listening/")) for name in files)
    assert {"torch", "numpy", "matplotlib"} <= libraries
