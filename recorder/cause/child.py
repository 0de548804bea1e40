"""The process that names a cause for the sealer: a profile of many cameras takes more memory than sealing may.

On stdin one JSON line (profile, key, model_digest, the views' shapes, scale and width), then the views' elements.
On stdout one JSON line, the diagnosis's document, or ``{"refused": sentence}``.
"""

from __future__ import annotations

import json
import resource
import sys

import numpy as np
import numpy.typing as npt

from recorder.cause.views import Views

__all__ = ["main"]

#: Beyond what numpy takes; a profile of 64 cameras needs some 400 MB while it is read.
_MEMORY_BYTES = 2 * 2**30
_CPU_SECONDS = 60


def main() -> None:
    """Answer one request."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    request = json.loads(sys.stdin.buffer.readline())
    wide, detail = (_read(request[name]) for name in ("wide", "detail"))
    from recorder.profile import Profile

    try:
        profile = Profile.load(request["profile"])
    except (OSError, ValueError) as error:
        print(json.dumps({"refused": f"the profile cannot be used: {error}"[:500]}))
        return
    views = Views(wide, detail, float(request["scale"]), int(request["width"]))
    found = profile.diagnose_views(views, key=request["key"], model_digest=request["model_digest"])
    print(json.dumps(found.document(), allow_nan=False))


def _read(shape: list[int]) -> npt.NDArray[np.float32]:
    count = int(np.prod(shape))
    return np.frombuffer(sys.stdin.buffer.read(4 * count), np.float32).reshape(shape)
