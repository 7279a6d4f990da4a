"""`mousai reproduce`: run the notebooks in order, each only where its result is no longer valid; draw the report."""

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
from mousai.report.results import check_own, of_another_version
from mousai.report.standalone import NOTEBOOKS
from mousai.reproduce import execute, preflight
from mousai.reproduce.forecast import from_report, in_words
from mousai.reproduce.kernel_monitor import Ended
from mousai.reproduce.progress_display import ProgressDisplay
from mousai.reproduce.run_log import RunLog
from mousai.small.profiles import get_profile

GPU_GB = 24  # GPU memory that an a100 run needs, and the limit that `make rehearse` is held to
BYTES = 4  # largest size of a sample of 16-bit stereo; FLAC makes it smaller
STOPPED = "an earlier notebook failed: --keep-going runs those that do not depend on it"


@dataclass(frozen=True)
class Request:
    """What to run.

    only, start: notebooks by number, such as "06,07" and "04". force: run also those whose result is still valid. out:
    the report's folder, reports/<profile> by default. paper_size: notebook 09 also measures the paper's sizes (13 GB).
    dry_run: only print what would run. keep_going: after a failure skip only what depends on the failed notebook.
    timeout: minutes that a notebook may take. notebooks: their folder. upstream: as `UPSTREAM`.
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
    """Run the requested notebooks and draw the report; return the exit code, 0 where no notebook failed, else 1.

    Raises ValueError or FileNotFoundError, with the mend, before a notebook runs or a result is written.
    """
    if get_profile(request.profile).rehearsal:
        preflight.apart()
    device = str(choose_device(request.device or None))
    work = workspace(get_profile(request.profile), os.environ, device)
    out = Path(request.out).resolve() if str(request.out) else standalone.report_folder(work)
    run = Run(request, tasks_of(request, out), out)
    check_own(out, request.profile)
    if not work.profile.rehearsal:  # a preflight makes all that it needs itself
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
        for task in run.tasks:
            if of_another_version(out, task.name):  # a notebook that reads all results would stop at it
                execute.forget(out, task.name)
        with ProgressDisplay(usual) as display:
            failed = run.all(display)
        if any((out / "results").glob("*_*.json")):
            print(f"report: {os.path.relpath(build(out, request.profile))}")
            print(f"notebooks, as they ran: {os.path.relpath(out / 'notebooks')}")
            print(f"sounds: {os.path.relpath(out / 'audio')}", flush=True)
    return 1 if failed else 0


def check_needs(work: Workspace, tasks: list[Task]) -> None:
    """Raises FileNotFoundError or ValueError, with the notebook and the mend, where something that it needs is missing.

    The embedded data set is not checked, because it is made later.
    """
    made = () if work.own_data else ("data", "test", "genres", "segments")
    for task in tasks:
        try:
            standalone.check(work, tuple(need for need in NEEDS.get(task.name, ()) if need not in made))
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{task.name}: {error}") from None


def limits(work: Workspace) -> list[str]:
    """Lines to print before an a100 run: what it will leave out here, and whether GPU memory may be too small."""
    if work.profile.name != "a100":
        return []
    lines = [f"not run: {why}" for why in (laion_missing(), riffusion_missing()) if why]
    device = torch.device(work.device or "cpu")
    free = torch.cuda.mem_get_info(device)[0] / 1e9 if device.type == "cuda" else GPU_GB
    if free < GPU_GB:
        lines.append(f"{device}: {free:.0f} GB of memory are free, {GPU_GB} are wanted: free some, or use a larger GPU")
    return lines


def tasks_of(request: Request, out: Path) -> list[Task]:
    """The requested notebooks, in order. Raises ValueError or FileNotFoundError where the request cannot be met."""
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
    """Lock the folder for this run. Raises ValueError where another run holds it."""
    place = runs_dir() / "locks" / f"{hashlib.sha256(str(out).encode()).hexdigest()[:12]}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(place, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{out}: another run is writing there: wait for it, or choose another --out") from None


def prepare_data(work: Workspace, tasks: list[Task]) -> None:
    """Render the embedded music where a notebook needs it and it is missing; for a preflight also make the stand-ins.

    Raises ValueError where the music would not fit on the disk.
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
    """Raises ValueError where the disk of `folder`, which may not exist yet, has less than `needed` bytes free."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = disk_usage(there).free
    if free < needed:
        mend = "free some space, or set MOUSAI_HOME to a larger disk, or MOUSAI_DATA to music of your own"
        raise ValueError(f"{folder}: needs up to {needed / 1e9:.0f} GB for music, {free / 1e9:.0f} GB are free: {mend}")


class Run:
    """One run: its tasks, the folder it writes to, and the profile's log of earlier runs."""

    def __init__(self, request: Request, tasks: list[Task], out: Path):
        self.request = request
        self.tasks = tasks
        self.out = out
        self.log = RunLog(runs_dir() / "run_logs" / f"{request.profile}.jsonl")

    def due(self) -> list[str]:
        """The notebooks that would run: their result is not valid, or one that they depend on would run."""
        due: list[str] = []
        for task in self.tasks:
            if self.request.force or not set(due).isdisjoint(task.upstream) or not self.still_good(task)[1]:
                due.append(task.name)
        return due

    def preview(self) -> None:
        """Print for each notebook whether it would run."""
        due = self.due()
        for task in self.tasks:
            print(f"{task.name} {'would run' if task.name in due else 'is still valid'}", flush=True)

    def announce(self, usual: dict[str, float]) -> None:
        """Print what the run will do, and how long it may take."""
        due = self.due()
        what = f"{len(self.tasks)} notebooks, {len(due)} to run"
        took = f": {in_words(usual[name] for name in due)}" if due else ""
        print(f"{self.request.profile}: {what}{took}; then the report", flush=True)

    def usual_seconds(self) -> dict[str, float]:
        """Seconds that each notebook took when it last succeeded here, else by the report, else 0."""
        before = {task.name: self.log.last(notebook=task.name, status="ok") for task in self.tasks}
        stated = from_report(self.out, [name for name, entry in before.items() if entry is None])
        return {name: entry["seconds"] if entry else stated[name] for name, entry in before.items()}

    def all(self, display: ProgressDisplay) -> set[str]:
        """Run the tasks in order; return the names of those that failed, or depend on one that did."""
        failed: set[str] = set()
        for task in self.tasks:
            cause = next((other for other in task.upstream if other in failed), None)
            if cause:
                execute.forget(self.out, task.name)
                self.note(display, task, "skipped", why=f"{cause} failed")
                failed.add(task.name)
            elif failed and not self.request.keep_going:  # what it wrote earlier may still be valid
                self.note(display, task, "skipped", why=STOPPED)
            elif not self.one(display, task):
                failed.add(task.name)
        return failed

    def one(self, display: ProgressDisplay, task: Task) -> bool:
        """Run one notebook unless its result is still valid; return whether it is valid now."""
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
        """(the notebook's key, whether its result is valid: a run with this key wrote it, and no file has changed)."""
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
        """Show how a notebook ended, as "04_dmae_training ok 143 s", and log it."""
        display.ended(task.name, status, seconds, why)
        more |= {"error": why} if why else {}
        self.log.add(notebook=task.name, out=str(self.out), status=status, seconds=round(seconds or 0, 1), **more)
