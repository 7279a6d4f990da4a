"""Estimate how long notebooks take on this machine from how long they took for the report, before any has run here."""

import json
from collections.abc import Iterable
from pathlib import Path

from mousai.bench.efficiency import machine_peak

TIMED = "09_time_and_memory"  # the notebook whose bench, where it was run, holds the speed of the report's machine


def from_report(out: Path, names: Iterable[str]) -> dict[str, float]:
    """Estimated seconds of each notebook: those of the results in `out`, scaled by the speed of both machines; 0 where
    there is no result.

    This machine's speed is measured, which takes about two seconds. Without a bench in the report nothing is scaled.
    """
    took = {name: content(out, name).get("provenance", {}).get("seconds", 0.0) for name in names}
    peak = content(out, TIMED).get("data", {}).get("bench", {}).get("peak_gflop_s")
    scale = peak / machine_peak() if peak and any(took.values()) else 1.0
    return {name: scale * seconds for name, seconds in took.items()}


def content(out: Path, name: str) -> dict:
    """A notebook's result, also one of an older format; empty where there is none that can be read."""
    try:
        found = json.loads((out / "results" / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def in_words(seconds: Iterable[float]) -> str:
    """ "about 12 minutes, 3 not timed yet": the sum, and how many of the numbers are 0, which is unknown."""
    seconds = list(seconds)
    minutes = max(1, round(sum(seconds) / 60))
    known = f"about {minutes} minute{'s' * (minutes > 1)}" if any(seconds) else ""
    unknown = f"{seconds.count(0.0)} not timed yet" if 0.0 in seconds else ""
    return ", ".join(filter(None, (known, unknown)))
