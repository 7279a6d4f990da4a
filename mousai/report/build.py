"""Redraw a report from its results, in seconds and identically: tables, figures, summary.json and README.md.

Nothing is measured here and nothing is typed by hand: numbers come from results/*.json, the paper's from paper.json.
"""

import csv
import io
from pathlib import Path

import pandas as pd

from mousai.files import write_text
from mousai.report import figures, tables
from mousai.report import thresholds as bars
from mousai.report.page import excerpt, readme, with_contents
from mousai.report.record import write_json
from mousai.report.results import Results
from mousai.report.verdicts import Row

# The order of the report: its sections and who fills them.
SECTIONS = {
    "table1": tables.table1,
    "table2": tables.table2,
    "table3": tables.table3,
    "table4": tables.table4,
    "table5": tables.table5,
    "figure5": tables.figure5,
    "figure6": tables.figure6,
    "claims": tables.claims,
    "bars": bars.bars,
}
FIGURES = {"figure5": figures.figure5, "figure6": figures.figure6}
BEGIN, END = "<!-- results: drawn by mousai report -->", "<!-- end of results -->"
COLUMNS = ["item", "paper", "ours", "verdict", "rule or reason"]


def build(out: str | Path, profile: str) -> Path:
    """Redraw everything under `out` from out/results; return the README's path.

    Raises FileNotFoundError where there are no results, ValueError where they are broken or of another profile.
    """
    out = Path(out)
    results = Results.read(out, profile)
    if not results.notebooks:
        raise FileNotFoundError(f"{out}: no results here: run `mousai reproduce --profile {profile}` first")
    sections = {key: rows(results) for key, rows in SECTIONS.items()}
    for key, rows in sections.items():
        write_table(rows, out / "tables" / numbered(key), results.mark, COLUMNS if key != "bars" else bars.COLUMNS)
    for key in FIGURES:
        draw(key, results, out)
    write_json(summary(results), out / "results" / "summary.json")
    write_text(with_contents(readme(results, sections)), out / "README.md")
    return out / "README.md"


def front_page(out: Path, profile: str, page: Path) -> None:
    """Redraw the rows that ran between the two marks of the repository's README."""
    results = Results.read(out, profile)
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"{page}: no lines {BEGIN} and {END}: put them where the table belongs")
    rows = excerpt({key: rows(results) for key, rows in SECTIONS.items()})
    write_text(f"{head}{BEGIN}\n\n{rows}\n\n{END}{tail}", page)


def numbered(key: str) -> str:
    """ "table1" -> "table_1"; "claims" stays."""
    return f"{key[:-1]}_{key[-1]}" if key[-1].isdigit() else key


def frame(rows: list[Row], columns: list[str] = COLUMNS) -> pd.DataFrame:
    """The rows as a table: item | paper | ours | verdict | rule or reason."""
    cells = [[row.item, row.paper, row.ours, row.verdict, row.rule] for row in rows]
    return pd.DataFrame(cells, columns=pd.Index(columns))


def write_table(rows: list[Row], stem: Path, mark: str, columns: list[str]) -> None:
    """The same rows as CSV and as Markdown; `mark` goes before the first column's name."""
    columns = [mark + columns[0], *columns[1:]]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *frame(rows).to_numpy().tolist()])
    write_text(text.getvalue(), stem.with_suffix(".csv"))
    write_text(frame(rows, columns).to_markdown(index=False) + "\n", stem.with_suffix(".md"))


def draw(key: str, results: Results, out: Path) -> None:
    """Draw figures/figure_N.png, or take an old one away where there is nothing to draw."""
    path = out / "figures" / f"{numbered(key)}.png"
    data = results.data(key)
    if data is None:
        path.unlink(missing_ok=True)
    else:
        FIGURES[key](data, path)


def summary(results: Results) -> dict[str, dict]:
    """The flat index of every metric: {id: {value, low, high, n, file}}; times have quartiles beside them."""
    keys = ("value", "low", "high", "n", "file", "quartiles")
    return {name: {key: metric[key] for key in keys if key in metric} for name, metric in results.metrics().items()}
