"""The process that loads torch and runs recorded calls. Started by `replay.process`, never by hand.

It is cut off before it imports anything that has threads, restores the recorded flags, loads one model at a time into
its place and answers one request after the other over two pipes. What the user's code prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import Any

from replay.worker.sandbox import isolate

__all__ = ["main"]

#: From malloc.h. glibc moves both thresholds by what happens to be freed first, so that some workers gave the memory of
#: every layer back and faulted it in anew: 400 to 3500 page faults a frame of MobileNetV2, none in a long-lived host.
#: The first value is the one at which glibc's own rule ends, the most it takes.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 32 * 2**20


def main(cuda: bool = False) -> None:
    """Serve requests until the parent closes the pipe or dies."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it leaves without flushing
    kept = isolate(cuda=cuda)
    _keep_freed_memory()

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


def _keep_freed_memory() -> None:
    """Have malloc hold on to what a layer freed, for the next one; torch's tensors begin at 64 bytes either way."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, 8 * _MMAP_THRESHOLD_BYTES)


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
