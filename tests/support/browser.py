"""Headless Chromium, Debian's, driven over its debugging pipe: real keys, what a page shows and says, and pictures."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60.0  # after which something hangs
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which needs privileges that containers lack; only pages of this machine are opened
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "Space": (32, " ")}


class Browser:
    """One page of a browser that runs."""

    def __init__(self, commands: int, answers: int) -> None:
        """Begin with an empty page; commands, answers: the ends of the pipes to write to and to read from."""
        self._commands, self._answers = commands, answers
        self._pending, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command of the debugging protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            read = os.read(self._answers, 2**20)
            assert read, "the browser has ended"
            self._pending += read
        message, _, self._pending = self._pending.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = SECONDS) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"it does not come to hold: {expression}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Return the text that an element shows."""
        text: str = self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return text

    def texts(self, selector: str) -> list[str]:
        """Return the text of each element, shown or not."""
        texts: list[str] = self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")
        return texts

    def count(self, selector: str) -> int:
        """Return how many elements there are."""
        return len(self.texts(selector))

    def fill(self, id: str, value: str) -> None:
        """Give a field a value, as if it were typed or chosen there, and let the page know."""
        field = f"document.getElementById({json.dumps(id)})"
        self.value(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('change'))")

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key where the focus is."""
        code, text = KEYS[key]
        shared = {
            "key": " " if key == "Space" else key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def focused(self) -> str:
        """Return the id of the element that has the focus, or its tag."""
        focused: str = self.value("document.activeElement.id || document.activeElement.tagName")
        return focused

    def complaints(self) -> list[str]:
        """Return what the console says: errors of scripts, and what the page's policy refused."""
        self.value("0")
        texts = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                texts.append(json.dumps(event["params"]["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] != "verbose":
                texts.append(event["params"]["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                texts.append(json.dumps(event["params"]["args"]))
        return texts

    def addresses(self) -> list[str]:
        """Return every address that was asked for."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def bodies(self) -> list[dict[str, Any]]:
        """Return every JSON body that was sent."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [json.loads(params["request"]["postData"]) for params in sent if "postData" in params["request"]]

    def named(self) -> list[tuple[str, str]]:
        """Return role and name of what assistive technology is told of, but for plain texts."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        told = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]

    def look(self, *, dark: bool = False, width: int = 1200, height: int = 900) -> None:
        """Give the page a size, and light or dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, file: Path) -> None:
        """Write a picture of the page."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser whose files are in a folder; fail if there is none on this machine."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "there is no chromium: apt-get install chromium"
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()
    # The protocol is spoken over the files number 3 and 4 of the program, so that what goes there has other numbers.
    passed = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (read_commands, write_answers)]
    flags = [*FLAGS, f"--user-data-dir={folder}"]
    words = ["bash", "-c", f'exec "$@" 3<&{passed[0]} 4>&{passed[1]}', "bash", program, *flags]
    process = subprocess.Popen(words, pass_fds=passed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for end in (read_commands, write_answers, *passed):
        os.close(end)
    try:
        yield Browser(commands, answers)
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(answers)
