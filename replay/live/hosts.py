"""Where the server listens, and by which names a browser may call it: none that somebody else's DNS could lead here."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any

from recorder.bundle.errors import BundleUnavailable
from replay.show.text import inert

__all__ = ["Place"]

_HOST = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::[0-9]{1,5})?")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HERE: frozenset[_Address] = frozenset({ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")})


class Place:
    """An address to listen on, found by what the user calls it.

    A page that a rebound name leads here names itself in ``Host``, so each name is checked by what it can mean: an
    address is never looked up, hence never rebound; browsers take ``localhost`` for this machine without asking; and
    a name that the user gave is the user's choice. The port is not checked: a forwarded connection has another, and
    no page of a strange name comes by one.
    """

    def __init__(self, host: str, port: int) -> None:
        """Find the address of a name; ``[::1]`` and ``::1`` are the same.

        Raises:
            BundleUnavailable: there is none.
        """
        named = host.strip("[]").lower()
        try:
            if not named:
                raise OSError(None, "it is empty")
            found = socket.getaddrinfo(named, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no name"
            raise BundleUnavailable(
                f"--host {inert(host, 60)} is no address of this machine: {why}; leave it out to listen on 127.0.0.1"
            ) from error
        self.family: socket.AddressFamily = found[0][0]
        self.address: tuple[Any, ...] = found[0][4]
        self._named = named.encode("idna").decode("ascii") if not named.isascii() else named
        self._ip = ipaddress.ip_address(str(self.address[0]))

    @property
    def is_here(self) -> bool:
        """Whether only this machine reaches it."""
        return self._ip.is_loopback

    @property
    def is_everywhere(self) -> bool:
        """Whether it is every address of this machine."""
        return self._ip.is_unspecified

    @property
    def shown(self) -> str:
        """What stands in an address to open on this machine."""
        if self.is_everywhere:
            return "127.0.0.1" if self._ip.version == 4 else "[::1]"
        return f"[{self._named.replace('%', '%25')}]" if ":" in self._named else self._named

    def is_own(self, header: str) -> bool:
        """Whether a ``Host`` header names this place."""
        match = _HOST.fullmatch(header.lower())
        if match is None:
            return False
        name = match[1] or match[2]
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == self._named or (name == "localhost" and (self.is_here or self.is_everywhere))
        return self.is_everywhere or address == self._ip or (self.is_here and address in _HERE)
