"""`mousai verify`: is a report what its results give, and are its results what this code and these weights give?

Every line names one thing that differs; no lines mean that nothing differs.
"""

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.image import imread

from mousai.files import sha256
from mousai.report.build import build
from mousai.report.cache import code_cells
from mousai.report.record import profile_sha256, weights_sha256
from mousai.report.results import Results
from mousai.report.standalone import NOTEBOOKS
from mousai.reproduce import execute
from mousai.reproduce.kernel_monitor import Ended
from mousai.small.profiles import get_profile

CLOSE = 1e-5  # tolerance for numbers, relative and absolute
LEVELS = 4  # tolerance for colours, of 255; two processors differed by 2, in a thousandth of the pixels
CHEAP = ("01_v_diffusion", "02_ddim", "03_unet_1d")  # notebooks that take seconds and need nothing trained


def verify(out: Path, profile: str, again: Sequence[str] = CHEAP, notebooks: Path = NOTEBOOKS) -> list[str]:
    """One line for each thing that differs; nothing under `out` is changed.

    Compared are artefacts, weights and settings with their hashes, tables and figures with newly drawn ones, the code
    of the executed notebooks with that of `notebooks`, and the results of the notebooks `again` with those of a second
    run. Raises FileNotFoundError where there are no results, ValueError where they are damaged or of another profile.
    """
    results = Results.existing(out, profile)
    lines = []
    for name, result in results.notebooks.items():
        lines += differences(out, name, result, notebooks)
    lines += redrawn(out, profile)
    for name in again:
        lines += run_again(out, name, results, notebooks)
    return lines


def differences(out: Path, name: str, result: dict, notebooks: Path) -> Iterator[str]:
    """What differs of one notebook: its artefacts, the weights and settings it was made with, and its code."""
    for file, digest in result["artefacts"].items():
        if not (out / file).is_file():
            yield f"{file}: missing; {name} made it"
        elif sha256(out / file) != digest:
            yield f"{file}: not the file that {name} made"
    made = result["provenance"]
    profile = get_profile(result["profile"])
    for weights, digest in weights_sha256(profile).items():
        if made["weights_sha256"].get(weights) != digest:
            yield f"{name}: made with other weights of {weights} than those here"
    if made["profile_sha256"] != profile_sha256(profile):
        yield f"{name}: made with other settings of the profile {profile.name} than those here"
    copy = out / "notebooks" / f"{name}.ipynb"
    original = notebooks / f"{name}.ipynb"
    kept = copy.is_file() or not made.get("key")  # a run outside of `mousai reproduce` has its copy elsewhere
    if original.is_file() and kept and (not copy.is_file() or not set(code_cells(original)) <= set(code_cells(copy))):
        yield f"notebooks/{name}.ipynb: not a run of the notebook that is here"


def redrawn(out: Path, profile: str) -> Iterator[str]:
    """Tables, figures, summary and page that differ from what the results give when drawn again."""
    with TemporaryDirectory(prefix="mousai-") as folder:
        place = Path(folder)
        shutil.copytree(out / "results", place / "results")
        for kept in ("audio", "figures"):  # the page names them
            if (out / kept).is_dir():
                shutil.copytree(out / kept, place / kept)
        build(place, profile)
        drawn = [*place.glob("tables/*"), *place.glob("figures/figure_*"), place / "results" / "summary.json"]
        for path in sorted([*drawn, place / "README.md"]):
            name = path.relative_to(place).as_posix()
            if not (out / name).is_file() or sha256(out / name) != sha256(path):
                yield f"{name}: differs from the one drawn again from the results"


def run_again(out: Path, name: str, results: Results, notebooks: Path) -> Iterator[str]:
    """What differs when a notebook is run again: numbers by name, then figures.

    Sounds are left out, because in a coded file one differently rounded sample changes every byte.
    """
    before = results.notebooks.get(name)
    if before is None:
        return
    with TemporaryDirectory(prefix="mousai-") as folder:
        parameters = {"profile": results.profile, "seed": before["seed"], "out": folder}
        try:
            execute.execute(notebooks / f"{name}.ipynb", parameters, Path(folder))
        except Ended as error:
            yield f"{name}, run again: {error.status}: {error}"
            return
        now = json.loads((Path(folder) / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for part in ("metrics", "data", "artefacts"):
            for key in sorted(before[part].keys() | now[part].keys()):
                equal = same(before[part].get(key), now[part].get(key)) or same_picture(out / key, Path(folder) / key)
                if not key.startswith("audio/") and not equal:
                    yield f"{name}, run again: {key} differs"


def same_picture(a: Path, b: Path) -> bool:
    """Whether no colour of two pictures differs by more than `LEVELS`, because processors round differently."""
    if a.suffix != ".png" or not (a.is_file() and b.is_file()):
        return False
    ours = imread(a)
    theirs = imread(b)
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() < (LEVELS + 0.5) / 255)


def same(a: Any, b: Any) -> bool:
    """Whether both are equal, numbers to `CLOSE`, because threads and processors add up in different orders."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)
    return a == b
