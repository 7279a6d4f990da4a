"""Headless Chromium by its DevTools protocol, for tests that click: real keys, a real mouse, real files."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import websocket

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = "--headless=new --no-sandbox --mute-audio --disable-gpu --no-first-run --remote-debugging-port=0"
SECONDS = 60  # no step takes longer, also on a busy machine


class Page:
    """One tab. Events of the network and errors of the page are kept in `requests` and `errors`."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM
        words = [PROGRAM, *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.requests: list[str] = []
        self.errors: list[dict] = []
        self.number = 0
        port = folder / "profile" / "DevToolsActivePort"
        self.wait(lambda: port.is_file() and port.read_text().count("\n"))
        tabs = f"http://127.0.0.1:{port.read_text().split()[0]}/json/list"
        tab = next(t for t in json.load(urllib.request.urlopen(tabs)) if t["type"] == "page")
        self.socket = websocket.create_connection(tab["webSocketDebuggerUrl"], SECONDS, suppress_origin=True)
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "downloads"))

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def call(self, method: str, **parameters: Any) -> dict:
        """One command and its answer."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != self.number:
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message["method"] == "Runtime.exceptionThrown":
                self.errors.append(message["params"])
        assert "error" not in message, message
        return message["result"]

    def wait(self, true: Callable[[], Any], seconds: float = SECONDS) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.05)

    def get(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = SECONDS) -> None:
        self.wait(lambda: self.get(expression), seconds)

    def open(self, url: str) -> None:
        """Go there, also where the page is there already."""
        self.call("Page.navigate", url=url)
        self.arrive(f"location.href === {json.dumps(url)}")

    def reload(self) -> None:
        self.get("window.before = true")
        self.call("Page.reload")
        self.arrive("!window.before")

    def arrive(self, expression: str) -> None:
        """Wait for the page that fits; a question asked while one page gives way to the next gets no answer."""

        def there() -> bool:
            with suppress(AssertionError):
                return self.get(f"document.readyState === 'complete' && {expression}")
            return False

        self.wait(there)

    def photograph(self, path: Path) -> None:
        """What is in the window now, as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def press(self, *keys: str) -> None:
        """Real key presses: "1", " ", "Enter"."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = {" ": "Space"}.get(key, f"Digit{key}" if key.isdigit() else key)
            number = {" ": 32, "Enter": 13, "Backspace": 8, "ArrowLeft": 37, "Tab": 9}.get(key) or ord(key)
            same = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **same)
            self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def click(self, element: str) -> None:
        """A real click into the middle of what the expression `element` gives, once it stands still in view."""
        before, box = None, {}
        while before != box:  # what is scrolled past is drawn late, and moves all below it
            self.get(f"{element}.scrollIntoView({{block: 'center'}})")
            time.sleep(0.2)
            before, box = box, self.get(f"{element}.getBoundingClientRect().toJSON()")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)  # a menu marks what the mouse is over
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
