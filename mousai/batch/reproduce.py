"""All notebooks in order, each only where something changed, then the report: what `mousai reproduce` does."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mousai.batch import execute, fingerprint
from mousai.batch.build import build
from mousai.batch.ledger import Ledger
from mousai.batch.lessons import DATA, UPSTREAM, select
from mousai.files import home
from mousai.precision import choose_device
from mousai.profiles import get_profile

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
Lessons = dict[str, tuple[Path, dict, tuple[str, ...]]]  # name -> notebook, its parameters, what it depends on


def reproduce(
    profile: str = "cpu",
    only: str = "",
    start: str = "",
    force: bool = False,
    out: str | Path = "",
    device: str = "",
    paper_size: bool = False,
    dry_run: bool = False,
    notebooks: Path = NOTEBOOKS,
    upstream: dict[str, tuple[str, ...]] = UPSTREAM,
) -> int:
    """Run the lessons of `upstream` into `out` (reports/<profile> by default); 0 where none failed, else 1.

    `only` "06,07" and `start` "04" choose lessons, `force` runs those whose result is still good too, `paper_size` has
    notebook 09 run the paper's sizes (13 GB). A lesson whose upstream failed is skipped. `dry_run` says what would run,
    and writes nothing.
    Raises ValueError or FileNotFoundError, with a mend, before anything runs or is written.
    """
    settings = {"profile": get_profile(profile).name, "seed": get_profile(profile).seed}
    choose_device(device or None)
    names = select(list(upstream), only, start)
    check_there(names, notebooks)
    optional = {"device": device, "paper_size": paper_size}
    declared = {name: execute.declared(notebooks / f"{name}.ipynb") for name in names}
    if paper_size and not any("paper_size" in known for known in declared.values()):
        raise ValueError("paper size: notebook 09 measures it and is not among those chosen: choose it too")
    out = Path(out).resolve() if str(out) else ROOT / "reports" / profile
    settings["out"], ledger = os.path.relpath(out, notebooks), Ledger(home() / "ledgers" / f"{profile}.jsonl")
    lessons = {
        name: (
            notebooks / f"{name}.ipynb",
            settings | {key: value for key, value in optional.items() if key in declared[name]},
            upstream[name],
        )
        for name in names
    }
    if dry_run:
        return preview(lessons, out, ledger, force)
    with alone(out):
        out.mkdir(parents=True, exist_ok=True)
        prepare_data(names, upstream, profile)
        failed = run_all(lessons, out, ledger, force)
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


def preview(lessons: Lessons, out: Path, ledger: Ledger, force: bool) -> int:
    """Say of each lesson whether it would run, itself or because what it depends on would; 0."""
    changed: set[str] = set()
    for name, (lesson, parameters, upstream) in lessons.items():
        kept = not force and not changed.intersection(upstream)
        kept = kept and still_good(lesson, parameters, upstream, out, ledger)[1]
        changed |= set() if kept else {name}
        print(f"{name} {'is still good' if kept else 'would run'}", flush=True)
    return 0


def run_all(lessons: Lessons, out: Path, ledger: Ledger, force: bool) -> set[str]:
    """Run them in order; returns the names of those that failed, or were skipped because another had."""
    failed: set[str] = set()
    for name, (lesson, parameters, upstream) in lessons.items():
        cause = next((other for other in upstream if other in failed), None)
        if cause:
            say(ledger, name, out, "skipped", error=f"{cause} failed")
            execute.forget(out, name)
        if cause or not run(lesson, parameters, upstream, out, ledger, force):
            failed.add(name)
    return failed


def prepare_data(names: list[str], upstream: dict[str, tuple[str, ...]], profile: str) -> None:
    """Render the music first where it is missing, with its own progress bar; a lesson would do it unseen."""
    from mousai.data.embedded import data_dir, prepare

    chosen = get_profile(profile)
    needed = any(DATA in (name, *upstream[name]) for name in names)
    if needed and not (data_dir(chosen) / "manifest.jsonl").is_file():
        print(f"data: rendering {chosen.data.pieces} pieces", flush=True)
        prepare(chosen, os.cpu_count() or 1)


def check_there(names: list[str], notebooks: Path) -> None:
    """Raises FileNotFoundError that names the first notebook that is not in the folder."""
    for name in names:
        if not (notebooks / f"{name}.ipynb").is_file():
            raise FileNotFoundError(f"notebook {name}.ipynb: not in {notebooks}: run from a checkout of the repository")


def run(lesson: Path, parameters: dict, upstream: tuple[str, ...], out: Path, ledger: Ledger, force: bool) -> bool:
    """Run one lesson unless its result is still good; whether it is good now."""
    name, (key, kept) = lesson.stem, still_good(lesson, parameters, upstream, out, ledger)
    if kept and not force:
        say(ledger, name, out, "cached")
        return True
    started = time.monotonic()
    print(f"{name} starts", flush=True)
    try:
        execute.execute(lesson, parameters, out)
    except (RuntimeError, ValueError) as error:
        status = "killed" if str(error).startswith(execute.DIED) else "failed"
        say(ledger, name, out, status, time.monotonic() - started, error=str(error))
        return False
    files = fingerprint.written(out, name)
    say(ledger, name, out, "ok", time.monotonic() - started, key=key, files=files)
    return True


def still_good(
    lesson: Path, parameters: dict, upstream: tuple[str, ...], out: Path, ledger: Ledger
) -> tuple[str, bool]:
    """The lesson's key, and whether a run with it is in the ledger whose files are all as it left them."""
    key = fingerprint.fingerprint(lesson, parameters, upstream, out)
    old = ledger.last(notebook=lesson.stem, out=str(out), status="ok", key=key)
    return key, bool(old and fingerprint.unchanged(out, old["files"]))


def say(ledger: Ledger, name: str, out: Path, status: str, seconds: float | None = None, **more) -> None:
    """One plain line for the log, one entry for the ledger: "04_dmae_training ok 143 s"."""
    took = "" if seconds is None else f" {seconds:.0f} s"
    print(f"{name} {status}{took}" + (f": {more['error']}" if "error" in more else ""), flush=True)
    ledger.add(notebook=name, out=str(out), status=status, seconds=round(seconds or 0, 1), **more)
