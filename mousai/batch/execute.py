"""Run one notebook with papermill, and trust nothing but what its last cell wrote.

Learned from papermill's ways: an unknown parameter only warns, so it is refused here; output is written in place, so it
is written aside and renamed; `sys.exit(0)` in a cell passes silently and a killed kernel's copy says "completed", so
success is results/<notebook>.json, written in this run, beside cells that all ran without an error.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from mousai.files import write_text

DIED = "the kernel died"  # as where the system ran out of memory, or somebody ended it
TICK = 5.0  # seconds between progress lines


def execute(notebook: Path, parameters: dict, out: Path) -> None:
    """Run `notebook` with `parameters`; its executed copy goes to out/notebooks.

    Raises ValueError where a parameter is unknown to it, RuntimeError with a few lines that say what failed.
    """
    check_parameters(notebook, parameters)
    forget(out, notebook.stem)
    with TemporaryDirectory(prefix="mousai-") as folder, own_kernel(Path(folder), offline=parameters["profile"]):
        copy = Path(folder) / notebook.name
        ran, problem = run_cells(notebook, copy, parameters)
        problem = problem or missing(ran, out / "results" / f"{notebook.stem}.json")
        if problem:
            forget(out, notebook.stem)
            raise RuntimeError(problem)
    write_text(nbformat.writes(clean(ran)) + "\n", out / "notebooks" / notebook.name)


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Raises ValueError for a parameter that the notebook's tagged cell does not set."""
    unknown = [name for name in parameters if name not in declared(notebook)]
    if unknown:
        raise ValueError(
            f"{notebook.stem}: unknown parameter {unknown[0]!r}: set it in the notebook's cell tagged parameters"
        )


def declared(notebook: Path) -> set[str]:
    """The names that the notebook's parameters cell sets."""
    import papermill

    return set(papermill.inspect_notebook(str(notebook)))


def run_cells(notebook: Path, copy: Path, parameters: dict) -> tuple[NotebookNode, str]:
    """The executed notebook, and what went wrong, in a few lines ("" for nothing)."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    with progress(notebook) as cell_started:
        try:
            ran = papermill.execute_notebook(
                str(notebook),
                str(copy),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                cwd=str(notebook.parent),
                on_cell_start=cell_started,
            )
        except papermill.PapermillExecutionError as error:
            return NotebookNode(cells=[]), first_lines(error)
        except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
            return NotebookNode(cells=[]), f"{DIED}: {str(error).splitlines()[0]}"
    return ran, ""


def first_lines(error) -> str:
    """Cell, error and the line of the cell it came from: what a reader needs before opening anything."""
    where = re.findall(r"^-+> *\d+ (.*)$", re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)), re.MULTILINE)
    line = f"\n  at: {where[0].strip()}" if where else ""
    what = str(error.evalue).strip().splitlines() or [""]
    return f"cell {error.cell_index + 1}: {error.ename}: {what[0][:300]}{line}"


def missing(ran: NotebookNode, result: Path) -> str:
    """Why a notebook that papermill calls completed is not, or ""."""
    for index, cell in enumerate(ran.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {index}: {output.ename}: {output.evalue}: a lesson runs to its last cell"
    if not result.exists():
        return f"{result.name} was not written: is report.done() the last cell?"
    for file in json.loads(result.read_text(encoding="utf-8"))["artefacts"]:
        if not (result.parent.parent / file).is_file():
            return f"{file} is missing: {result.name} names it"
    return ""


def forget(out: Path, name: str) -> None:
    """Take away what an earlier run of this notebook left, so that nothing old passes for new."""
    result, copy = out / "results" / f"{name}.json", out / "notebooks" / f"{name}.ipynb"
    if result.exists():
        try:
            files = json.loads(result.read_text(encoding="utf-8"))["artefacts"]
        except (ValueError, KeyError):
            files = []
        for file in [out / file for file in files]:
            file.unlink(missing_ok=True)
    result.unlink(missing_ok=True)
    copy.unlink(missing_ok=True)


@contextmanager
def own_kernel(folder: Path, offline: str) -> Iterator[None]:
    """The kernel is this very interpreter, whatever kernels are installed, with no start-up files of the user's.

    Every profile but a100 is kept from asking a hub for anything.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_text(json.dumps(spec), folder / "kernels" / "python3" / "kernel.json")
    changes = {"JUPYTER_PATH": str(folder), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder)}
    changes |= {} if offline == "a100" else {"HF_HUB_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def progress(notebook: Path) -> Iterator:
    """A line every few seconds, "cell 7 of 31", so that a log shows that it lives."""
    cells = nbformat.read(notebook, as_version=4).cells
    place, stop, start = [0], threading.Event(), time.monotonic()

    def tick() -> None:
        while not stop.wait(TICK):
            seconds = time.monotonic() - start
            print(f"  {notebook.stem}: cell {place[0]} of {len(cells)}, {seconds:.0f} s", flush=True)

    def cell_started(cell: NotebookNode, cell_index: int) -> None:
        place[0] = max(1, cell_index)  # papermill adds one cell, the parameters, so the count runs from 1

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield cell_started
    finally:
        stop.set()
        thread.join()


def clean(ran: NotebookNode) -> NotebookNode:
    """Without papermill's times and this machine's paths."""
    ran.metadata.pop("papermill", None)
    for cell in ran.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = without_paths(output["text"])
    return ran


def without_paths(text: str) -> str:
    """Paths of this machine, as warnings print them, made relative."""
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "cell", text)
    places = {sys.prefix: ".venv", str(Path(__file__).resolve().parents[2]): "."}
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        text = text.replace(place, name)
    return text
