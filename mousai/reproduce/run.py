"""All notebooks in order, each only where something changed, then the report: what `mousai reproduce` does."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout

from mousai.files import foreign_data, home
from mousai.inference.precision import choose_device
from mousai.report.build import build
from mousai.report.results import check_own
from mousai.reproduce import execute, fingerprint
from mousai.reproduce import preflight as rehearsal
from mousai.reproduce.kernel_monitor import Ended
from mousai.reproduce.notebooks import DATA, UPSTREAM, select
from mousai.reproduce.progress_display import Board
from mousai.reproduce.run_log import Ledger
from mousai.small.profiles import get_profile

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
Lessons = dict[str, tuple[Path, dict, tuple[str, ...]]]  # name -> notebook, its parameters, what it depends on


@dataclass(frozen=True)
class Run:
    """Where it writes, what it remembers, and how it goes on."""

    out: Path
    ledger: Ledger
    force: bool = False
    keep_going: bool = False
    limit: float | None = None  # seconds a lesson may take


def reproduce(
    profile: str = "cpu",
    only: str = "",
    start: str = "",
    force: bool = False,
    out: str | Path = "",
    device: str = "",
    paper_size: bool = False,
    dry_run: bool = False,
    keep_going: bool = False,
    timeout: float | None = None,
    notebooks: Path = NOTEBOOKS,
    upstream: dict[str, tuple[str, ...]] = UPSTREAM,
) -> int:
    """Run the lessons of `upstream` into `out` (reports/<profile> by default); 0 where none failed, else 1.

    `only` "06,07" and `start` "04" choose lessons, `force` runs those whose result is still good too, `paper_size` has
    notebook 09 run the paper's sizes (13 GB). After one that failed the others are skipped; with `keep_going` only
    those that need it. `timeout`: minutes that a lesson may take. `dry_run` says what would run, and writes nothing.
    Raises ValueError or FileNotFoundError, with a mend, before anything runs or is written.
    """
    chosen = get_profile(profile)
    settings = {"profile": chosen.name, "seed": chosen.seed}
    if chosen.rehearsal:
        rehearsal.apart()
    choose_device(device or None)
    names = select(list(upstream), only, start)
    check_there(names, notebooks)
    optional = {"device": device, "paper_size": paper_size}
    declared = {name: execute.declared(notebooks / f"{name}.ipynb") for name in names}
    if paper_size and not any("paper_size" in known for known in declared.values()):
        raise ValueError("paper size: notebook 09 measures it and is not among those chosen: choose it too")
    out = Path(out).resolve() if str(out) else ROOT / "reports" / profile
    check_own(out, profile)
    settings["out"], ledger = os.path.relpath(out, notebooks), Ledger(home() / "ledgers" / f"{profile}.jsonl")
    run = Run(out, ledger, force, keep_going, None if timeout is None else 60 * timeout)
    lessons = {
        name: (
            notebooks / f"{name}.ipynb",
            settings | {key: value for key, value in optional.items() if key in declared[name]},
            upstream[name],
        )
        for name in names
    }
    if dry_run:
        return preview(lessons, run)
    with alone(out):
        out.mkdir(parents=True, exist_ok=True)
        prepare_data(names, upstream, profile)
        if chosen.rehearsal and any(DATA in upstream[name] for name in names):
            rehearsal.prepare()
        with Board(usual_seconds(lessons, run)) as board:
            failed = run_all(lessons, run, board)
        if any((out / "results").glob("*_*.json")):
            print(f"report: {os.path.relpath(build(out, profile))}", flush=True)
    return 1 if failed else 0


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps a second run out of the folder. Raises ValueError where there is one already."""
    place = home() / "locks" / f"{hashlib.sha256(str(out).encode()).hexdigest()[:12]}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{out}: another run writes there: wait for it, or choose another --out") from None


def preview(lessons: Lessons, run: Run) -> int:
    """Say of each lesson whether it would run, itself or because what it depends on would; 0."""
    changed: set[str] = set()
    for name, (lesson, parameters, upstream) in lessons.items():
        kept = not run.force and not changed.intersection(upstream)
        kept = kept and still_good(lesson, parameters, upstream, run)[1]
        changed |= set() if kept else {name}
        print(f"{name} {'is still good' if kept else 'would run'}", flush=True)
    return 0


def usual_seconds(lessons: Lessons, run: Run) -> dict[str, float]:
    """What each took when it last ended well here, else the minutes that the notebook says of the profile, else 0."""
    usual = {}
    for name, (lesson, parameters, _) in lessons.items():
        before = run.ledger.last(notebook=name, status="ok")
        head = nbformat.read(lesson, as_version=4).cells[0].source
        said = re.search(rf"`{parameters['profile']}` (?:about )?(\d+)", head)
        usual[name] = before["seconds"] if before else 60.0 * int(said[1]) if said else 0.0
    return usual


def run_all(lessons: Lessons, run: Run, board: Board) -> set[str]:
    """Run them in order; returns the names of those that failed, or were skipped because another had."""
    failed: set[str] = set()
    for name, (lesson, parameters, upstream) in lessons.items():
        cause = next((other for other in upstream if other in failed), None)
        if cause:
            execute.forget(run.out, name)
            say(run, board, name, "skipped", why=f"{cause} failed")
        elif failed and not run.keep_going:  # what it wrote earlier may be good still
            say(run, board, name, "skipped", why="one before it failed: --keep-going runs what does not need that one")
            continue
        if cause or not run_one(lesson, parameters, upstream, run, board):
            failed.add(name)
    return failed


def prepare_data(names: list[str], upstream: dict[str, tuple[str, ...]], profile: str) -> None:
    """Render the music first where it is missing, with its own progress bar; a lesson would do it unseen."""
    from mousai.data.dataset import workspace
    from mousai.data.embedded import prepare

    chosen = get_profile(profile)
    needed = any(DATA in (name, *upstream[name]) for name in names)
    root = workspace(chosen, os.environ).root
    if needed and not foreign_data() and not (root / "manifest.jsonl").is_file():
        print(f"data: rendering {chosen.data.pieces} pieces", flush=True)
        prepare(chosen.data, root, os.cpu_count() or 1)


def check_there(names: list[str], notebooks: Path) -> None:
    """Raises FileNotFoundError that names the first notebook that is not in the folder."""
    for name in names:
        if not (notebooks / f"{name}.ipynb").is_file():
            raise FileNotFoundError(f"notebook {name}.ipynb: not in {notebooks}: run from a checkout of the repository")


def run_one(lesson: Path, parameters: dict, upstream: tuple[str, ...], run: Run, board: Board) -> bool:
    """Run one lesson unless its result is still good; whether it is good now."""
    name, (key, kept) = lesson.stem, still_good(lesson, parameters, upstream, run)
    if kept and not run.force:
        say(run, board, name, "cached")
        return True
    started = time.monotonic()
    board.starts(name)
    try:
        execute.execute(lesson, parameters, run.out, lambda pulse: board.beats(name, pulse), run.limit)
    except (Ended, ValueError, OSError) as error:
        status = error.status if isinstance(error, Ended) else "failed"
        say(run, board, name, status, time.monotonic() - started, why=str(error))
        return False
    files = fingerprint.written(run.out, name)
    say(run, board, name, "ok", time.monotonic() - started, key=key, files=files)
    return True


def still_good(lesson: Path, parameters: dict, upstream: tuple[str, ...], run: Run) -> tuple[str, bool]:
    """The lesson's key, and whether a run with it is in the ledger whose files are all as it left them."""
    key = fingerprint.fingerprint(lesson, parameters, upstream, run.out)
    old = run.ledger.last(notebook=lesson.stem, out=str(run.out), status="ok", key=key)
    return key, bool(old and fingerprint.unchanged(run.out, old["files"]))


def say(
    run: Run, board: Board, name: str, status: str, seconds: float | None = None, why: str = "", **more: object
) -> None:
    """To whoever watches, "04_dmae_training ok 143 s", and to the ledger."""
    board.ends(name, status, seconds, why)
    more |= {"error": why} if why else {}
    run.ledger.add(notebook=name, out=str(run.out), status=status, seconds=round(seconds or 0, 1), **more)
