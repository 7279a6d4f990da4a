"""Monitor the kernel that a notebook runs in: which cell, how long, how much memory, and how it ended."""

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

TICK = 5.0  # seconds between two measurements
COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))  # of processes killed for lack of memory


@dataclass(frozen=True)
class Pulse:
    """The state of a running notebook: cell i of n, seconds so far, memory in GB of the kernel and its children."""

    cell: int
    cells: int
    seconds: float
    memory_gb: float


class Ended(RuntimeError):
    """A notebook failed. status: "failed", "killed" or "timeout". The text says why in a few lines."""

    def __init__(self, status: str, why: str):
        super().__init__(why)
        self.status = status


class Watch:
    """A thread that looks at the kernel every `TICK` s and calls `on_pulse`; it kills the kernel after `limit` s."""

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
        """Called by papermill, which adds a cell of parameters; so `cell_index` counts the notebook's cells from 1."""
        self.cell = max(1, cell_index)

    def watch(self) -> None:
        """The thread's work, until the notebook ends."""
        while not self.stop.wait(TICK):
            processes = kernel_processes()
            seconds = time.monotonic() - self.started
            memory = resident_gb(processes)
            self.peak_gb = max(self.peak_gb, memory)
            with suppress(OSError, ValueError):  # where the output is closed, the limit must still hold
                self.on_pulse(Pulse(self.cell, self.cells, seconds, memory))
            if self.limit is not None and seconds > self.limit and processes:
                self.late = True
                for process in processes:
                    with suppress(psutil.Error):
                        process.kill()

    def death(self, said: str) -> Ended:
        """Why the kernel died: time limit, lack of memory, or else `said`, what the kernel's client reported."""
        if self.late:
            return Ended("timeout", f"not done after {self.limit:.0f} s: give it longer with --timeout")
        if memory_kills() > self.killed_before:
            seen = f"last seen with {self.peak_gb:.1f} of {psutil.virtual_memory().total / 1e9:.1f} GB"
            return Ended("killed", f"the machine ran out of memory, {seen}: close other programs, or add memory")
        return Ended("killed", f"the kernel died: {said}")


def kernel_processes() -> list[psutil.Process]:
    """The kernels that this process has started, and all their child processes."""
    kernels = []
    with suppress(psutil.Error):
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                kernels += [child, *child.children(recursive=True)] if "ipykernel_launcher" in child.cmdline() else []
    return kernels


def resident_gb(processes: list[psutil.Process]) -> float:
    """Their resident memory in GB (1e9 bytes); a process that has just ended counts as 0."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e9


def memory_kills() -> int:
    """A counter that grows when Linux kills a process for lack of memory; 0 where there is no such counter."""
    total = 0
    for counter in COUNTERS:
        with suppress(OSError, ValueError):
            total += sum(int(n) for n in re.findall(r"^oom_kill (\d+)$", counter.read_text(), re.MULTILINE))
    return total


@contextmanager
def own_kernel(folder: Path, offline: str) -> Iterator[None]:
    """For the block, the kernel "python3" is this interpreter, whatever kernels are installed, without the user's
    start-up files.

    folder: for the kernel's files. offline: name of the profile; only a100 may access the Hugging Face hub.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
        "display_name": "Python 3",
        "language": "python",
    }
    write_text(json.dumps(spec), folder / "kernels" / "python3" / "kernel.json")
    changes = {"JUPYTER_PATH": str(folder), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder)}
    for name, own in (("MOUSAI_DATA", user_data_root()), ("MOUSAI_WEIGHTS", user_weights())):
        changes |= {name: str(own)} if own else {}  # absolute, because a kernel runs in the notebooks' folder
    if offline != "a100":
        changes["HF_HUB_OFFLINE"] = "1"
    with patch.dict(os.environ, changes):
        yield
