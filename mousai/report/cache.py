"""When is a notebook's result still valid? When nothing that it depends on, and nothing that it wrote, has changed.

It depends on its code cells and parameters, on the modules of this package that they import, directly or indirectly,
on files beside those modules that they name, on data and weights, on the results of the notebooks it depends on, and
on the versions of the libraries that any of this imports. Prose, comments and docstrings do not count.
"""

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import nbformat

from mousai.data.dataset import workspace
from mousai.files import sha256, user_weights
from mousai.small.profiles import get_profile

PACKAGE = Path(__file__).resolve().parent.parent
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Code:
    """What matters of a piece of Python source: a hash of its syntax tree, the names it imports, and its strings."""

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


def key(notebook: Path, parameters: dict, upstream: tuple[str, ...], out: Path, package: Path = PACKAGE) -> str:
    """A sha256 over everything that the result of `notebook` depends on.

    upstream: names of the notebooks whose results in `out` it depends on.
    """
    cells = code_cells(notebook)
    files, libraries = dependencies(cells, package)
    profile = str(parameters["profile"])
    parts = {
        "cells": [read(cell).digest for cell in cells],
        "parameters": {name: v for name, v in (defaults(notebook) | parameters).items() if name != "out"},
        "files": files,
        "weights": hashes(package, own_weights(package, profile)),
        "own weights": [sha256(path) for path in sorted((user_weights() or package / "no").glob("*.safetensors"))],
        "data": data_key(profile),
        "upstream": [result_hash(out / "results" / f"{name}.json") for name in upstream],
        "libraries": versions(libraries),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_cells(notebook: Path) -> list[str]:
    """The sources of the code cells, in order."""
    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def defaults(notebook: Path) -> dict[str, Any]:
    """The notebook's parameters and their defaults, from the cell that is tagged "parameters"."""
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assigned = [node for node in ast.parse("\n".join(tagged)).body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assigned}


@cache
def read(source: str) -> Code:
    """What matters of this source. A cell's magics, lines that begin with % or !, are hashed but not parsed."""
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    imports = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports |= {f"{node.module}.{alias.name}" for alias in node.names}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    magics = re.findall(r"^\s*[%!].*$", source, re.MULTILINE)
    digest = hashlib.sha256(json.dumps([ast.dump(tree), magics]).encode()).hexdigest()
    return Code(digest, frozenset(imports), frozenset(value for value in constants if isinstance(value, str)))


def dependencies(cells: list[str], package: Path) -> tuple[dict[str, str], set[str]]:
    """(relative path -> hash, of the package's files that the cells need; names of the other modules they import).

    A module that is named in a string, as for `python -m`, counts as needed.
    """
    modules: dict[Path, Code] = {}
    others: set[str] = set()
    beside: set[Path] = set()
    waiting = [read(cell) for cell in cells]
    while waiting:
        code = waiting.pop()
        run_by_name = {text for text in code.strings if re.fullmatch(rf"{package.name}(\.\w+)+", text)}
        for name in code.imports | run_by_name:
            if name.split(".")[0] != package.name:
                others.add(name.split(".")[0])
            for path in located(name, package):
                if path not in modules:
                    modules[path] = read(path.read_text(encoding="utf-8"))
                    beside |= set(named_files(path, modules[path]))
                    waiting.append(modules[path])
    found = {path.relative_to(package).as_posix(): code.digest for path, code in modules.items()}
    return found | hashes(package, beside), others


def located(name: str, package: Path) -> Iterator[Path]:
    """The files that importing a dotted name of the package runs: its module, and the __init__ of each folder above."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1 if parts[0] == package.name else 0):
        place = package.joinpath(*parts[1:n])
        candidates = (place / "__init__.py", place.with_suffix(".py"))
        yield from (path for path in candidates if path.is_file())


def named_files(module: Path, code: Code) -> Iterator[Path]:
    """Files beside a module that a string in it names, such as "paper.json", and all files of a folder it names."""
    for text in code.strings:
        place = module.parent / text
        if not re.fullmatch(r"\w[\w.-]*", text) or text == "weights" or (place / "__init__.py").exists():
            continue
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from (path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def own_weights(package: Path, profile: str) -> Iterator[Path]:
    """The weights that ship with this profile and their cards, without the README."""
    yield from (path for path in (package / "weights" / profile).glob("*") if path.suffix != ".md")


def hashes(package: Path, paths: Iterable[Path]) -> dict[str, str]:
    """sha256 of each file, by its path relative to the package."""
    return {path.relative_to(package).as_posix(): sha256(path) for path in paths}


def data_key(profile: str) -> str:
    """The key of the data set in use, which changes with its content; "" where there is none yet."""
    try:
        return workspace(get_profile(profile), os.environ).data.key
    except FileNotFoundError:
        return ""


def versions(names: Iterable[str]) -> list[str]:
    """Python's version, then "torch==2.14.1" for each distribution that provides one of these top-level modules."""
    found = {owner for name in names for owner in distributions().get(name, [])}
    return [f"python=={sys.version.split()[0]}", *sorted(f"{owner}=={version(owner)}" for owner in found)]


@cache
def distributions() -> Mapping[str, list[str]]:
    """Top-level module -> the installed distributions that provide it; cached, because it takes a second."""
    return packages_distributions()


def result_hash(path: Path) -> str:
    """sha256 of a notebook's result without its provenance (where and how long it ran); "" where there is none."""
    if not path.exists():
        return ""
    result = json.loads(path.read_text(encoding="utf-8"))
    found = {name: value for name, value in result.items() if name != "provenance"}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def written(out: Path, name: str) -> dict[str, str]:
    """Relative path -> sha256 of everything that a notebook wrote under `out`: result, executed copy, figures, sounds.

    Raises FileNotFoundError where one of them is missing.
    """
    result = out / "results" / f"{name}.json"
    files = [f"results/{name}.json", f"notebooks/{name}.ipynb"]
    files += json.loads(result.read_text(encoding="utf-8"))["artefacts"]
    return {file: sha256(out / file) for file in files}


def made_by_itself(out: Path, name: str, key: str) -> bool:
    """Whether a run outside of `mousai reproduce` wrote this result, with this key, and its files are unchanged."""
    try:
        result = json.loads((out / "results" / f"{name}.json").read_text(encoding="utf-8"))
        return result["provenance"]["key"] == key and unchanged(out, result["artefacts"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def unchanged(out: Path, files: dict[str, str]) -> bool:
    """Whether every file exists and has the recorded sha256. files: relative path -> sha256."""
    return all((out / file).is_file() and sha256(out / file) == digest for file, digest in files.items())
