"""One writer at a time in a folder: a second process waits and names the first, or is refused."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
GUARD = 'put what starts it below `if __name__ == "__main__":`'
WRITER = ".writer.json"  # process id and command line of the one that holds the lock


@contextmanager
def one_writer(folder: Path, wait: bool = True, share: str = "") -> Iterator[None]:
    """Hold the lock of `folder` for the block; a missing folder is made, and removed if nothing was written to it.

    Where another process holds the lock, print one line on stderr that names it, and wait; without `wait` raise
    ValueError instead. Writers with different `share` do not exclude each other. Raises RuntimeError in a worker
    process that is still importing its parent's script, because both would wait for each other for ever.
    """
    if getattr(current_process(), "_inheriting", False):
        raise RuntimeError(f"{folder}: a worker process is running your script a second time: {GUARD}")
    missing = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{LOCK}{share}"
    note = folder / f"{WRITER}{share}"
    lock = FileLock(folder / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        writer = writer_of(note)
        if not wait:
            raise ValueError(f"{folder}: {writer} is writing there: wait for it, or choose another folder") from None
        print(f"{folder}: waiting for {writer}, which is writing there", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        about = {"process": os.getpid(), "command": " ".join(sys.argv)[:200]}
        note.write_text(json.dumps(about), encoding="utf-8", errors="replace")
        yield
    finally:
        note.unlink(missing_ok=True)
        if missing and [path.name for path in folder.iterdir()] == [name]:
            shutil.rmtree(folder)
        lock.release()


def writer_of(note: Path) -> str:
    """The process that holds the lock, as text, from the file it wrote; "another process" where that is unreadable."""
    try:
        about = json.loads(note.read_text(encoding="utf-8", errors="replace"))
        return f"process {about['process']} ({about['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`. Only the holder of the lock may call it."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
