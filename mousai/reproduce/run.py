"""All notebooks in order, each only where something changed, then the report: what `mousai reproduce` does."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import disk_usage

import torch
from filelock import FileLock, Timeout

from mousai.data.dataset import MANIFEST, Workspace, workspace
from mousai.data.embedded import prepare
from mousai.evaluation.baselines import riffusion_missing
from mousai.evaluation.laion import laion_missing
from mousai.files import runs_dir
from mousai.inference.precision import choose_device
from mousai.report import cache, standalone
from mousai.report.build import build
from mousai.report.notebooks import NEEDS, UPSTREAM, select
from mousai.report.results import check_own
from mousai.report.standalone import NOTEBOOKS
from mousai.reproduce import execute, preflight
from mousai.reproduce.forecast import from_report, in_words
from mousai.reproduce.kernel_monitor import Ended
from mousai.reproduce.progress_display import ProgressDisplay
from mousai.reproduce.run_log import RunLog
from mousai.small.profiles import get_profile

GPU_GB = 24  # which `make rehearse` is held to
BYTES = 4  # a sample of 16-bit stereo, at most: FLAC makes it smaller
STOPPED = "one before it failed: --keep-going runs what does not need that one"


@dataclass(frozen=True)
class Request:
    """What to run.

    only, start: notebooks by number, "06,07" and "04". force: also those whose result is still good. out: the report's
    folder, reports/<profile> by default. paper_size: notebook 09 measures the paper's sizes too (13 GB). dry_run: only
    say what would run. keep_going: after a failure skip only what needs the failed one. timeout: minutes a notebook
    may take.
    """

    profile: str = "cpu"
    only: str = ""
    start: str = ""
    force: bool = False
    out: str | Path = ""
    device: str = ""
    paper_size: bool = False
    dry_run: bool = False
    keep_going: bool = False
    timeout: float | None = None
    notebooks: Path = NOTEBOOKS
    upstream: dict[str, tuple[str, ...]] = field(default_factory=lambda: UPSTREAM)


@dataclass(frozen=True)
class Task:
    """One notebook of a run: its file, its parameters, and the notebooks whose results it depends on."""

    notebook: Path
    parameters: dict
    upstream: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.notebook.stem


def reproduce(request: Request) -> int:
    """Run what is asked for, draw the report; 0 where no notebook failed, else 1.

    Raises ValueError or FileNotFoundError, with a mend, before anything runs or is written.
    """
    if get_profile(request.profile).rehearsal:
        preflight.apart()
    device = str(choose_device(request.device or None))
    work = workspace(get_profile(request.profile), os.environ, device)
    out = Path(request.out).resolve() if str(request.out) else standalone.report_folder(work)
    run = Run(request, tasks_of(request, out), out)
    check_own(out, request.profile)
    if not work.profile.rehearsal:  # which makes all that it needs
        check_needs(work, run.tasks)
        for line in limits(work):
            print(line, flush=True)
    if request.dry_run:
        run.preview()
        return 0
    with alone(out):
        out.mkdir(parents=True, exist_ok=True)
        usual = run.usual_seconds()
        run.announce(usual)
        prepare_data(work, run.tasks)
        with ProgressDisplay(usual) as display:
            failed = run.all(display)
        if any((out / "results").glob("*_*.json")):
            print(f"report: {os.path.relpath(build(out, request.profile))}")
            print(f"notebooks, as they ran: {os.path.relpath(out / 'notebooks')}")
            print(f"sounds: {os.path.relpath(out / 'audio')}", flush=True)
    return 1 if failed else 0


def check_needs(work: Workspace, tasks: list[Task]) -> None:
    """Raises FileNotFoundError or ValueError, which name the notebook and the mend, where one needs what is not here.

    The embedded data set is made later.
    """
    made = () if work.own_data else ("data", "test", "genres", "segments")
    for task in tasks:
        try:
            standalone.check(work, tuple(need for need in NEEDS.get(task.name, ()) if need not in made))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{task.name}: {error}") from None


def limits(work: Workspace) -> list[str]:
    """What a run of the paper's size will leave out here, or where it may fail for want of memory: said before it."""
    if work.profile.name != "a100":
        return []
    lines = [f"not run: {why}" for why in (laion_missing(), riffusion_missing()) if why]
    device = torch.device(work.device or "cpu")
    free = torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else GPU_GB
    if free < GPU_GB:
        lines.append(f"{device}: {free:.0f} GB of memory are free, {GPU_GB} are wanted: free some, or use a larger GPU")
    return lines


def tasks_of(request: Request, out: Path) -> list[Task]:
    """The notebooks that are asked for, in order. Raises ValueError or FileNotFoundError for what does not fit."""
    profile = get_profile(request.profile)
    settings = {"profile": profile.name, "seed": profile.seed, "out": os.path.relpath(out, request.notebooks)}
    optional = {"device": request.device, "paper_size": request.paper_size}
    tasks = []
    for name in select(list(request.upstream), request.only, request.start):
        notebook = request.notebooks / f"{name}.ipynb"
        if not notebook.is_file():
            where = f"not in {request.notebooks}: run from a checkout of the repository"
            raise FileNotFoundError(f"notebook {name}.ipynb: {where}")
        declared = cache.defaults(notebook)
        known = {key: value for key, value in optional.items() if key in declared}
        tasks.append(Task(notebook, settings | known, request.upstream[name]))
    if request.paper_size and not any("paper_size" in task.parameters for task in tasks):
        raise ValueError("paper size: notebook 09 measures it and is not among those chosen: choose it too")
    return tasks


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps a second run out of the folder. Raises ValueError where there is one already."""
    place = runs_dir() / "locks" / f"{hashlib.sha256(str(out).encode()).hexdigest()[:12]}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{out}: another run writes there: wait for it, or choose another --out") from None


def prepare_data(work: Workspace, tasks: list[Task]) -> None:
    """Render the embedded music where a notebook needs it and it is missing; for a preflight all that it needs.

    Raises ValueError where it would not fit on the disk.
    """
    if not any("data" in NEEDS.get(task.name, ()) for task in tasks):
        return
    if not work.own_data and not (work.root / MANIFEST).is_file():
        data = work.profile.data
        check_space(work.runs, data.pieces * data.piece_samples * BYTES)
        print(f"data: rendering {data.pieces} pieces", flush=True)
        prepare(data, work.root, os.cpu_count() or 1)
    if work.profile.rehearsal:
        preflight.prepare()


def check_space(folder: Path, needed: int) -> None:
    """Raises ValueError where the disk that `folder` is to lie on has fewer bytes left."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = disk_usage(there).free
    if free < needed:
        mend = "free some space, or set MOUSAI_HOME to a larger disk, or MOUSAI_DATA to music of your own"
        raise ValueError(f"{folder}: up to {needed / 1e9:.0f} GB of music, {free / 1e9:.0f} GB are free: {mend}")


class Run:
    """One run: its tasks, where it writes, and what earlier runs left in the log of this profile."""

    def __init__(self, request: Request, tasks: list[Task], out: Path):
        self.request = request
        self.tasks = tasks
        self.out = out
        self.log = RunLog(runs_dir() / "run_logs" / f"{request.profile}.jsonl")

    def due(self) -> list[str]:
        """The notebooks that would run, themselves or because what they depend on would."""
        due: list[str] = []
        for task in self.tasks:
            if self.request.force or not set(due).isdisjoint(task.upstream) or not self.still_good(task)[1]:
                due.append(task.name)
        return due

    def preview(self) -> None:
        """Print of each notebook whether it would run."""
        due = self.due()
        for task in self.tasks:
            print(f"{task.name} {'would run' if task.name in due else 'is still good'}", flush=True)

    def announce(self, usual: dict[str, float]) -> None:
        """Print what the run will do, and how long it may take."""
        due = self.due()
        what = f"{len(self.tasks)} notebooks, {len(due)} to run"
        took = f": {in_words(usual[name] for name in due)}" if due else ""
        print(f"{self.request.profile}: {what}{took}; then the report", flush=True)

    def usual_seconds(self) -> dict[str, float]:
        """What each took when it last ended well here, else what the report says, else 0."""
        before = {task.name: self.log.last(notebook=task.name, status="ok") for task in self.tasks}
        stated = from_report(self.out, [name for name, entry in before.items() if entry is None])
        return {name: entry["seconds"] if entry else stated[name] for name, entry in before.items()}

    def all(self, display: ProgressDisplay) -> set[str]:
        """Run the tasks in order; returns the names of those that failed, or need one that did."""
        failed: set[str] = set()
        for task in self.tasks:
            cause = next((other for other in task.upstream if other in failed), None)
            if cause:
                execute.forget(self.out, task.name)
                self.note(display, task, "skipped", why=f"{cause} failed")
                failed.add(task.name)
            elif failed and not self.request.keep_going:  # what it wrote earlier may still be good
                self.note(display, task, "skipped", why=STOPPED)
            elif not self.one(display, task):
                failed.add(task.name)
        return failed

    def one(self, display: ProgressDisplay, task: Task) -> bool:
        """Run one notebook unless its result is still good; whether it is good now."""
        key, kept = self.still_good(task)
        if kept and not self.request.force:
            self.note(display, task, "cached")
            return True
        limit = None if self.request.timeout is None else 60 * self.request.timeout
        started = time.monotonic()
        display.started(task.name)
        try:
            show = partial(display.progress, task.name)
            execute.execute(task.notebook, task.parameters, self.out, show, limit)
        except (Ended, ValueError, OSError) as error:
            status = error.status if isinstance(error, Ended) else "failed"
            self.note(display, task, status, time.monotonic() - started, why=str(error))
            return False
        files = cache.written(self.out, task.name)
        self.note(display, task, "ok", time.monotonic() - started, key=key, files=files)
        return True

    def still_good(self, task: Task) -> tuple[str, bool]:
        """The notebook's key, and whether a run with it, ours or papermill's alone, left what it wrote as it is now."""
        key = cache.key(task.notebook, task.parameters, task.upstream, self.out)
        old = self.log.last(notebook=task.name, out=str(self.out), status="ok", key=key)
        logged = bool(old and cache.unchanged(self.out, old["files"]))
        return key, logged or cache.made_by_itself(self.out, task.name, key)

    def note(
        self,
        display: ProgressDisplay,
        task: Task,
        status: str,
        seconds: float | None = None,
        why: str = "",
        **more: object,
    ) -> None:
        """Show "04_dmae_training ok 143 s", and log it."""
        display.ended(task.name, status, seconds, why)
        more |= {"error": why} if why else {}
        self.log.add(notebook=task.name, out=str(self.out), status=status, seconds=round(seconds or 0, 1), **more)
