"""FastAPI, Starlette and any other ASGI service: frames of a request know which request they belong to.

    app.add_middleware(RecorderMiddleware, headers=["x-camera"])

A request is no frame: one may bring ten images, and most (health checks, metrics) bring none. So the endpoint opens its
frames with `recorder.frame`, or the attached model does, and every frame that begins while a request is answered takes
over the request's id and the headers that were listed by name. Nothing else of a request is read: no body, no query,
no cookie, no address. Needs no package: ASGI is a protocol.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from recorder.frame import frame_metadata

__all__ = ["RecorderMiddleware"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Credentials are never metadata, even where somebody lists them.
REFUSED = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})
#: A header is sent by anybody; longer ones are cut.
MAX_HEADER_CHARS = 256


class RecorderMiddleware:
    """Gives the frames of a request their ``request_id``, the ``route`` and the listed headers as metadata.

    Args:
        app: the application; `add_middleware` passes it.
        headers: names of request headers to keep, in any case; each is metadata under its lower-case name with
            underscores ("X-Camera" under "x_camera"), or under the name it is mapped to.
        request_id_header: where the id is taken from; a request without one gets a random id.

    Raises:
        ValueError: a header that holds credentials was listed.
    """

    def __init__(
        self,
        app: Application,
        headers: Iterable[str] | MutableMapping[str, str] = (),
        request_id_header: str = "x-request-id",
    ) -> None:
        self._app = app
        named = dict(headers) if isinstance(headers, MutableMapping) else dict.fromkeys(headers, "")
        self._headers = {
            name.lower().encode("latin-1"): key or name.lower().replace("-", "_") for name, key in named.items()
        }
        refused = sorted(name.decode("latin-1") for name in self._headers if name.decode("latin-1") in REFUSED)
        if refused:
            raise ValueError(f"headers lists {', '.join(refused)}: credentials must not be recorded")
        self._request_id = request_id_header.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope.get("type") not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        token = frame_metadata.set(self._metadata(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            frame_metadata.reset(token)

    def _metadata(self, scope: Scope) -> dict[str, object]:
        found: dict[str, object] = {}
        request_id = ""
        for name, value in scope.get("headers", ()):
            lower = bytes(name).lower()
            if lower == self._request_id:
                request_id = _text(value)
            key = self._headers.get(lower)
            if key is not None:
                found[key] = _text(value)
        return {"request_id": request_id or uuid.uuid4().hex, **found}


def _text(value: bytes) -> str:
    return bytes(value[:MAX_HEADER_CHARS]).decode("latin-1")
