"""The process that a notebook runs in, seen from outside: which cell, how long, how much memory, and how it ended."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import nbformat
import psutil

from mousai.files import user_data_root, user_weights, write_text

TICK = 5.0  # seconds between two looks
COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))  # of what Linux killed for want of memory


@dataclass(frozen=True)
class Pulse:
    """The state of a running notebook: cell i of n, seconds so far, memory of the kernel and all that it started."""

    cell: int
    cells: int
    seconds: float
    memory_gb: float


class Ended(RuntimeError):
    """A notebook that did not end well: `status` is failed, killed or timeout, the text says why in a few lines."""

    def __init__(self, status: str, why: str):
        super().__init__(why)
        self.status = status


class Watch:
    """Looks at the kernel every `TICK` s from a thread, calls `on_pulse`, kills the kernel after `limit` seconds."""

    def __init__(self, notebook: Path, on_pulse: Callable[[Pulse], None], limit: float | None = None):
        self.cells = len(nbformat.read(notebook, as_version=4).cells)
        self.on_pulse = on_pulse
        self.limit = limit
        self.cell = 0
        self.peak_gb = 0.0
        self.late = False
        self.started = time.monotonic()
        self.killed_before = memory_kills()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def cell_started(self, cell: object, cell_index: int) -> None:
        """For papermill, which adds one cell, the parameters; so the count runs from 1."""
        self.cell = max(1, cell_index)

    def watch(self) -> None:
        """The thread's work, until the notebook ends."""
        while not self.stop.wait(TICK):
            processes = kernel_processes()
            seconds = time.monotonic() - self.started
            memory = resident_gb(processes)
            self.peak_gb = max(self.peak_gb, memory)
            with suppress(OSError, ValueError):  # a closed output; the limit holds all the same
                self.on_pulse(Pulse(self.cell, self.cells, seconds, memory))
            if self.limit is not None and seconds > self.limit and processes:
                self.late = True
                for process in processes:
                    with suppress(psutil.Error):
                        process.kill()

    def death(self, said: str) -> Ended:
        """Why the kernel ended; `said` is what its client reports."""
        if self.late:
            return Ended("timeout", f"not done after {self.limit:.0f} s: give it longer with --timeout")
        if memory_kills() > self.killed_before:
            seen = f"last seen with {self.peak_gb:.1f} of {psutil.virtual_memory().total / 1e9:.1f} GB"
            return Ended("killed", f"the machine ran out of memory, {seen}: close what else runs, or take more memory")
        return Ended("killed", f"the kernel died: {said}")


def kernel_processes() -> list[psutil.Process]:
    """The kernels that this process has started, and all that they have started."""
    kernels = []
    with suppress(psutil.Error):
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                kernels += [child, *child.children(recursive=True)] if "ipykernel_launcher" in child.cmdline() else []
    return kernels


def resident_gb(processes: list[psutil.Process]) -> float:
    """Their resident memory in GB; a process that has just ended counts nothing."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e9


def memory_kills() -> int:
    """How many processes Linux has killed because memory was full; 0 where it cannot be known."""
    total = 0
    for counter in COUNTERS:
        with suppress(OSError, ValueError):
            total += sum(int(n) for n in re.findall(r"^oom_kill (\d+)$", counter.read_text(), re.MULTILINE))
    return total


@contextmanager
def own_kernel(folder: Path, offline: str) -> Iterator[None]:
    """The kernel is this very interpreter, whatever kernels are installed, with no start-up files of the user's.

    Every profile but a100 is kept from asking a hub for anything.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_text(json.dumps(spec), folder / "kernels" / "python3" / "kernel.json")
    changes = {"JUPYTER_PATH": str(folder), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder)}
    for name, own in (("MOUSAI_DATA", user_data_root()), ("MOUSAI_WEIGHTS", user_weights())):
        changes |= {name: str(own)} if own else {}  # absolute: a kernel runs in the notebooks' folder
    if offline != "a100":
        changes["HF_HUB_OFFLINE"] = "1"
    with patch.dict(os.environ, changes):
        yield
