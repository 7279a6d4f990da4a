"""The rows of Table 3, time and memory: each number of ours with quartiles, number of runs, and settings."""

from dataclasses import replace

from mousai.report.results import Results, paper
from mousai.report.verdicts import NOT_COMPARABLE, NOT_RUN, Row, direction, figure, interval, not_run, number


def table3(results: Results) -> list[Row]:
    """Time and memory for about 43 s of music: ours, the paper's size, Riffusion, and the ratio of the last two.

    The paper's machine is unknown, so that times and memory cannot be compared; the ratio is of two systems on one
    machine. In the `a100` profile ours is of the paper's size.
    """
    said = paper()["table3"]
    stored = results.data("table3")
    why = results.why_missing("table3")
    ours, size, riffusion = (system(stored, name) for name in ("ours", "paper_size", "riffusion"))
    absent = (stored or {}).get("not_run", {}).get("riffusion", why)
    full = results.profile == "a100"
    items = {"seconds": ("inference time", " s"), "memory_gb": ("memory", " GB"), "time_per_audio": ("time/audio", "")}
    rows = []
    for key, (label, unit) in items.items():
        mine = said[key]["Moûsai"]
        rows.append(measured(f"{label}, Moûsai", mine, ours, key, unit, why))
        if not full:
            item = f"{label}, Moûsai at the paper's size"
            rows.append(measured(item, mine, size, key, unit, absent))
        rows.append(measured(f"{label}, Riffusion", said[key]["Riffusion"], riffusion, key, unit, absent))
    return [*rows, faster(said["time_per_audio"], ours if full else size, riffusion, absent)]


def system(stored: dict | None, name: str) -> dict:
    """The row of system `name` in the stored Table 3, empty where there is none."""
    return next((row for row in (stored or {}).get("rows", []) if row["system"] == name), {})


def measured(item: str, said: float, ours: dict, key: str, unit: str, why: str) -> Row:
    """A row with one number of a system and the paper's: the median, for times its quartiles, and the number of runs.

    key: of the number in `ours`. why: the reason where it was not run.
    """
    row = number(item, said, "B", ours.get(key), unit, why)
    if row.verdict == NOT_RUN:
        return row
    row = replace(row, verdict=NOT_COMPARABLE, rule=f"another machine than the paper's, which is unknown: {how(ours)}")
    if "n" not in ours:
        return row
    per = {"seconds": 1.0, "time_per_audio": ours["audio_seconds"]}.get(key)
    ends = (None, None) if per is None else (end / per for end in ours["seconds_quartiles"])
    quartiles = "" if per is None else "quartiles "
    shown = interval(ours[key], *ends).replace("[", f"[{quartiles}") + unit
    return replace(row, ours=f"{shown}, n {ours['n']}")


def how(row: dict) -> str:
    """The settings of a row in words: device, threads, precision, steps, evaluations of each network (NFE)."""
    if not row:
        return ""
    nfe = ", ".join(f"{part} {n}" for part, n in row.get("calls", {}).items())
    machine = f"{row['device']}, {row['threads']} threads, {row.get('precision', '')}".removesuffix(", ")
    said = [machine, steps_of(row), f"network evaluations: {nfe}" if nfe else "", row.get("how", "")]
    return "; ".join(part for part in said if part)


def steps_of(row: dict) -> str:
    """The sampling steps of a row in words; where there are two numbers, of stage 2 and of stage 1."""
    steps = row["steps"]
    return f"{steps[0]} and {steps[1]} steps a window" if isinstance(steps, list) else f"{steps} steps"


def faster(said: dict[str, float], ours: dict, riffusion: dict, why: str) -> Row:
    """The row with Riffusion's time over Moûsai's for equally much music, both on this machine."""
    item = "Riffusion's time over Moûsai's, per second of music"
    ratio = said["Riffusion"] / said["Moûsai"]
    if not (ours and riffusion):
        return not_run(item, f"{figure(ratio)} [B]", why)
    mine = riffusion["time_per_audio"] / ours["time_per_audio"]
    text = f"{figure(mine)} ({steps_of(riffusion)} against {steps_of(ours)})"
    return direction(item, f"{figure(ratio)} [B]", text, mine > 1, "above 1; the steps decide, and the paper's are [?]")
