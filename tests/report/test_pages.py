"""What the web shows first: links lead somewhere, commands are ones that there are, licences and sources are named."""

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from typer.exceptions import TyperException
from typer.main import get_command

from mousai.cli import FRONT, app, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "THIRD_PARTY.md", "tests/PLANTED.md", "reports/cpu/README.md"]
PAGES += [
    path.relative_to(ROOT).as_posix()
    for pattern in ("docs/*.md", "notebooks/README.md", "mousai/weights/*/README.md")
    for path in sorted(ROOT.glob(pattern))
]
NOTEBOOKS = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("notebooks/*.ipynb"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|(?:href|src)=\"([^\"]+)\"")
SCRIPTED = re.compile(r"\S*/mousai [^;&|#\n]*")  # a call in a script, to its end
ELSEWHERE = {"conda", "apt-get", "git", "hf", "docker"}  # programs of others, which need not be on this machine
page = pytest.mark.parametrize("name", [*PAGES, *NOTEBOOKS])


def text_of(name: str) -> str:
    """A page, or the prose of a notebook."""
    if not name.endswith(".ipynb"):
        return (ROOT / name).read_text("utf-8")
    content = nbformat.read(ROOT / name, as_version=4)
    return "\n\n".join(cell.source for cell in content.cells if cell.cell_type == "markdown")


def anchors(name: str) -> set[str]:
    """What the web makes of a page's headings: small letters, no punctuation, a hyphen for a space."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(name)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"`[^`]*`", "", FENCE.sub("", text))


@page
def test_links_lead_to_files_and_headings_that_are_there(name):
    for found in LINK.findall(without_code(text_of(name))):
        link = found[0] or found[1]
        if re.match(r"https://|mailto:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists() and path.resolve().is_relative_to(ROOT), link
        if anchor and path.suffix in (".md", ".ipynb"):
            assert anchor in anchors(path.resolve().relative_to(ROOT).as_posix()), link


def test_an_anchor_is_what_the_web_makes_of_a_heading():
    assert "where-we-differ-from-the-paper-and-why" in anchors("README.md")
    assert {"map-of-mousai", "exactly-the-papers-models"} <= anchors("docs/architecture.md")


# Commands.


def shell(name: str) -> list[list[str]]:
    """Every line of the page's shell blocks, in words, without comments and settings such as `NAME=value`.

    A block of bash is a script: of it, every call of mousai.
    """
    lines = [
        line
        for kind, block in FENCE.findall(text_of(name))
        if kind in ("", "sh", "bash")
        for line in (SCRIPTED.findall(block) if kind == "bash" else block.splitlines())
    ]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[sum("=" in word for word in words[:1]) :] for words in split if words]


def spans(name: str) -> list[list[str]]:
    """Commands in the prose: `make lab`."""
    found = re.findall(r"`((?:make|mousai|\.venv/bin/\w+) [^`]+)`", FENCE.sub("", text_of(name)))
    return [shlex.split(span) for span in found if "," not in span and "|" not in span]


def mousai(words: list[str]):
    """The command that these words call, and the words that are left for it."""
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands"), f"mousai {' '.join(words)}: there is no such command"
    return command, words


def check(words: list[str], folder: Path) -> None:
    """That a line of a shell block could be run; nothing is."""
    program, *rest = words
    if program == "make":
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        ran = subprocess.run(["make", "-n", *rest], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
    elif program not in ELSEWHERE and "mousai" in (Path(program).name, *rest):
        command, left = mousai(words[[Path(word).name for word in words].index("mousai") + 1 :])
        for option, word in pairwise(left):
            if option == "--weights":
                (folder / word).mkdir(parents=True, exist_ok=True)
        for word in left:  # what is to be read is there
            if Path(word).suffix or word.startswith("~"):
                (folder / word).parent.mkdir(parents=True, exist_ok=True)
                (folder / word).touch()
        command.make_context(command.name, left)
    elif Path(program).name == "python" and rest[0] != "-m":
        assert (ROOT / rest[0]).is_file()
    else:
        here = (Path(sys.executable).parent / Path(program).name).exists()
        assert here or program in ELSEWHERE or shutil.which(program), f"{program}: not a program that setting up brings"


@pytest.mark.system
@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_page_is_one_that_there_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in shell(name):
        check(words, tmp_path)


@pytest.mark.system
def test_without_a_command_mousai_says_in_ten_lines_what_there_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([]) == (0, "") and capsys.readouterr().out == f"{FRONT}\n"
    lines = [line for line in FRONT.splitlines() if line.startswith("mousai ")]
    assert len(FRONT.splitlines()) <= 10 and max(map(len, FRONT.splitlines())) <= 120
    assert {"generate", "encode", "reproduce", "data", "train"} <= {line.split()[1] for line in lines}
    for line in lines[:-1]:  # the last one names --help, which ends the process
        check(shlex.split(re.split("  +", line)[0]), tmp_path)


@pytest.mark.system
def test_a_script_of_a_page_is_one_that_bash_can_read():
    scripts = [block for name in PAGES for kind, block in FENCE.findall(text_of(name)) if kind == "bash"]
    assert len(scripts) >= 2
    for script in scripts:
        assert SCRIPTED.search(script), script
        ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr


@pytest.mark.system
@page
def test_every_command_in_the_prose_is_one_that_there_is(name, tmp_path):
    for words in spans(name):
        if words[0] == "make":
            check(words, tmp_path)
        elif Path(words[0]).name == "mousai":
            command, left = mousai(words[1:])
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word.partition("=")[0] for word in left if word.startswith("--")} <= known, words


@pytest.mark.system
@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("make nothing", AssertionError),
        (".venv/bin/nothing x", AssertionError),
        ("mousai compose x", AssertionError),
        ("mousai bench --sizes cpu", TyperException),
        ("mousai encode", TyperException),
        ("mousai train vae", TyperException),
    ],
)
def test_a_command_that_is_not_there_is_noticed(line, error, tmp_path):
    with pytest.raises(error):
        check(line.split(), tmp_path)


@pytest.mark.parametrize("name", PAGES)
def test_python_of_a_page_parses_and_imports_what_there_is(name):
    for kind, block in FENCE.findall(text_of(name)):
        for node in ast.walk(ast.parse(block if kind == "python" else "")):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


# What the front page has.


def test_the_front_page_has_contents_pictures_clips_and_limits():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 150 and len(text) <= 9000
    contents = text.partition("\n## ")[0]
    assert len(re.findall(r"\]\(#[\w-]+\)", contents)) >= 8
    assert len(re.findall(r"!\[[^\]]{20,}\]\([^)]+\.png\)", text)) >= 4
    assert len(set(re.findall(r"\(([^)]+\.ogg)\)", text))) >= 6
    assert "\n## Limits\n" in text


def test_every_notebook_is_in_the_table_of_the_front_page():
    assert set(re.findall(r"\]\((notebooks/[^)]+\.ipynb)\)", text_of("README.md"))) == set(NOTEBOOKS)


def test_contributing_is_one_page_that_says_how_to_add_things():
    text = text_of("CONTRIBUTING.md")
    assert len(text.splitlines()) <= 100
    assert {"set-up-and-check", "add-a-metric", "add-a-notebook", "tests"} <= anchors("CONTRIBUTING.md")


# Licences and sources.


def test_the_citation_names_the_repository_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "license", "preferred-citation"} <= cited.keys()
    paper = cited["preferred-citation"]
    assert paper["title"] == "Moûsai: Efficient Text-to-Music Diffusion Models"
    assert [author["family-names"] for author in paper["authors"]] == ["Schneider", "Kamal", "Jin", "Schölkopf"]
    assert (cited["license"], paper["year"]) == ("MIT", 2024)


def test_what_others_made_is_named_with_its_licence():
    text = text_of("THIRD_PARTY.md")
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for word in ("TimGM6mb.sf2", "GPL-2", "not shipped", "music21", "public domain", "MiniLM", "Apache-2.0"):
        assert word in text, word
    assert not [file for folder in ("mousai", "reports", "notebooks") for file in (ROOT / folder).rglob("*.sf2")]
