"""A headless Chromium that a test can ask, type into and photograph, over DevTools' pipe."""

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

PROGRAM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
READY = 60
"""Seconds that a condition may take on a busy machine."""


class Browser:
    """One tab. `console` are its errors and warnings, and `requests` the addresses that it asked for."""

    def __init__(self, reader: int, writer: int, downloads: Path) -> None:
        self._reader, self._writer = reader, writer
        self._buffer, self._last, self._session = b"", 0, ""
        self.console: list[str] = []
        self.requests: list[str] = []
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command of the DevTools protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._reader, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(params["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.console.append(str(params["args"]))

    def open(self, address: str, width: int = 1200, height: int = 1000) -> None:
        """Load a page in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=address)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of what it promises."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The value of a JavaScript expression once it is true."""
        end = time.monotonic() + READY
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, f"never came true: {expression}\n{self.console}"
            time.sleep(0.05)
        return value

    def press(self, key: str, times: int = 1) -> None:
        """Press a key, such as ArrowRight, on what has the focus."""
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG file."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def running(folder: Path) -> Iterator[Browser]:
    """A browser that keeps its profile in `folder` and saves files to `folder`/downloads, ended with the block."""
    to_browser, from_browser = os.pipe(), os.pipe()
    # out of the way of 3 and 4, where the browser looks for its ends
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_browser[0], from_browser[1])]
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    process = subprocess.Popen(
        [str(PROGRAM), "--headless", "--no-sandbox", "--no-first-run", *quiet, "--remote-debugging-pipe",
         f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", "about:blank"],
        preexec_fn=lambda: [os.dup2(*pair) for pair in zip(ends, (3, 4), strict=True)],  # noqa: PLW1509  # no threads
        pass_fds=(3, 4), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (*ends, to_browser[0], from_browser[1]):
        os.close(end)
    try:
        yield Browser(from_browser[0], to_browser[1], folder / "downloads")
    finally:
        process.kill()
        process.wait()
        os.close(to_browser[1])
        os.close(from_browser[0])
