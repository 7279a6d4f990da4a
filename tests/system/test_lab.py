"""JupyterLab as a reader meets it: `make lab` opens the first lesson; Run All, clicked, gives pictures and sounds."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import PROGRAM, Page
from helpers.lessons import NOTEBOOKS, cells

ROOT = NOTEBOOKS.parent
FIRST = "00_text2music"
DAILY, ALSO = (FIRST, "01_v_diffusion"), ("02_ddim", "05_tcld_training")
LOOPED = {FIRST: 2, "05_tcld_training": 3}  # players that a line shows beyond its first: one a genre
MINUTES = 5  # that a lesson may take in the smoke profile, on a busy machine
NOTEBOOK = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden)')"
RUN_ALL = "document.querySelector('.lm-Menu [data-command=\"runmenu:run-all\"]')"
QUIETLY = ("--no-browser", "--allow-root", "--ServerApp.port=0")
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}  # nothing asks the network, no note lies over the page

pytestmark = [
    pytest.mark.system,
    pytest.mark.notebooks,
    pytest.mark.skipif(PROGRAM is None, reason="needs Chromium: apt-get install chromium"),
]


def found(selector: str, of: str = "element => element") -> str:
    """JavaScript for a list: what `of` says of every part of the open notebook that `selector` finds."""
    return f"[...{NOTEBOOK}.querySelectorAll({json.dumps(selector)})].map({of})"


def failed() -> str:
    """JavaScript for the tracebacks, which JupyterLab shows as it shows warnings."""
    shown = found("[data-mime-type='application/vnd.jupyter.stderr']", "output => output.textContent")
    return f"{shown}.filter(text => text.includes('Traceback (most recent call last)'))"


def command_of_make() -> list[str]:
    """What `make lab` runs once everything is set up."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    said = subprocess.run(["make", "-n", "lab"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return shlex.split(said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """Where JupyterLab, started as `make lab` does, would send the browser; over a copy of the lessons, in smoke."""
    place, own = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("jupyter")
    (place / "notebooks").mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        text = path.read_text("utf-8").replace('"profile = \\"cpu\\"\\n"', '"profile = \\"smoke\\"\\n"', 1)
        (place / "notebooks" / path.name).write_text(text, "utf-8")
    settings = own / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(NO_NEWS))
    folders = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), own)
    folders |= {"JUPYTERLAB_SETTINGS_DIR": own / "settings", "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces"}
    environment = os.environ | {name: str(folder) for name, folder in folders.items()}
    mousai = Path(sys.executable).parent / "mousai"  # loading a data set never renders it: a reader does this first
    subprocess.run([mousai, "data", "prepare", "--profile", "smoke"], check=True, capture_output=True)
    program, words = Path(sys.executable).parent / "jupyter", command_of_make()[1:]
    with (own / "log").open("w") as log:
        server = subprocess.Popen([program, *words, *QUIETLY], cwd=place, env=environment, stderr=log)
    try:
        yield written_by(server, own)
    finally:
        server.terminate()  # with its kernels
        server.wait(60)


def written_by(server: subprocess.Popen, own: Path) -> str:
    """The address in the page that JupyterLab writes for the browser to begin with."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        for page in own.glob("jpserver-file-to-run-*-open.html"):
            if address := re.search(r'<a href="([^"]+)"', page.read_text()):
                return address[1].replace("&amp;", "&")
        time.sleep(0.2)
    raise AssertionError((own / "log").read_text()[-2000:])


@pytest.fixture
def page(tmp_path) -> Iterator[Page]:
    page = Page(tmp_path)
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=1600, deviceScaleFactor=1, mobile=False)
    yield page
    page.close()


def test_make_lab_opens_the_first_lesson(address):
    assert re.search(r"^http://\S+/lab/tree/notebooks/00_text2music\.ipynb\?token=\w{20,}$", address)


def run_all(page: Page, address: str, count: int) -> None:
    """As a reader does: wait for the kernel; menu Run, Run All Cells; until all `count` have run or one has failed."""
    page.call("Page.navigate", url=address)
    page.until(f"!!{NOTEBOOK} && {found('.jp-CodeCell')}.length === {count}")
    page.until(f"{found('.jp-Notebook-ExecutionIndicator', 'sign => sign.dataset.status')}.join() === 'idle'")
    page.click("[...document.querySelectorAll('.lm-MenuBar-item')].find(item => item.textContent === 'Run')")
    page.until(f"!!{RUN_ALL}")
    page.click(RUN_ALL)
    page.until(f"!{RUN_ALL}")
    ran = found(".jp-CodeCell .jp-InputPrompt", "prompt => /\\d/.test(prompt.textContent)")
    page.until(f"{ran}.filter(Boolean).length === {count} || {failed()}.length > 0", 60 * MINUTES)


def move(page: Page, slider: str) -> None:
    """A real click on the slider's middle, until its number and its picture are others and no cell complains."""
    number = f"{slider}.querySelector('.widget-readout').textContent"
    picture = f"{slider}.querySelector('img')?.src"
    page.until(f"!!{picture}")
    before = page.get(number), page.get(picture)
    page.click(f"{slider}.querySelector('.noUi-target')")
    page.until(f"{number} !== {json.dumps(before[0])}")
    page.until(f"(now => now && now !== {json.dumps(before[1])})({picture}) || {failed()}.length > 0")
    assert page.get(failed()) == []


def photographs(page: Page, name: str, folder: Path) -> None:
    """The lesson from top to bottom, a PNG for each windowful."""
    folder.mkdir(parents=True, exist_ok=True)
    scrolled = f"{NOTEBOOK}.querySelector('.jp-WindowedPanel-outer')"
    place, number = -1, 0
    page.get(f"{scrolled}.scrollTop = 0")
    while place < (place := page.get(f"{scrolled}.scrollTop")):
        time.sleep(0.3)  # to be drawn
        page.photograph(folder / f"{name}_{(number := number + 1):02}.png")
        page.get(f"{scrolled}.scrollTop += 0.9 * {scrolled}.clientHeight")


@pytest.mark.parametrize("name", [*DAILY, *(pytest.param(name, marks=pytest.mark.full) for name in ALSO)])
def test_run_all_ends_without_an_error_and_shows_what_there_is_to_see_and_hear(name, address, page, session_home):
    code, prose = cells(name, "code"), "\n".join(cells(name, "markdown"))
    sounds, figures, sliders = ("".join(code).count(what) for what in ("report.audio(", "report.figure(", "\nslider("))
    run_all(page, address.replace(FIRST, name), len(code))
    assert page.get(failed()) == []
    sounds += LOOPED.get(name, 0)
    page.until(found("audio", "player => player.duration > 1") + f".filter(Boolean).length === {sounds}")  # decoded
    pictures = page.get(found(".jp-OutputArea-output img", "image => image.naturalWidth > 100"))
    assert pictures == [True] * (figures + sliders)
    assert page.get(found(".widget-interact") + ".length") == sliders
    for number in range(sliders):
        move(page, f"{NOTEBOOK}.querySelectorAll('.widget-interact')[{number}]")
    assert page.get(found(".jp-RenderedMarkdown mjx-container") + ".length") > 0  # formulas are drawn
    assert "$$" not in page.get(found(".jp-RenderedMarkdown", "text => text.textContent") + ".join()")
    folded = page.get(found(".jp-RenderedMarkdown details", "answer => !answer.open"))
    assert folded == [True] * prose.count("<details>")
    page.get(found(".jp-RenderedMarkdown details", "answer => answer.open = true"))
    photographs(page, name, session_home / "screenshots")
