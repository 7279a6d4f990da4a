"""The page of a report: paper | ours | verdict, then every number, what was not run, and where it was run."""

import re
from collections import Counter

import pandas as pd

from mousai.report import thresholds as bars
from mousai.report.results import Results, paper
from mousai.report.verdicts import NOT_RUN, RULES, Row, interval
from mousai.reproduce.notebooks import UPSTREAM
from mousai.reproduce.preflight import marked

IN_DOMAIN = (
    "The in-domain judge is a small model trained here on the embedded music. Its scores are never compared with the "
    "paper's LAION-CLAP numbers, nor its distances with the paper's FAD: only whether a comparison points the same way."
)


def readme(results: Results, sections: dict[str, list[Row]]) -> str:
    """The whole page as Markdown; the same results give the same page."""
    parts = [head(results, sections)]
    parts += [section(key, rows, results) for key, rows in sections.items() if key != "bars"]
    parts += [f"## {bars.TITLE}", bars_table(sections["bars"], bars.COLUMNS)]
    parts += [contradictions(), numbers(results), not_run(results), sounds(results), runs(results)]
    page = "\n\n".join(part for part in parts if part) + "\n"
    return marked(page) if results.mark else page


def head(results: Results, sections: dict[str, list[Row]]) -> str:
    """Title, how it was made, how verdicts are given, and how many of each there are."""
    count = Counter(row.verdict for key, rows in sections.items() if key != "bars" for row in rows)
    rules = [[verdict, count[verdict], rule] for verdict, rule in RULES.items()]
    marks = ", ".join(f"[{mark}] {meaning}" for mark, meaning in paper()["marks"].items())
    return "\n\n".join(
        [
            f"# Report, profile `{results.profile}`: paper | ours | verdict",
            f"Drawn by `mousai report --profile {results.profile}` from results/*.json. Never edited by hand.",
            f"Paper: {paper()['source']}. Marks: {marks}.",
            table(rules, ["verdict", "rows", "rule"]),
            IN_DOMAIN,
        ]
    )


def section(key: str, rows: list[Row], results: Results) -> str:
    """One table or figure: its title, its picture where there is one, the rows, the paper's note."""
    said = paper()[key]
    picture = f"![{said['title']}](figures/{key[:-1]}_{key[-1]}.png)" if key.startswith("figure") else ""
    if picture and results.data(key) is None:
        picture = ""
    cells = [[row.item, row.paper, row.ours, f"**{row.verdict}**", row.rule] for row in rows]
    lines = [f"## {said['title']}", picture, table(cells, ["item", "paper", "ours", "verdict", "rule or reason"])]
    note = f"Note: {said['note']}." if "note" in said else ""
    return "\n\n".join(part for part in [*lines, note] if part)


def excerpt(sections: dict[str, list[Row]]) -> str:
    """The rows that ran, of what the paper measured about the model, and every bar: for the repository's first page."""
    measured = ("table3", "table4", "table5", "figure5", "figure6")
    rows = [
        [paper()[key]["title"].split(":")[0].split(",")[0], row.item, row.paper, row.ours, f"**{row.verdict}**"]
        for key in measured
        for row in sections[key]
        if row.verdict != NOT_RUN
    ]
    ours = [f"{bars.TITLE}:", bars_table(sections["bars"], bars.COLUMNS[:-1])]
    return "\n\n".join([table(rows, ["where", "item", "paper", "ours", "verdict"]), *ours])


def bars_table(rows: list[Row], columns: list[str]) -> str:
    """Every bar, reached or not or not run; as many columns as are named."""
    cells = [[row.item, row.paper, row.ours, f"**{row.verdict}**", row.rule] for row in rows]
    return table([line[: len(columns)] for line in cells], columns)


def contradictions() -> str:
    """What does not fit together in the paper itself."""
    lines = [f"{index}. {text}" for index, text in enumerate(paper()["contradictions"], 1)]
    return "\n\n".join(["## Contradictions in the paper", "\n".join(lines)])


def numbers(results: Results) -> str:
    """Every metric with its 95 % interval and n; how it was taken stands in its file."""
    rows = [
        [f"`{name}`", interval(metric["value"], metric["low"], metric["high"]), metric["n"], link(metric["file"])]
        for name, metric in results.metrics().items()
    ]
    columns = ["metric", "value [95 % interval]", "n", "file"]
    return "\n\n".join(["## Every number", table(rows, columns)]) if rows else ""


def not_run(results: Results) -> str:
    """What the lessons could not measure, and the lessons that have no result."""
    rows = [[f"`{item}`", notebook, why] for notebook, item, why in results.not_run()]
    absent = [name for name in UPSTREAM if name not in results.notebooks]
    rows += [[name, name, "no result here: it failed or was not run"] for name in absent]
    return "\n\n".join(["## Not run", table(rows, ["what", "notebook", "why"])]) if rows else ""


def sounds(results: Results) -> str:
    """The clips of each lesson, unnormalised."""
    clips = {
        name: [file for file in result["artefacts"] if file.startswith("audio/")]
        for name, result in results.notebooks.items()
    }
    lines = [f"- {name}: {', '.join(link(file) for file in files)}" for name, files in clips.items() if files]
    return "\n\n".join(["## Listen", "\n".join(lines)]) if lines else ""


def runs(results: Results) -> str:
    """Where and how long each lesson ran, with its executed copy."""
    rows = []
    for name, result in results.notebooks.items():
        run = result["provenance"]
        where = f"{run['device']}, {run['threads']} threads, {run['machine']}"
        versions = f"Python {run['versions']['python']}, torch {run['versions']['torch']}"
        rows.append(
            [
                link(f"notebooks/{name}.ipynb") if name in UPSTREAM else name,
                result["seed"],
                f"{run['seconds']:g}",
                f"{run['peak_memory_gb']:g}",
                where,
                versions,
            ]
        )
    columns = ["notebook", "seed", "seconds", "peak memory, GB", "where", "with"]
    return "\n\n".join(["## Runs", table(rows, columns)])


def link(file: str) -> str:
    """A Markdown link to a file of the report, named by its last part."""
    return f"[{file.split('/')[-1]}]({file})"


def table(rows: list[list], columns: list[str]) -> str:
    """A Markdown table; a bar within a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return pd.DataFrame(cells, columns=pd.Index(columns)).to_markdown(index=False, disable_numparse=True)


def with_contents(page: str) -> str:
    """The page with links to its sections before the first of them; an anchor is what the web makes of a heading."""
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    links = [f"[{title}](#{anchor})" for title, anchor in zip(titles, anchors, strict=True)]
    return page.replace("\n## ", "\n" + " · ".join(links) + "\n\n## ", 1)
