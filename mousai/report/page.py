"""The pages that are drawn from results: a report's README.md, and the tables of docs/reproduction.md.

Their text is in templates/ (jinja2); the functions here compute the values that fill it.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from mousai.report import claims, thresholds
from mousai.report.notebooks import UPSTREAM
from mousai.report.results import Results, paper
from mousai.report.thresholds import counted
from mousai.report.verdicts import NOT_RUN, QUOTED, RULES, Row, interval

Sections = dict[str, list[Row]]  # "table1" .. "figure6", "claims", "thresholds" -> rows


def table(rows: list[list], columns: list[str]) -> str:
    """A Markdown table of the first cells of each row, as many as there are columns; vertical bars are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row[: len(columns)]] for row in rows]
    return tabulate(cells, columns, "pipe", disable_numparse=True)


def link(file: str) -> str:
    """A Markdown link to a file of the report, shown as the file's name."""
    return f"[{file.split('/')[-1]}]({file})"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.filters.update({"table": table, "link": link})


def render(template: str, **values: Any) -> str:
    """templates/`template`, filled with these values. Raises jinja2's UndefinedError where one is missing."""
    return ENVIRONMENT.get_template(template).render(values)


def report_page(results: Results, sections: Sections) -> str:
    """The whole report as Markdown; the same results give the same page."""
    compared = {key: rows for key, rows in sections.items() if key not in ("claims", "thresholds")}
    count = Counter(row.verdict for rows in compared.values() for row in rows)
    page = render(
        "report.md",
        profile=results.profile,
        claims=claims_of(sections),
        paper=paper(),
        verdicts=[[verdict, count[verdict], rule] for verdict, rule in RULES.items()],
        sections=[section(key, rows, results) for key, rows in compared.items()],
        thresholds=thresholds_of(sections),
        numbers=numbers(results),
        not_run=not_run(results),
        sounds=sounds(results),
        runs=runs(results),
    )
    return with_contents(page)


def section(key: str, rows: list[Row], results: Results) -> dict[str, Any]:
    """The template's values for one table or figure: title, picture ("" where there is none), rows, note."""
    drawn = key.startswith("figure") and results.data(key) is not None
    picture = f"figures/{key[:-1]}_{key[-1]}.png" if drawn else ""
    return {"title": paper()[key]["title"], "picture": picture, "rows": cells(rows), "note": paper()[key].get("note")}


def cells(rows: list[Row]) -> list[list[str]]:
    """The cells of each row, the verdict in bold."""
    return [[row.item, row.paper, row.ours, f"**{row.verdict}**", row.rule] for row in rows]


def thresholds_of(sections: Sections) -> dict[str, Any]:
    """Title, columns and rows of the project's own thresholds."""
    return {"title": thresholds.TITLE, "columns": thresholds.COLUMNS, "rows": cells(sections["thresholds"])}


def claims_of(sections: Sections) -> dict[str, Any]:
    """Title, columns and rows of the paper's claims, and what each level of confidence means."""
    title = paper()["claims"]["title"]
    return {
        "title": title,
        "columns": claims.COLUMNS,
        "rows": cells(sections["claims"]),
        "words": claims.CONFIDENCE,
    }


def excerpt(sections: Sections) -> str:
    """The tables for docs/reproduction.md: the claims, what of the paper's numbers was measured, every threshold."""
    measured = ("table3", "table4", "table5", "figure5", "figure6")
    rows = [
        [re.split("[:,]", paper()[key]["title"])[0], *row]
        for key in measured
        for row in cells([row for row in sections[key] if row.verdict not in (NOT_RUN, QUOTED)])
    ]
    return render("results.md", claims=claims_of(sections), rows=rows, thresholds=thresholds_of(sections))


def numbers(results: Results) -> list[list]:
    """A row for every metric: id, value with 95 % interval, n and units, and a link to its result file."""
    return [
        [
            f"`{name}`",
            interval(metric["value"], metric["low"], metric["high"]),
            counted(metric).removeprefix("n = "),
            link(metric["file"]),
        ]
        for name, metric in results.metrics().items()
    ]


def not_run(results: Results) -> list[list[str]]:
    """Rows (what, notebook, why) of what the notebooks could not measure, and of the notebooks without a result."""
    rows = [[f"`{item}`", notebook, why] for notebook, item, why in results.not_run()]
    absent = [name for name in UPSTREAM if name not in results.notebooks]
    return rows + [[name, name, "no result here: it failed or was not run"] for name in absent]


def sounds(results: Results) -> dict[str, list[str]]:
    """Notebook -> its sound files; notebooks without any are left out."""
    clips = {
        name: [file for file in result["artefacts"] if file.startswith("audio/")]
        for name, result in results.notebooks.items()
    }
    return {name: files for name, files in clips.items() if files}


def runs(results: Results) -> list[list]:
    """A row for each notebook: its executed copy, seed, seconds, peak memory in GB, machine, versions."""
    rows = []
    for name, result in results.notebooks.items():
        run = result["provenance"]
        chip = run.get("gpu") or run.get("processor", "")
        where = ", ".join(part for part in (run["device"], f"{run['threads']} threads", run["machine"], chip) if part)
        versions = f"Python {run['versions']['python']}, torch {run['versions']['torch']}"
        versions += f", commit {run['commit']}" if run.get("commit") else ""
        copied = name in UPSTREAM and "key" not in run  # a run outside of `mousai reproduce` has its copy elsewhere
        copy = link(f"notebooks/{name}.ipynb") if copied else name
        rows.append([copy, result["seed"], f"{run['seconds']:g}", f"{run['peak_memory_gb']:g}", where, versions])
    return rows


def with_contents(page: str) -> str:
    """The page with links to its sections before the first of them; anchors are formed as GitHub does it."""
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    links = [f"[{title}](#{anchor})" for title, anchor in zip(titles, anchors, strict=True)]
    return page.replace("\n## ", "\n" + " · ".join(links) + "\n\n## ", 1)
