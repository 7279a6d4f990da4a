"""Whole files or none: what is written goes to a temporary name and is renamed, so that a reader never sees half of it;
and where files live.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FULL = 2**20  # a disk with fewer bytes left is full


def runs_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where data, checkpoints and logs live: `MOUSAI_HOME`, else `runs/` beside the package."""
    return Path(environment.get("MOUSAI_HOME") or Path(__file__).resolve().parent.parent / "runs")


def user_data_root(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own data set, a folder of `mousai data import` or `data shards`: `MOUSAI_DATA`, or None."""
    named = environment.get("MOUSAI_DATA")
    return Path(named).resolve() if named else None


def user_weights(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own folder of weights, in place of those the package ships: `MOUSAI_WEIGHTS`, or None."""
    named = environment.get("MOUSAI_WEIGHTS")
    return Path(named).resolve() if named else None


def sha256(path: Path) -> str:
    """The file's sha256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to, renamed at the end, removed where writing fails. The folder is made.

    Raises OSError, errno ENOSPC, where the disk became full, whatever the library says that was writing; what was at
    `path` before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    temporary = path.with_name(f".{digest[:12]}.{os.getpid()}.tmp")  # short, and each process has its own
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name without the content
        os.replace(temporary, path)
    except Exception as error:  # soundfile, safetensors and matplotlib each have words of their own for it
        if isinstance(error, OSError) or shutil.disk_usage(path.parent).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write text in UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(line: str, path: Path) -> None:
    """One more line at the end of a file, in one write, on the disk when this returns.

    It stands by itself also after a line that an interruption cut off. Raises OSError where the disk is full.
    """
    with path.open("ab+", buffering=0) as file:
        cut_off = file.seek(0, os.SEEK_END) > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
        data = b"\n" * cut_off + line.encode() + b"\n"
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())


def lines_of(path: Path) -> list[str]:
    """The lines of a JSON Lines file, or none where there is no file; a letter that Unicode calls a line end is not."""
    return path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n") if path.is_file() else []
