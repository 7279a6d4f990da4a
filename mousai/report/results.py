"""Read the results of one report folder, from which tables and figures are drawn."""

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PAPER = Path(__file__).with_name("paper.json")
FORMAT = 3  # of results/*.json: increase it when names of metrics or of what is stored change
SUMMARY = "summary.json"  # the index of all metrics, drawn from the results beside it

# Table or figure -> the notebook that writes its data.
WRITERS = {
    "table1": "00_text2music",
    "table3": "09_time_and_memory",
    "table4": "06_clap_score",
    "table5": "10_paper_report",
    "figure5": "07_genre_confusion",
    "figure6": "08_long_term_amplitude",
    "attention": "08_long_term_amplitude",
}
PEOPLE = "listening"  # name of the result that `mousai listen --collect` writes; missing where nobody was asked


@cache
def paper() -> dict[str, Any]:
    """The paper's own numbers and claims, each with its certainty mark, from paper.json."""
    return json.loads(PAPER.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Results:
    """All results/*.json of a report folder. notebooks: name of a notebook -> the content of its result."""

    profile: str
    notebooks: dict[str, dict]

    @classmethod
    def read(cls, out: Path, profile: str) -> "Results":
        """Read the results in `out`. Raises ValueError where one is damaged, of another profile, or another version."""
        paths = [path for path in sorted((out / "results").glob("*.json")) if path.name != SUMMARY]
        return cls(profile, {path.stem: read_result(path, profile) for path in paths})

    @classmethod
    def existing(cls, out: Path, profile: str) -> "Results":
        """As `read`, but raises FileNotFoundError, with the command to run, where there are none."""
        results = cls.read(out, profile)
        if not results.notebooks:
            raise FileNotFoundError(f"{out}: no results here: run `mousai reproduce --profile {profile}` first")
        return results

    def data(self, key: str) -> Any | None:
        """What the notebook in charge of `key` (see `WRITERS`) stored, joined with the listeners' answers, or None."""
        stored = self.notebooks.get(WRITERS[key], {}).get("data", {}).get(key)
        people = self.notebooks.get(PEOPLE, {}).get("data", {}).get(key)
        return stored if people is None else joined(stored or {}, people)

    def why_missing(self, key: str) -> str:
        """One line that says why there is no data for `key`."""
        name = WRITERS[key]
        if name not in self.notebooks:
            return f"notebook {name} has no result here: it failed or was not run"
        reasons = self.notebooks[name]["not_run"]
        return next((why for item, why in reasons.items() if key in item), f"notebook {name} wrote no {key}")

    def metrics(self) -> dict[str, dict]:
        """Id -> metric, with the file it came from, in the order of the ids."""
        flat = {
            name: metric | {"file": f"results/{notebook}.json"}
            for notebook, result in self.notebooks.items()
            for name, metric in result["metrics"].items()
        }
        return dict(sorted(flat.items()))

    def not_run(self) -> list[tuple[str, str, str]]:
        """(notebook, what, why) of everything that was not measured, and that no other result holds."""
        measured = self.metrics()
        return [
            (notebook, item, why)
            for notebook, result in self.notebooks.items()
            for item, why in sorted(result["not_run"].items())
            if item not in measured
        ]

    def reasons(self) -> dict[str, str]:
        """Metric -> why no result holds it, as far as a notebook recorded that."""
        return {item: why for _, item, why in self.not_run()}


def joined(stored: dict, people: dict) -> dict:
    """Both dictionaries, merged one level deep, so that listeners are one of the classifiers of Figure 5."""
    below = {key: {**stored[key], **value} for key, value in people.items() if isinstance(stored.get(key), dict)}
    return stored | people | below


def check_own(out: Path, profile: str) -> None:
    """Raises ValueError where the folder holds another profile's results, because a run would overwrite them."""
    for path in sorted((out / "results").glob("*.json")):
        try:
            other = json.loads(path.read_text(encoding="utf-8"))["profile"]
        except (ValueError, KeyError, TypeError):
            continue  # the summary, or a damaged result, which a run makes again
        if other != profile:
            raise ValueError(f"{out}: holds results of profile {other!r}, not {profile!r}: choose another --out")


def of_another_version(out: Path, name: str) -> bool:
    """Whether this notebook's stored result has another format, so that `Results.read` refuses it."""
    with suppress(OSError, ValueError, AttributeError):
        return json.loads((out / "results" / f"{name}.json").read_text(encoding="utf-8")).get("format") != FORMAT
    return False


def read_result(path: Path, profile: str) -> dict:
    """One notebook's result. Raises ValueError where the file is damaged, of another profile, or of another version."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        found = result["profile"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path.name}: no result of a notebook: remove it and run that notebook again") from None
    if found != profile:
        raise ValueError(f"{path.name}: of profile {found!r}, not {profile!r}: choose another folder")
    if result.get("format") != FORMAT:
        again = f"run `mousai reproduce --profile {profile}` again"
        raise ValueError(f"{path.name}: written by another version of this package: {again}")
    return result
