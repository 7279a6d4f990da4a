"""Draw a report from its results, in seconds and reproducibly: tables, figures, summary.json and README.md.

Nothing is measured here: our numbers come from results/*.json, the paper's from paper.json.
"""

from pathlib import Path

import pandas as pd
from tabulate import tabulate

from mousai.files import write_text
from mousai.report import claims, figures, tables, thresholds
from mousai.report.notebooks import UPSTREAM
from mousai.report.page import excerpt, report_page
from mousai.report.record import write_json
from mousai.report.results import SUMMARY, Results
from mousai.report.table3 import table3
from mousai.report.verdicts import Row

# The sections of the report in order, each with the function that returns its rows.
SECTIONS = {
    "claims": claims.rows,
    "table1": tables.table1,
    "table2": tables.table2,
    "table3": table3,
    "table4": tables.table4,
    "table5": tables.table5,
    "figure5": tables.figure5,
    "figure6": tables.figure6,
    "thresholds": thresholds.rows,
}
FIGURES = {"figure5": figures.figure5, "figure6": figures.figure6}
BEGIN, END = "<!-- results: drawn by mousai report -->", "<!-- end of results -->"
COLUMNS = ["item", "paper", "ours", "verdict", "rule or reason"]
OWN_COLUMNS = {"claims": claims.COLUMNS, "thresholds": thresholds.COLUMNS}


def build(out: str | Path, profile: str) -> Path:
    """Draw everything under `out` again from out/results; return the README's path.

    Raises FileNotFoundError where there are no results, ValueError where they are damaged or of another profile.
    """
    out = Path(out)
    results = Results.existing(out, profile)
    sections = {key: rows(results) for key, rows in SECTIONS.items()}
    for key, rows in sections.items():
        write_table(rows, out / "tables" / numbered(key), OWN_COLUMNS.get(key, COLUMNS))
    for key in FIGURES:
        draw(key, results, out)
    write_json(summary(results), out / "results" / SUMMARY)
    write_text(report_page(results, sections), out / "README.md")
    return out / "README.md"


def front_page(out: Path, profile: str, page: Path) -> None:
    """Replace the tables between the two marks of `page`, docs/reproduction.md, by those of the report in `out`.

    Raises ValueError where the page has no such marks.
    """
    results = Results.read(out, profile)
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"{page}: no lines {BEGIN} and {END}: put them where the table belongs")
    rows = excerpt({key: rows(results) for key, rows in SECTIONS.items()})
    write_text(f"{head}{BEGIN}\n\n{rows}\n{END}{tail}", page)


def numbered(key: str) -> str:
    """ "table1" -> "table_1"; a key without a number, as "claims", stays as it is."""
    return f"{key[:-1]}_{key[-1]}" if key[-1].isdigit() else key


def write_table(rows: list[Row], stem: Path, columns: list[str]) -> None:
    """Write the rows as CSV and as Markdown, to `stem` with both endings."""
    frame = pd.DataFrame(rows).set_axis(columns, axis=1)
    write_text(frame.to_csv(index=False, lineterminator="\n"), stem.with_suffix(".csv"))
    write_text(tabulate(frame, "keys", "pipe", showindex="never") + "\n", stem.with_suffix(".md"))


def draw(key: str, results: Results, out: Path) -> None:
    """Draw figures/figure_N.png, or remove an old one where there is nothing to draw."""
    path = out / "figures" / f"{numbered(key)}.png"
    data = results.data(key)
    if data is None:
        path.unlink(missing_ok=True)
    else:
        FIGURES[key](data, path)


def summary(results: Results) -> dict[str, dict]:
    """The content of summary.json: every metric's id -> {value, low, high, n, units, file}; the claims; the minutes."""
    keys = ("value", "low", "high", "n", "units", "units_of", "file", "quartiles")
    index = {name: {key: metric[key] for key in keys if key in metric} for name, metric in results.metrics().items()}
    return index | claims.summary(results) | {"report.minutes": minutes(results)}


def minutes(results: Results) -> dict:
    """Minutes that all notebooks of the report took together, how many there are, and their processors."""
    runs = [result["provenance"] for name, result in results.notebooks.items() if name in UPSTREAM]
    processors = sorted({run.get("processor", "") for run in runs})
    return {"value": round(sum(run["seconds"] for run in runs) / 60, 1), "n": len(runs), "processors": processors}
