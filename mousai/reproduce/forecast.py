"""How long notebooks may take here, before any has run here: what they took for the report, at this machine's speed."""

import json
from collections.abc import Iterable
from pathlib import Path

from mousai.bench.efficiency import machine_peak

TIMED = "09_time_and_memory"  # whose bench, where it was run, says how fast the report's machine is


def from_report(out: Path, names: Iterable[str]) -> dict[str, float]:
    """Seconds of each notebook by the results in `out`, times that machine's speed over this one's; 0 where unknown.

    This machine's speed is measured, in about two seconds. Without a bench in the report the seconds are as they were.
    """
    took = {name: content(out, name).get("provenance", {}).get("seconds", 0.0) for name in names}
    peak = content(out, TIMED).get("data", {}).get("bench", {}).get("peak_gflop_s")
    scale = peak / machine_peak() if peak and any(took.values()) else 1.0
    return {name: scale * seconds for name, seconds in took.items()}


def content(out: Path, name: str) -> dict:
    """A result as it stands in its file, also of an older version; empty where there is none that can be read."""
    try:
        found = json.loads((out / "results" / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def in_words(seconds: Iterable[float]) -> str:
    """ "about 12 minutes", and how many are not known."""
    seconds = list(seconds)
    minutes = max(1, round(sum(seconds) / 60))
    known = f"about {minutes} minute{'s' * (minutes > 1)}" if any(seconds) else ""
    unknown = f"{seconds.count(0.0)} not timed yet" if 0.0 in seconds else ""
    return ", ".join(filter(None, (known, unknown)))
