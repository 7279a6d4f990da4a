"""What ran, when, how it ended: one JSON line each, only ever appended."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mousai.files import append_line, lines_of


class Ledger:
    """A file of statuses; a line that an interruption tore is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **entry: Any) -> None:
        """Append one entry; the time is added, only for people to read. Raises OSError where the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        append_line(json.dumps(entry), self.path)

    def entries(self) -> list[dict]:
        """All of them, oldest first."""
        return [entry for line in lines_of(self.path) if (entry := parsed(line)) is not None]

    def last(self, **wanted: Any) -> dict | None:
        """The newest entry whose fields are `wanted`, or None."""
        fits = [entry for entry in self.entries() if all(entry.get(key) == value for key, value in wanted.items())]
        return fits[-1] if fits else None


def parsed(line: str) -> dict | None:
    """The entry of one line, None where it is not whole."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
