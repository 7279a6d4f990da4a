"""What ran, when, how it ended: one JSON line each, only ever appended, so that no interruption takes earlier lines."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mousai.files import append_line, lines_of


class RunLog:
    """A file of entries; a line that an interruption cut short is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **entry: Any) -> None:
        """Append one entry; the time is added, only for people to read. Raises OSError where the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}), self.path)

    def entries(self) -> list[dict]:
        """All of them, oldest first."""
        parsed = [parse(line) for line in lines_of(self.path)]
        return [entry for entry in parsed if isinstance(entry, dict)]

    def last(self, **wanted: Any) -> dict | None:
        """The newest entry whose fields are `wanted`, or None."""
        fits = [entry for entry in self.entries() if wanted.items() <= entry.items()]
        return fits[-1] if fits else None


def parse(line: str) -> Any:
    """The content of one line, None where it is not whole."""
    try:
        return json.loads(line)
    except ValueError:
        return None
