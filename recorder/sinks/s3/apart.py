"""The same sink for a process that must stay small: its spool here, boto3 in a child while something waits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from recorder.export import python_executable
from recorder.sinks.base import BundleListing, Sink, SinkUnavailable
from recorder.sinks.claims import Claims
from recorder.sinks.s3.sink import PATIENCE_SECONDS, S3Sink
from recorder.sinks.s3.uploading import LOOK_SECONDS, own_directory

__all__ = ["ApartS3Sink"]

#: A child that is told to end cuts its upload off and goes; one that does not is killed.
_END_SECONDS = 5.0
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); from recorder.sinks.s3.child import main; main()"
)


class ApartS3Sink(Sink):
    """What `S3Sink.apart` returns.

    Args:
        sink: whose spool is filled here; its thread is never started.
    """

    arrives_later = True

    def __init__(self, sink: S3Sink) -> None:
        self._sink = sink
        self._arrived: Callable[[str], None] = lambda location: None
        self._fault: Callable[[str, str], None] = lambda reason, sentence: None
        self._lock = threading.Lock()
        self._stopping, self._news = threading.Event(), threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._orders: IO[str] | None = None
        self._hope = True
        self._failing_since: float | None = None
        self._thread: threading.Thread | None = None

    def start(self, arrived: Callable[[str], None], fault: Callable[[str, str], None]) -> None:
        """Begin with what an earlier process left in the spool."""
        self._arrived, self._fault = arrived, fault
        with suppress(SinkUnavailable):  # the first bundle will tell
            own_directory(self._sink.spool.path)
        self._thread = threading.Thread(target=self._run, name="uploading", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See `S3Sink.check`."""
        self._sink.check()

    def publish(self, local_file: Path, name: str) -> str:
        """See `S3Sink.publish`."""
        location = self._sink.put_into_spool(local_file, name)
        self._order("wake")
        return location

    def variables(self) -> dict[str, str]:
        """See `S3Sink.variables`."""
        return self._sink.variables()

    def find(self, name: str) -> str | None:
        """See `S3Sink.find`; whether the bucket has it is asked by another process."""
        return self._sink.find_in_spool(name) or self._find_in_bucket(name)

    def sweep(self) -> tuple[str, ...]:
        """Have the spool kept within its bounds; each bundle that goes is a fault, told later."""
        self._order("sweep")
        return ()

    def waiting(self) -> tuple[str, ...]:
        """See `S3Sink.waiting`."""
        return self._sink.waiting()

    def is_busy(self) -> bool:
        """Whether something waits that there is still hope for."""
        since = self._failing_since
        patient = since is None or time.monotonic() - since < PATIENCE_SECONDS
        return patient and self._hope and self._sink.has_waiting()

    def close(self) -> None:
        """End the upload under way, to be resumed by the next process."""
        self._stopping.set()
        self._news.set()
        with self._lock:
            if self._orders is not None:
                with suppress(OSError):
                    self._orders.close()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
            with self._lock:
                if self._child is not None:  # it waits for an answer of the bucket; the next process goes on
                    self._child.kill()
            self._thread.join()

    def bundles(self) -> Iterator[BundleListing]:
        """See `S3Sink.bundles`."""
        return self._sink.bundles()

    def models_directory(self) -> Path:
        """See `S3Sink.models_directory`."""
        return self._sink.models_directory()

    def state_directory(self) -> Path:
        """See `S3Sink.state_directory`."""
        return self._sink.state_directory()

    def claims(self) -> Claims:
        """See `S3Sink.claims`."""
        return self._sink.claims()

    def _find_in_bucket(self, name: str) -> str | None:
        request = {**self._request(), "find": name}
        try:
            done = subprocess.run(
                self._command(),
                input=f"{json.dumps(sys.path)}\n{json.dumps(request)}\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                timeout=PATIENCE_SECONDS,
                check=True,
            )
            answer = json.loads(done.stdout)
            found, problem = answer["found"], answer["unavailable"]
        except (OSError, subprocess.SubprocessError, LookupError, TypeError, ValueError) as error:
            raise SinkUnavailable(
                f"{self._sink.address}: nobody could ask what is there ({type(error).__name__}); check the network."
            ) from error
        if problem is not None:
            raise SinkUnavailable(str(problem))
        return None if found is None else str(found)

    def _request(self) -> dict[str, Any]:
        return {
            "address": str(self._sink.address),
            "options": self._sink.given,
            "settled": sorted(self._sink.settled_models),
        }

    @staticmethod
    def _command() -> list[str]:
        return [python_executable(), "-P", "-c", _BOOT]

    def _order(self, text: str) -> None:
        with self._lock, suppress(OSError, ValueError):  # it ended; another begins while something waits
            if self._orders is not None:
                self._orders.write(f"{text}\n")
                self._orders.flush()
        self._news.set()

    def _run(self) -> None:
        deaths = 0
        while not self._stopping.is_set():
            self._news.clear()
            if not self._sink.has_waiting():
                self._news.wait(LOOK_SECONDS)
                continue
            try:
                code: int | str = self._serve()
            except Exception as error:  # noqa: BLE001  # no process, no memory, nobody left to report to
                code = type(error).__name__
            if self._stopping.is_set():
                return
            if code == 0:
                deaths, self._failing_since = 0, None
                continue
            deaths += 1
            self._failing_since = self._failing_since or time.monotonic()
            self._fault("upload: process ended", f"The process that brings bundles to S3 ended ({code})")
            self._stopping.wait(self._sink.options.pause_seconds(deaths))

    def _serve(self) -> int:
        """Run one child to its end; return its exit status."""
        with subprocess.Popen(
            self._command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        ) as child:
            orders, news = cast("IO[str]", child.stdin), cast("IO[str]", child.stdout)
            request = self._request()
            try:
                with self._lock:
                    self._child, self._orders, self._hope = child, orders, True
                    with suppress(OSError, ValueError):  # its end will tell
                        orders.write(f"{json.dumps(sys.path)}\n{json.dumps(request)}\n")
                        orders.flush()
                        if self._stopping.is_set():
                            orders.close()
                for line in news:
                    self._hear(json.loads(line))
            finally:
                with self._lock:
                    self._child = self._orders = None
                    with suppress(OSError):
                        orders.close()
                try:
                    child.wait(_END_SECONDS)  # it has closed its side
                except subprocess.TimeoutExpired:
                    child.kill()
        return child.returncode

    def _hear(self, news: dict[str, Any]) -> None:
        if "arrived" in news:
            self._failing_since = None
            self._arrived(str(news["arrived"]))
            self._order("told")
        elif "fault" in news:
            self._fault(str(news["fault"]), str(news["detail"]))
        elif "settled" in news:
            self._sink.settled_models.add(str(news["settled"]))
        elif "hope" in news:
            self._hope = bool(news["hope"])
