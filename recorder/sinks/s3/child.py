"""The process that brings bundles to a bucket for the sealer, which would grow by boto3 and stay so.

On stdin one JSON line with the host's ``sys.path``, one with the request (``address``, ``options``, ``settled``), then
a line for each order: ``wake``, ``sweep``, ``told`` (the answer to ``arrived``). Its end is the end of the process.
On stdout a JSON line for each piece of news: ``arrived``, ``fault``, ``settled``, ``hope``.

A request with ``find``, the name of a bundle, is answered by one line, and nothing is uploaded: ``found``, its location
in the bucket or null, and ``unavailable``, null or why nobody can tell.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from recorder.sinks.base import SinkUnavailable
from recorder.sinks.s3.sink import S3Sink

__all__ = ["main"]

#: So long after the last bundle the process ends: incidents come in bursts, and starting takes half a second.
_LINGER_SECONDS = 5.0
_LOOK_SECONDS = 0.2


def main() -> None:
    """Look for a bundle; or empty a spool, and end when nothing has waited for a while."""
    request = json.loads(sys.stdin.readline())
    if "find" in request:
        sys.stdout.write(json.dumps(_found(request)) + "\n")
    else:
        _Child(request).run()


def _found(request: dict[str, Any]) -> dict[str, str | None]:
    try:
        sink = S3Sink(request["address"], **request["options"])
        return {"found": sink.find_in_bucket(request["find"]), "unavailable": None}
    except SinkUnavailable as error:
        return {"found": None, "unavailable": str(error)}


class _Child:
    def __init__(self, request: dict[str, Any]) -> None:
        self._sink = S3Sink(request["address"], **request["options"])
        self._sink.settled_models.update(request["settled"])
        self._known = set(request["settled"])
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._told = threading.Semaphore(0)

    def run(self) -> None:
        threading.Thread(target=self._obey, name="orders", daemon=True).start()
        self._sink.start(self._arrived, self._fault)
        needed, hope = time.monotonic(), True
        while not self._ended.wait(_LOOK_SECONDS):
            for name in sorted(self._sink.settled_models - self._known):
                self._known.add(name)
                self._tell({"settled": name})
            if self._sink.has_waiting():
                needed = time.monotonic()
            elif time.monotonic() - needed > _LINGER_SECONDS:
                break
            if self._sink.is_busy() != hope:
                hope = not hope
                self._tell({"hope": hope})
        self._sink.close()

    def _obey(self) -> None:
        try:
            for line in sys.stdin:
                order = line.strip()
                if order == "told":
                    self._told.release()
                elif order == "sweep":
                    with suppress(SinkUnavailable):  # the upload will tell
                        self._sink.sweep()
                else:
                    self._sink.wake()
        finally:
            self._ended.set()
            self._told.release()  # nobody will say so any more

    def _arrived(self, location: str) -> None:
        # The spooled file goes when this returns: not before the sealer has heard.
        self._tell({"arrived": location})
        self._told.acquire()
        if self._ended.is_set():
            raise BrokenPipeError("the sealer is gone")

    def _fault(self, reason: str, sentence: str) -> None:
        self._tell({"fault": reason, "detail": sentence})

    def _tell(self, news: dict[str, Any]) -> None:
        try:
            with self._lock:
                sys.stdout.write(json.dumps(news) + "\n")
                sys.stdout.flush()
        except OSError:
            self._ended.set()
