"""One tracker's HTTP: what is sent, to whom, and which sentence each failure becomes.

The token goes to the tracker's own origin and nowhere else: a redirect to another host is refused, certificates are
checked, and plain HTTP is spoken on the loopback interface only. Proxies are those of the environment.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import recorder
from replay.show.text import inert
from replay.ticket.errors import AddressInvalid, TooLarge, TrackerUnavailable

__all__ = ["Client", "Response", "Upload", "checked_url", "origin_of"]

#: An answer is a page of comments; ten times the largest.
_MAX_ANSWER_BYTES = 32 * 2**20
#: A tracker that asks for more patience than this gets a later run.
_MAX_WAIT_SECONDS = 60.0
_MAX_ATTEMPTS = 3
_MAX_REDIRECTS = 3
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Upload(Protocol):
    """A body of known length that can be sent once."""

    content_type: str
    length: int

    def read(self, amount: int = -1, /) -> bytes:
        """Return the next bytes."""

    def close(self) -> None:
        """Let go of what is behind it."""


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self, kind: type[Any] = dict) -> Any:
        """Return the answer's JSON, which is of this type; TrackerUnavailable when it is not."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, kind):
            raise TrackerUnavailable("the tracker's answer is not what its API says; is this the API's address?")
        return parsed


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any) -> Any:
        """Leave it to us, a location that is no address too."""
        return

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def checked_url(url: str, what: str) -> str:
    """Return a base URL without its last slash.

    Raises:
        AddressInvalid: it is none, has a user or a query in it, or would send a token in the clear.
    """
    scheme, host, _ = origin_of(url)
    parts = urllib.parse.urlsplit(url) if host else None
    if parts is None or scheme not in ("https", "http") or parts.username or parts.fragment or not url.isprintable():
        raise AddressInvalid(f"{what} is no URL that can be used: give https://host/path, without user or password")
    if scheme == "http" and host not in _LOOPBACK:
        raise AddressInvalid(f"{what} begins with http://, which would send credentials in the clear; use https://")
    return url.rstrip("/")


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port; of what is no URL none of them."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Speaks to one origin.

    Attributes:
        tracker: how the tracker is called in sentences.
        base: where its API begins.
        credentials: headers that are sent to the base's origin only.
        named: what of the environment they came from, for sentences.
        target: the address on the tracker, for sentences.
    """

    tracker: str
    base: str
    credentials: Mapping[str, str] = field(repr=False)
    named: str
    target: str
    timeout_seconds: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def call(
        self,
        method: str,
        path: str,
        *,
        data: object = None,
        form: Mapping[str, str] | None = None,
        upload: Callable[[], Upload] | None = None,
        headers: Mapping[str, str] | None = None,
        tolerated: tuple[int, ...] = (),
    ) -> Response:
        """Send one request to ``base + path``, or to a URL elsewhere, then without credentials.

        Args:
            method: of HTTP.
            path: beginning with "/", or a whole URL.
            data: sent as JSON; bytes are JSON already.
            form: sent as a form.
            upload: makes the body, once for each attempt.
            headers: more of them.
            tolerated: statuses from 400 on that are returned, not raised.

        Raises:
            AddressInvalid: the tracker knows neither us nor the address.
            TrackerUnavailable: it cannot be reached, or refuses.
        """
        url = path if "://" in path else self.base + path
        for attempt in range(_MAX_ATTEMPTS):
            response = self._follow(method, url, data, form, upload, headers or {})
            wait = self._wait(response)
            if wait is None or wait > _MAX_WAIT_SECONDS or attempt == _MAX_ATTEMPTS - 1:
                break
            self.sleep(wait)
        if response.status < 300 or response.status in tolerated:
            return response
        raise self._refusal(response)

    def _follow(
        self,
        method: str,
        url: str,
        data: object,
        form: Mapping[str, str] | None,
        upload: Callable[[], Upload] | None,
        headers: Mapping[str, str],
    ) -> Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url, data, form, upload, headers)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            try:
                goal = urllib.parse.urljoin(url, response.headers.get("location", ""))
            except ValueError:
                goal = ""
            if origin_of(goal) != origin_of(url):
                host = inert(origin_of(goal)[1] or "nowhere", 100)
                raise AddressInvalid(
                    f"{self.tracker} sends us on to {host}, and credentials do not follow; name that address with --url"
                )
            if method not in ("GET", "HEAD") and response.status not in (307, 308):
                raise AddressInvalid(
                    f"{self.tracker} sends what is filed on to another address ({response.status}), which such an "
                    "answer does not take along; name that address with --url"
                )
            url = goal
        raise AddressInvalid(f"{self.tracker} sends us round in a circle; check --url")

    def _send(
        self,
        method: str,
        url: str,
        data: object,
        form: Mapping[str, str] | None,
        upload: Callable[[], Upload] | None,
        headers: Mapping[str, str],
    ) -> Response:
        sent = {"User-Agent": f"vision-flight-recorder/{recorder.__version__}", "Accept": "application/json", **headers}
        body: Any = None
        if upload is not None:
            body = upload()
            sent |= {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        elif form is not None:
            body = urllib.parse.urlencode(form).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        elif data is not None:
            body = (
                data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
            )
            sent["Content-Type"] = "application/json; charset=utf-8"
        if origin_of(url) == origin_of(self.base):
            sent |= self.credentials
        request = urllib.request.Request(url, data=body, headers=sent, method=method)  # noqa: S310  # scheme checked
        opener = urllib.request.build_opener(_NoRedirects())
        try:
            with opener.open(request, timeout=self.timeout_seconds) as answer:
                return self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return self._read(error)
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise self._unreachable(error, upload is not None) from error
        finally:
            if upload is not None:
                body.close()

    def _read(self, answer: Any) -> Response:
        until = time.monotonic() + self.timeout_seconds
        body = bytearray()
        try:
            while len(body) < _MAX_ANSWER_BYTES and (some := answer.read1(_MAX_ANSWER_BYTES - len(body))):
                body += some
                if time.monotonic() > until:  # byte by byte an answer takes for ever, and each is in time
                    raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error, False) from error
        return Response(answer.status, {name.lower(): value for name, value in answer.headers.items()}, bytes(body))

    def _wait(self, response: Response) -> float | None:
        """How long the tracker asks us to wait: 429, or GitHub's 403 and 503 with Retry-After."""
        text = response.headers.get("retry-after", "")
        if response.status == 429 or (response.status in (403, 503) and text):
            return float(text) if text.isdecimal() and len(text) < 7 else 10.0
        return None

    def _unreachable(self, error: BaseException, sending_file: bool) -> TrackerUnavailable:
        reason: object = error.reason if isinstance(error, urllib.error.URLError) else error
        again = "try again later, nothing is filed twice"
        if isinstance(reason, TimeoutError):
            return TrackerUnavailable(f"{self.tracker} did not answer within {self.timeout_seconds:g} s; {again}")
        why = inert(getattr(reason, "strerror", None) or reason or type(reason).__name__, 150).rstrip(".")
        if sending_file and isinstance(reason, ConnectionError):
            return TrackerUnavailable(
                f"{self.tracker} ended the connection while the bundle was being sent ({why}); it may be too large "
                "for it: file it with --no-attach"
            )
        host = urllib.parse.urlsplit(self.base).hostname
        return TrackerUnavailable(f"{self.tracker} cannot be reached at {host} ({why}); {again}")

    def _refusal(self, response: Response) -> AddressInvalid | TrackerUnavailable:
        status, said = response.status, _message(response.body)
        if status == 401:
            return AddressInvalid(f"{self.tracker} does not accept the credentials in {self.named} (401); renew them")
        if (wait := self._wait(response)) is not None or response.headers.get("x-ratelimit-remaining") == "0":
            later = f"in {wait:.0f} s" if wait is not None else "later"
            return TrackerUnavailable(f"{self.tracker} has had enough requests ({status}); try again {later}")
        if status == 403:
            return AddressInvalid(
                f"{self.tracker} does not let the credentials in {self.named} do this (403{said}); give them the "
                "rights that docs/tickets.md lists"
            )
        if status in (404, 410):
            return AddressInvalid(
                f"{self.tracker} has no {self.target}, or does not show it to the credentials in {self.named} "
                f"({status}); check --to and --url"
            )
        if status == 413:
            return TooLarge(f"{self.tracker} finds the bundle too large (413); file it with --no-attach")
        return TrackerUnavailable(
            f"{self.tracker} refuses ({status}{said}); "
            + ("try again later" if status >= 500 else "see docs/tickets.md")
        )


def _message(body: bytes) -> str:
    """What a tracker says went wrong, shortened: it is somebody else's text."""
    try:
        parsed = json.loads(body[:65536])
    except (ValueError, RecursionError):
        return ""
    said = (
        parsed.get("message") or parsed.get("errorMessages") or parsed.get("error") if isinstance(parsed, dict) else ""
    )
    if isinstance(said, list):
        said = " ".join(str(each) for each in said[:3])
    return f": {inert(said, 150)}" if isinstance(said, str) and said else ""
