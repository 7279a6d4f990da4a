"""The lessons as they are committed, for tests that read them: cells, exercises, and the code of folded answers."""

import re
from pathlib import Path
from textwrap import dedent

import nbformat

from mousai.report.notebooks import UPSTREAM
from mousai.report.standalone import NOTEBOOKS

NAMES = list(UPSTREAM)
ANSWER = re.compile(r"<details><summary>Answers?</summary>(.*?)</details>", re.DOTALL)
NUMBERED = re.compile(r"^\d\. ", re.MULTILINE)
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def in_order(name: str) -> list[tuple[str, str]]:
    """Kind and source of every cell."""
    content = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    return [(cell.cell_type, cell.source) for cell in content.cells]


def cells(name: str, kind: str) -> list[str]:
    return [source for other, source in in_order(name) if other == kind]


def exercises(name: str) -> str:
    """What stands between the headings of exercises and recap."""
    return "\n\n".join(cells(name, "markdown")).partition("\n## Exercises\n")[2].partition("\n## Recap\n")[0]


def answers(name: str) -> list[str]:
    return ANSWER.findall(exercises(name))


def blocks(text: str) -> list[str]:
    """The fenced Python in a text."""
    return [dedent(code) for _, code in BLOCK.findall(text)]


def with_answers(folder: Path) -> Path:
    """A copy of the lessons that goes on, after its last cell, with the code of its answers."""
    for name in NAMES:
        content = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        content.cells += [nbformat.v4.new_code_cell(code) for text in answers(name) for code in blocks(text)]
        nbformat.write(content, folder / f"{name}.ipynb")
    return folder
