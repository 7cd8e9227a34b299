"""A headless Chromium, driven over a pair of pipes: no driver, no port, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE = 60.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """Path of a Chromium, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A browser with one page.

    Attributes
    ----------
    requests
        Addresses that the page asked for.
    problems
        Errors and warnings of its scripts, and messages of the browser about it.
    """

    def __init__(self, program: str, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # Chromium reads commands from 3 and answers on 4; copies far from both come first.
        far = [os.dup(fd) for fd in (to_read, to_write)]
        while min(far) < 10:
            far = [os.dup(fd) for fd in far]
        actions: list[tuple[Any, ...]] = [
            (os.POSIX_SPAWN_DUP2, far[0], 3),
            (os.POSIX_SPAWN_DUP2, far[1], 4),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        arguments = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = os.posix_spawn(
            program, arguments, dict(os.environ), file_actions=actions, setpgroup=0
        )
        for fd in {to_read, to_write, *far}:
            os.close(fd)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.problems: list[str] = []
        (target,) = [
            info for info in self.call("Target.getTargets")["targetInfos"] if info["type"] == "page"
        ]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the browser and its helpers."""
        with suppress(OSError):
            os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol, and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("the browser has ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _event(self, event: dict[str, Any]) -> None:
        name, about = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.problems.append(details.get("exception", details).get("description", str(details)))
        elif name == "Log.entryAdded":
            self.problems.append(about["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.problems.append(str(about["args"]))

    def open(
        self, path: Path, width: int = 1200, height: int = 900, *, phone: bool = False
    ) -> None:
        """Show a file in a window of a size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.requests.clear()
        self.problems.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.frames()

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        until = time.monotonic() + _PATIENCE
        while not self.run(condition):
            if time.monotonic() > until:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def frames(self) -> None:
        """Wait until what was asked for is drawn."""
        self.run(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame("
            "() => setTimeout(done, 30))))"
        )

    def point(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.frames()

    def tap(self, x: float, y: float) -> None:
        """Touch the page with a finger."""
        points = [{"x": x, "y": y}]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.frames()

    def drag(self, x: float, y: float, by_x: float, by_y: float) -> None:
        """Move the mouse with its button pressed."""
        left = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **left)
        for step in (0.5, 1.0):
            self.call(
                "Input.dispatchMouseEvent",
                type="mouseMoved",
                x=x + step * by_x,
                y=y + step * by_y,
                button="left",
                buttons=1,
            )
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + by_x, y=y + by_y, **left)
        self.frames()

    def dark(self, is_dark: bool) -> None:
        """Prefer dark pages, or light ones."""
        value = "dark" if is_dark else "light"
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": value}],
        )
        self.frames()

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Picture of the window or of the whole page, as PNG."""
        answer = self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=whole,
            **({"clip": {**self.run(_PAGE_SIZE), "x": 0, "y": 0, "scale": 1}} if whole else {}),
        )
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """Print the page, as it would be printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])


_PAGE_SIZE = (
    "({width: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight})"
)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser that is there, and end it."""
    program = find_browser()
    assert program is not None
    with Browser(program, profile) as started:
        yield started
