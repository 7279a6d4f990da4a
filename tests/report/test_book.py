"""The book: it builds without a warning, every link leads somewhere, every player holds sound, nothing is fetched."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import pytest
import soundfile
from helpers import browser

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = re.compile(r"(https?:)?//")
MB = 60  # at most


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    command = [sys.executable, *words, "-d", folder / "doctrees", ".", folder / "html"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder / "html"


class Parsed(HTMLParser):
    """What a page refers to, as (tag, address), and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.references: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.references += [(tag, address) for key in ("href", "src") if (address := known.get(key))]
        self.anchors.add(known.get("id") or "")


def pages(folder: Path) -> dict[Path, Parsed]:
    return {path: Parsed(path) for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts}


def problems(folder: Path) -> list[str]:
    """What of the pages leads nowhere, is fetched from elsewhere, or is a player without sound."""
    parsed, found = pages(folder), []
    for path, page in parsed.items():
        for tag, address in page.references:
            file, _, anchor = unquote(address).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if address.startswith("data:"):
                sound = BytesIO(base64.b64decode(address.partition(",")[2]))
            elif ELSEWHERE.match(address) or address.startswith("mailto:"):
                if tag != "a":
                    found.append(f"{path.name}: {tag} from elsewhere, {address}")
                continue
            elif not target.exists() or (anchor and target in parsed and anchor not in parsed[target].anchors):
                found.append(f"{path.name}: {address} leads nowhere")
                continue
            else:
                sound = target
            if tag in ("audio", "source") and soundfile.info(sound).duration < 0.5:
                found.append(f"{path.name}: a player without sound")
    return found


@pytest.mark.system
def test_the_book_is_whole_small_and_fetches_nothing(book):
    assert not problems(book)
    assert sum(path.stat().st_size for path in book.rglob("*")) < MB * 1e6
    front = (book / "index.html").read_text("utf-8")
    assert front.count("<audio") >= 6 and front.count("<math") == 0
    for lesson in sorted(ROOT.glob("notebooks/*.ipynb")):
        assert f'href="notebooks/{lesson.stem}.html"' in front
        text = (book / "notebooks" / f"{lesson.stem}.html").read_text("utf-8")
        assert text.count("Run this yourself") == 1
    theory = (book / "notebooks" / "01_v_diffusion.html").read_text("utf-8")
    assert theory.count("<math") >= 20 and r"\frac" not in theory and theory.count("<audio") >= 3
    assert (book / "notebooks" / "04_dmae_training.html").read_text("utf-8").count("<img") >= 5
    assert "guidance" in (book / "searchindex.js").read_text("utf-8")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="b.html">', "b.html leads nowhere"),
        ('<a href="a.html#b">', "a.html#b leads nowhere"),
        ('<img src="b.png">', "b.png leads nowhere"),
        ('<script src="https://cdn/x.js">', "script from elsewhere"),
        ('<audio src="short.ogg">', "a player without sound"),
    ],
)
def test_what_is_wrong_in_a_page_is_found(body, problem, tmp_path):
    soundfile.write(tmp_path / "short.ogg", [[0.0, 0.0]] * 100, 48_000)
    (tmp_path / "a.html").write_text('<p id="there"><a href="#there"><a href="https://example.org">' + body)
    (found,) = problems(tmp_path)
    assert problem in found


@pytest.mark.system
@pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium: apt-get install chromium, to open the book")
def test_every_page_opens_from_the_file_system_on_desk_and_phone_and_its_players_have_a_duration(book, tmp_path):
    page = browser.Page(tmp_path)
    try:
        for width, height in ((1300, 900), (390, 800)):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            for path in pages(book):
                page.open(path.as_uri())
                page.until("[...document.querySelectorAll('audio')].every(player => player.duration > 0.5)")
                assert page.get("document.documentElement.scrollWidth") <= width, path.name
        page.open((book / "search.html").as_uri() + "?q=guidance")
        page.until("document.querySelectorAll('#search-results li').length > 3")
        assert not page.errors
        assert all(request.startswith(("file:", "data:", "blob:")) for request in page.requests)
    finally:
        page.close()
