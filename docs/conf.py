"""The book: README, the lessons as they were executed, the other pages and the report, with players and search.

    make book        build/book/index.html, which opens from the file system

Sphinx reads the repository in place, executes nothing and fetches nothing. Formulas become MathML, which browsers draw.
"""

import json
import re
import shutil
from pathlib import Path

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import download_reference
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parents[1]
REPORT = "reports/cpu"

project = "Moûsai"
author = copyright = ""
root_doc = "README"
extensions = ["myst_nb"]
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "THIRD_PARTY.md", "docs/*.md", "tests/PLANTED.md"),
    *("notebooks/README.md", "notebooks/*.ipynb", f"{REPORT}/README.md", "mousai/weights/*/README.md"),
]
exclude_patterns = [".*", "runs", "build", "shared", f"{REPORT}/notebooks"]  # folders that are not even looked into
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # the anchors that the web makes of headings
html_theme = "sphinx_book_theme"
html_title = "Moûsai, from noise to music"
html_theme_options = {
    "use_download_button": False,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
}
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_show_search_summary = False  # it fetches the pages found, which no browser allows from the file system
html_copy_source = False
html_math_renderer = "mathml"

CONTENTS = """
```{toctree}
:hidden:
:glob:
:caption: Lessons
notebooks/README
notebooks/*
```

```{toctree}
:hidden:
:glob:
:titlesonly:
:caption: Use, results, background
docs/generate
docs/own-music
docs/a100
docs/listening-study
reports/cpu/README
docs/reproduction
docs/*
mousai/weights/cpu/README
```

```{toctree}
:hidden:
:titlesonly:
:caption: Project
CONTRIBUTING
tests/PLANTED
CHANGELOG
SECURITY
THIRD_PARTY
```
"""


def box(text: str, command: str) -> str:
    """What a reader types to get this page's content; stands below the title."""
    return f"\n````{{admonition}} Run this yourself\n:class: tip\n{text}\n\n```sh\n{command}\n```\n````\n"


def lesson(name: str, text: str) -> str:
    """The notebook as it was executed for the report, else as it is stored, without progress bars."""
    executed = ROOT / REPORT / "notebooks" / f"{name}.ipynb"
    notebook = json.loads(executed.read_text("utf-8") if executed.is_file() else text)
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        cell["outputs"] = [
            output
            for output in cell.get("outputs", [])
            if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        ]
        if cell["cell_type"] != "code":
            del cell["outputs"]
    shown = "as it was run for the [report](../reports/cpu/README.md)" if executed.is_file() else "without outputs"
    how = box(
        f"The notebook {{download}}`{name}.ipynb <{name}.ipynb>` is shown {shown}. In a clone, `make lab` opens it in"
        " JupyterLab, and this runs it in the tests' profile:",
        f"make setup\n.venv/bin/papermill notebooks/{name}.ipynb out.ipynb -p profile smoke",
    )
    notebook["cells"].insert(1, {"cell_type": "markdown", "id": "run-this-yourself", "metadata": {}, "source": how})
    return json.dumps(notebook)


def read(app, docname: str, source: list[str]) -> None:
    """What differs from the file: the contents tree, the executed notebooks, the boxes."""
    if docname == root_doc:
        source[0] = source[0].replace(".ogg), ", ".ogg) ") + CONTENTS  # players need no commas
    elif docname == f"{REPORT}/README":
        title, _, rest = source[0].partition("\n")
        rest = rest.replace("](notebooks/", "](../../notebooks/")  # which are shown as they were executed
        source[0] = title + "\n" + box("In a clone, this measures everything again:", "make reproduce") + rest
    elif docname == "notebooks/README":  # a link to a folder, which is no page
        source[0] = source[0].replace(f"](../{REPORT}/notebooks)", f"](../{REPORT}/README.md)")
    elif docname.startswith("notebooks/"):
        name = docname.removeprefix("notebooks/")
        source[0] = lesson(name, source[0])
        app.env.note_dependency(str(ROOT / REPORT / "notebooks" / f"{name}.ipynb"))


def is_clip(node) -> bool:
    return node.get("filename", "").endswith(".ogg")


def visit_download(self, node) -> None:
    if is_clip(node):
        self.body.append('<span class="clip">')
    else:
        HTML5Translator.visit_download_reference(self, node)


def depart_download(self, node) -> None:
    """Behind the name of a clip comes its player."""
    if is_clip(node):
        source = f"{self.builder.dlpath}/{node['filename']}"
        self.body.append(f' <audio controls preload="metadata" src="{source}"></audio></span>')
    else:
        HTML5Translator.depart_download_reference(self, node)


def write_math(self, node) -> None:
    """MathML stretches brackets by itself, so that LaTeX's sizes go."""
    formula = re.sub(r"\\[bB]igg?(?![a-z])", "", node.astext())
    block = node.tagname == "math_block"
    written = tex2mathml(formula, as_block=block)
    self.body.append(f'<div class="math">{written}</div>' if block else written)
    raise SkipNode


def front(app, error) -> None:
    if not error:
        shutil.copy(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app) -> None:
    app.connect("source-read", read)
    app.connect("build-finished", front)
    app.add_node(download_reference, override=True, html=(visit_download, depart_download))
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
