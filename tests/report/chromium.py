"""Headless Chromium, driven by the DevTools protocol over a pipe: JSON messages that end in a zero byte."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.waiting import WAIT_SECONDS

__all__ = ["Chromium", "Page"]

#: Keys that the browser itself acts on are known to it by number.
_CODES = {"Tab": 9, "Enter": 13}


class Chromium:
    """A browser process with a profile of its own; both are gone afterwards."""

    def __init__(self) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert program is not None, "the report is tested in Chromium: apt-get install chromium"
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        down, self._write = os.pipe()
        self._read, up = os.pipe()

        def take_places() -> None:
            a, b = os.dup(down), os.dup(up)  # either may be 3 or 4 itself
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            [
                program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={self._profile}",
                "--no-sandbox",
                "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-crash-reporter",
            ],
            preexec_fn=take_places, close_fds=False, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), self._profile)},
        )  # fmt: skip
        os.close(down)
        os.close(up)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            self.send("Browser.close")  # so that it collects its own children
            self._process.wait(120)
        os.close(self._write)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(120)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until such an event has come, and return the first."""
        while (found := next(filter(wanted, self.events), None)) is None:
            self.events.append(self._next())
        return found

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS
        parts = [self._rest]
        while b"\0" not in parts[-1]:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            assert part, "Chromium gave no answer"
            parts.append(part)
        text, _, self._rest = b"".join(parts).partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


class Page:
    """A tab with one page in it: a file, or an address of a server."""

    def __init__(
        self, browser: Chromium, place: Path | str, *, width: int = 1280, height: int = 900, dark: bool = False,
        script: bool = True, calm: bool = True, fragment: str = "", media: str = "",
    ) -> None:  # fmt: skip
        self._browser = browser
        browser.events.clear()
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [("prefers-color-scheme", "dark" if dark else "light"), ("prefers-reduced-motion", "reduce" * calm)]
        emulated = [{"name": name, "value": value} for name, value in features]
        self.send("Emulation.setEmulatedMedia", media=media, features=emulated)
        self._script = script
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.send("Page.setLifecycleEventsEnabled", enabled=True)
        address = (place if isinstance(place, str) else place.as_uri()) + fragment
        self._wait_until_loaded(self.send("Page.navigate", url=address)["loaderId"])

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the tab."""
        return self._browser.send(method, self._session, **parameters)

    def go(self, go: Callable[[], object], *, loads: bool = True) -> None:
        """Do what leads to another page, and wait for that; one that was kept need not load again."""
        arrived = "Page.frameNavigated"
        self._browser.events[:] = [event for event in self._browser.events if not self._is_own(event, arrived)]
        go()
        event = self._browser.wait_for(lambda event: self._is_own(event, arrived))
        if loads:
            self._wait_until_loaded(event["params"]["frame"]["loaderId"])

    def _wait_until_loaded(self, loader: str) -> None:
        """By the navigation that it is told with: the empty page of a new tab has a load event too, however late."""
        told = {"loaderId": loader, "name": "load"}.items()
        self._browser.wait_for(
            lambda event: self._is_own(event, "Page.lifecycleEvent") and told <= event["params"].items()
        )

    def _is_own(self, event: dict[str, Any], *methods: str) -> bool:
        """Whether it is of this tab: one that was closed may have had something to say."""
        return event.get("sessionId") == self._session and event.get("method") in methods

    def value(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; where its own is switched off, that stays so."""
        if not self._script:
            self.send("Emulation.setScriptExecutionDisabled", value=False)
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if not self._script:
            self.send("Emulation.setScriptExecutionDisabled", value=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def height(self, selector: str) -> int:
        """Height of an element as it is laid out, without any script; 0 where it is not shown."""
        root = self.send("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        laid_out = self.send("DOM.getContentQuads", nodeId=node)["quads"] if node else []
        return int(max((quad[5] - quad[1] for quad in laid_out), default=0))

    def key(self, key: str) -> None:
        """Press and release a key."""
        more: dict[str, Any] = {"windowsVirtualKeyCode": _CODES[key]} if key in _CODES else {}
        if key == "Enter":
            more["text"] = "\r"  # what a control is operated by
        for kind in ("keyDown" if key == "Enter" else "rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, **more)

    def complaints(self) -> list[str]:
        """Everything the console, the policy or an exception said."""
        return [
            json.dumps(event["params"])
            for event in self._browser.events
            if self._is_own(event, "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        ]

    def requests(self) -> list[str]:
        """Addresses the page asked for, besides itself and what it holds."""
        urls = [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if self._is_own(event, "Network.requestWillBeSent")
        ]
        return [url for url in urls if not url.startswith(("file:", "data:image/"))]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the page."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        printed = self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))

    def close(self) -> None:
        """Close the tab."""
        self.send("Page.close")
