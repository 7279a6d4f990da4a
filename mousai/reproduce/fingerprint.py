"""When is a notebook's result still good? When nothing it depends on, and nothing it wrote, has changed."""

import hashlib
import json
from importlib.metadata import distributions
from pathlib import Path

import nbformat

from mousai.files import sha256, user_data_root

PACKAGE = Path(__file__).resolve().parent.parent


def fingerprint(notebook: Path, parameters: dict, upstream: tuple[str, ...], out: Path, package: Path = PACKAGE) -> str:
    """sha256 over the code cells, the parameters, the source of `mousai` with its weights, what the notebooks
    `upstream` wrote under `out`, and the version of every installed library. Prose and outputs do not count."""
    parts = {
        "cells": code_cells(notebook),
        "parameters": {key: value for key, value in parameters.items() if key != "out"},
        "source": tree_hash(package, str(parameters.get("profile", ""))),
        "upstream": [result_hash(out / "results" / f"{name}.json") for name in upstream],
        "libraries": sorted(f"{dist.name}=={dist.version}" for dist in distributions()),
    }
    if foreign := user_data_root():
        parts["data"] = sha256(foreign / "manifest.jsonl")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_cells(notebook: Path) -> list[str]:
    """The sources of the code cells, in order."""
    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def tree_hash(package: Path, profile: str) -> str:
    """sha256 over names and bytes of the package's files; of the weights only the profile's own, without their page."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        own = name.startswith(f"weights/{profile}/") and path.suffix != ".md"
        foreign = name.startswith("weights/") and not own
        if path.is_file() and "__pycache__" not in name and not foreign:
            digest.update(f"{name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def result_hash(path: Path) -> str:
    """sha256 of what a notebook found, without where and how long it ran; "" where there is no result."""
    if not path.exists():
        return ""
    result = json.loads(path.read_text(encoding="utf-8"))
    found = {key: value for key, value in result.items() if key != "provenance"}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def written(out: Path, name: str) -> dict[str, str]:
    """sha256 of all a notebook left under `out`, by relative path: result, executed copy, figures, sounds.

    Raises FileNotFoundError where one of them is not there.
    """
    result = out / "results" / f"{name}.json"
    files = [f"results/{name}.json", f"notebooks/{name}.ipynb"]
    files += json.loads(result.read_text(encoding="utf-8"))["artefacts"]
    return {file: sha256(out / file) for file in files}


def unchanged(out: Path, files: dict[str, str]) -> bool:
    """Whether every file is there and hashes to what was recorded."""
    return all((out / file).is_file() and sha256(out / file) == digest for file, digest in files.items())
