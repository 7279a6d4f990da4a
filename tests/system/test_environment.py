"""Setting up: environment.yml says what pyproject.toml says, CI does what a developer does, and make fails early."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def test_environment_yml_only_points_at_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == project["name"]
    python, pip, packages = environment["dependencies"]
    assert (python, pip, packages) == ("python=3.11", "pip", {"pip": ["-e .[dev]"]})
    assert project["requires-python"] == ">=3.11,<3.12"
    assert "dev" in project["optional-dependencies"]


def test_every_dependency_is_bounded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    for name in [*project["dependencies"], *extras]:
        assert "==" in name or ",<" in name, name


def test_the_lock_has_one_version_with_hashes_of_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {}
    for entry in re.split(r"\n(?=\w)", (ROOT / "requirements.lock").read_text().strip()):
        line, *hashes = entry.split(" \\\n")
        pin = Requirement(line)
        assert hashes, pin
        if not pin.marker or pin.marker.evaluate():
            locked.setdefault(pin.name, []).append(str(pin.specifier).removeprefix("=="))
    for wanted in map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]]):
        (version,) = locked[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), wanted


def test_ci_runs_what_a_developer_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"


def test_contributing_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`((?:mousai|tests)/[\w/]*(?:\.py)?)`", text))
    assert len(named) > 20 and [name for name in named if not (ROOT / name).exists()] == []


@pytest.fixture
def checkout(tmp_path):
    """An empty checkout, and a folder of commands that are found before the machine's."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "commands").mkdir()
    return tmp_path


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    path = f"{checkout / 'commands'}:{os.environ['PATH']}"
    return subprocess.run(["make", *words], cwd=checkout, env={**kept, "PATH": path}, capture_output=True, text=True)


@pytest.mark.system
def test_make_says_where_disk_is_missing(checkout):
    fake = checkout / "commands" / "df"
    fake.write_text('#!/bin/sh\necho Filesystem\necho "/dev/x 1 1 5000000 1% /"\n')
    fake.chmod(0o755)
    ran = make(checkout, "reproduce")
    assert ran.returncode != 0
    assert ran.stderr.splitlines()[0] == "disk: 5 GB free here, 10 GB needed: free some, or clone to a larger disk"
    assert not (checkout / ".venv").exists()


@pytest.mark.system
def test_make_says_where_python_is_missing(checkout):
    ran = make(checkout, "test", "PYTHON=/bin/false")
    assert ran.returncode != 0
    assert ran.stderr.startswith("Python 3.11 with venv: not found: install it")
    assert not (checkout / ".venv").exists()


@pytest.mark.system
def test_make_installs_nothing_when_the_stamp_is_good(checkout):
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    texts = [(checkout / name).read_text() for name in ("pyproject.toml", "requirements.lock")]
    (checkout / ".venv" / "stamp").write_text("".join(texts) + f"{checkout}\n")
    ran = make(checkout, "setup")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
