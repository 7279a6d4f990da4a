"""The log of what ran, when and how it ended: JSON lines, only appended, so that an interruption loses none of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mousai.files import append_line, lines_of


class RunLog:
    """A file of entries; a line that an interruption cut off is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **entry: Any) -> None:
        """Append one entry, with the time added for people to read. Raises OSError where the disk is full."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_line(json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}), self.path)

    def entries(self) -> list[dict]:
        """All entries, oldest first."""
        parsed = [parse(line) for line in lines_of(self.path)]
        return [entry for entry in parsed if isinstance(entry, dict)]

    def last(self, **wanted: Any) -> dict | None:
        """The newest entry that has these values of these fields, or None."""
        fits = [entry for entry in self.entries() if wanted.items() <= entry.items()]
        return fits[-1] if fits else None


def parse(line: str) -> Any:
    """The content of one line, None where it is not JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None
