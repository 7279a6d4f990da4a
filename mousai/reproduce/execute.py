"""Run one notebook with papermill. It has succeeded only where its last cell wrote its result.

This adds what papermill lacks. An unknown parameter only makes papermill warn; here it is refused. Papermill writes its
output in place; here it goes to a temporary name first. `sys.exit(0)` in a cell passes silently, and the copy of a
killed kernel says "completed"; here success means that results/<notebook>.json was written in this run, and that no
cell shows an error.
"""

import json
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from mousai.files import sha256, write_text
from mousai.report.cache import defaults
from mousai.reproduce.kernel_monitor import Ended, Pulse, Watch, own_kernel


def execute(
    notebook: Path,
    parameters: dict,
    out: Path,
    on_pulse: Callable[[Pulse], None] = lambda pulse: None,
    limit: float | None = None,
) -> None:
    """Run `notebook` with `parameters`; its executed copy goes to out/notebooks. `on_pulse` gets a `Pulse` every few
    seconds.

    Raises ValueError for a parameter that the notebook does not have; `Ended`, with a few lines that say why, where it
    failed, its kernel died, or it took longer than `limit` seconds.
    """
    check_parameters(notebook, parameters)
    forget(out, notebook.stem)
    try:
        with (
            TemporaryDirectory(prefix="mousai-") as folder,
            own_kernel(Path(folder), offline=parameters["profile"]),
            Watch(notebook, on_pulse, limit) as watch,
        ):
            ran = run_cells(notebook, Path(folder) / notebook.name, parameters, watch)
        problem = missing(ran, out / "results" / f"{notebook.stem}.json")
        if problem:
            raise Ended("failed", problem)
        write_text(nbformat.writes(clean(ran)) + "\n", out / "notebooks" / notebook.name)
    except BaseException:  # also at an interruption, because half a result must not be kept
        forget(out, notebook.stem)
        raise


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Raises ValueError for a parameter that the notebook's tagged cell does not set."""
    known = defaults(notebook)
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"{notebook.stem}: unknown parameter {unknown[0]!r}: set it in the notebook's cell tagged parameters"
        )


def run_cells(notebook: Path, copy: Path, parameters: dict, watch: Watch) -> NotebookNode:
    """The executed notebook. Raises `Ended` where a cell failed or the kernel died."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        return papermill.execute_notebook(
            str(notebook),
            str(copy),
            parameters,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(notebook.parent),
            on_cell_start=watch.cell_started,
        )
    except papermill.PapermillExecutionError as error:
        raise Ended("failed", first_lines(error)) from None
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:
        raise watch.death((str(error).splitlines() or [type(error).__name__])[0]) from None


def first_lines(error) -> str:
    """A papermill error in two lines at most: the cell's number, the error, and the line of the cell it came from."""
    where = re.findall(r"^-+> *\d+ (.*)$", re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback)), re.MULTILINE)
    line = f"\n  at: {where[0].strip()}" if where else ""
    what = str(error.evalue).strip().splitlines() or [""]
    return f"cell {error.cell_index + 1}: {error.ename}: {what[0][:300]}{line}"


def missing(ran: NotebookNode, result: Path) -> str:
    """Why a notebook that papermill calls completed has not succeeded, or "". result: the path of its results file."""
    for index, cell in enumerate(ran.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {index}: {output.ename}: {output.evalue}: no cell of a notebook may fail"
    if not result.exists():
        return f"{result.name} was not written: is report.done() the last cell?"
    try:
        artefacts = dict(json.loads(result.read_text(encoding="utf-8"))["artefacts"])
    except (ValueError, KeyError, TypeError):
        return f"{result.name} is damaged: did something else write to it?"
    for file, digest in artefacts.items():
        if not (result.parent.parent / file).is_file():
            return f"{file} is missing: {result.name} names it"
        if sha256(result.parent.parent / file) != digest:
            return f"{file} is not as the notebook wrote it: cut off, or something else wrote to it"
    return ""


def forget(out: Path, name: str) -> None:
    """Remove what an earlier run of this notebook wrote under `out`, so that nothing old is taken for new."""
    files = [f"results/{name}.json", f"notebooks/{name}.ipynb"]
    with suppress(OSError, ValueError, KeyError, TypeError):
        files += json.loads((out / files[0]).read_text(encoding="utf-8"))["artefacts"]
    for file in files:
        (out / file).unlink(missing_ok=True)


def clean(ran: NotebookNode) -> NotebookNode:
    """The executed notebook without papermill's times and this machine's paths; it is changed in place."""
    ran.metadata.pop("papermill", None)
    for cell in ran.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = without_paths(output["text"])
    return ran


def without_paths(text: str) -> str:
    """The text with this machine's paths, as warnings print them, made relative."""
    text = re.sub(r"\S*/ipykernel_\d+/\d+\.py", "cell", text)
    places = {sys.prefix: ".venv", str(Path(__file__).resolve().parents[2]): "."}
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        text = text.replace(place, name)
    return text
