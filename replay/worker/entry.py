"""The process that loads torch and runs recorded calls. Started by `replay.process`, never by hand.

It is cut off before it imports anything that has threads, restores the recorded flags, loads one model at a time into
its place and answers one request after the other over two pipes. What the user's code prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from replay.worker.sandbox import isolate

__all__ = ["main"]


def main(cuda: bool = False) -> None:
    """Serve requests until the parent closes the pipe or dies."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it leaves without flushing
    kept = isolate(cuda=cuda)

    # Only now: these start threads, and a process with threads cannot be cut off any more.
    from replay.protocol import write_message
    from replay.worker.serving import Server

    server = Server(kept)
    try:
        for header, payload in _requests(requests):
            reply, parts = server.answer(header, payload)
            write_message(replies, reply, parts)
    except OSError:  # the parent is gone, and nobody is left to tell
        os._exit(1)
    os._exit(0)  # without the destructors of the user's code


def _requests(fd: int) -> Any:
    """Requests in order, the next one read while the current one is being answered."""
    import queue
    import threading

    from replay.protocol import ProtocolError, Wire, read_message

    waiting: queue.Queue[Wire | None] = queue.Queue(maxsize=1)

    def read() -> None:
        try:
            while (message := read_message(fd)) is not None:
                waiting.put(message)
        except (ProtocolError, OSError) as error:  # the parent died in the middle of a sentence
            print(f"the worker cannot read its requests: {error}", file=sys.stderr, flush=True)
        waiting.put(None)

    threading.Thread(target=read, name="requests", daemon=True).start()
    while (message := waiting.get()) is not None:
        yield message
