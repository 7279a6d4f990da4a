"""Files are written whole or not at all: to a temporary name that is then renamed, so that nobody reads half a file.
Also which environment variables name the folders.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FULL = 2**20  # bytes: a disk with fewer left counts as full


def runs_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of data, checkpoints and logs: `MOUSAI_HOME`, else `runs/` beside the package."""
    return Path(environment.get("MOUSAI_HOME") or Path(__file__).resolve().parent.parent / "runs")


def user_data_root(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own data set, a folder that `mousai data import` or `data shards` made: `MOUSAI_DATA`, or None."""
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
    """Yield a temporary path to write to. At the end it is renamed to `path`; after an error it is removed.

    A missing folder is made. Raises OSError (ENOSPC) where the disk became full, whatever error the writing library
    raised. After any error what was at `path` before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()
    temporary = path.with_name(f".{digest[:12]}.{os.getpid()}.tmp")  # short; its own in each process
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name without the content
        os.replace(temporary, path)
    except Exception as error:  # on a full disk soundfile, safetensors and matplotlib each raise their own
        if isinstance(error, OSError) or shutil.disk_usage(path.parent).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write text in UTF-8, whole or not at all (`atomic_write`)."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(line: str, path: Path) -> None:
    """Append a line to a file in one write; it is on the disk when this returns.

    A last line that an interruption cut off is ended first. Raises OSError where the disk is full.
    """
    with path.open("ab+", buffering=0) as file:
        cut_off = file.seek(0, os.SEEK_END) > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
        data = b"\n" * cut_off + line.encode() + b"\n"
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())


def lines_of(path: Path) -> list[str]:
    """The lines of a JSON Lines file; none where there is no file. Unlike for `splitlines`, only a newline ends one."""
    return path.read_bytes().decode(errors="replace").removesuffix("\n").split("\n") if path.is_file() else []
