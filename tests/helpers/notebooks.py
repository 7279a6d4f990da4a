"""Notebooks of a cell or two, run as `mousai reproduce` runs the real ones."""

from pathlib import Path

import nbformat

from mousai.reproduce import run as reproduce

PARAMETERS = 'profile = "cpu"\nseed = 0\nout = ""'
WRITE = """
import json, os, pathlib, platform
folder = pathlib.Path(out) / "results"
folder.mkdir(parents=True, exist_ok=True)
run = {"versions": {"python": "3", "torch": "2"}, "machine": "m", "threads": 1, "device": "cpu", "seconds": 1.0,
       "peak_memory_gb": 1.0}
result = {"format": 3, "notebook": NAME, "profile": profile, "seed": seed, "provenance": run, "metrics": {},
          "data": DATA, "not_run": {}, "artefacts": globals().get("ARTEFACTS", {})}
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


def run(lessons: Path, graph: dict, **options) -> int:
    asked = reproduce.Request("smoke", out=lessons.parent / "report", notebooks=lessons, upstream=graph, **options)
    return reproduce.reproduce(asked)


def statuses(printed: str) -> list[tuple[str, str]]:
    words = [line.split() for line in printed.splitlines() if line[:2].isdigit()]
    return [(line[0], line[1].rstrip(":")) for line in words if line[1] != "starts"]
