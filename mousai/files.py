"""Where files live, and whole files or none: what is written goes aside and is renamed, so that a reader never sees
half of it.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """Where data, checkpoints and ledgers live: `MOUSAI_HOME`, else `runs/` beside the package."""
    return Path(os.environ.get("MOUSAI_HOME") or Path(__file__).resolve().parent.parent / "runs")


def sha256(path: Path) -> str:
    """The file's sha256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, renamed at the end, removed where writing fails. The folder is made.

    What a killed run leaves is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write text in UTF-8, aside and renamed."""
    with aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
