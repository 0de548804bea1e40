"""`notify="ticket:jira:KEY-1"`: how the configuration says that incidents file themselves."""

from __future__ import annotations

import re

__all__ = ["PREFIX", "names_a_ticket"]

PREFIX = "ticket:"
#: The form only; `replay ticket --to` says what is wrong with an address.
_FORM = re.compile(r"ticket:(?:github|gitlab|jira|jira-server|slack|webhook):\S{1,2000}")


def names_a_ticket(notify: str) -> bool:
    """Whether ``notify`` is "ticket:" and an address for `replay ticket --to`."""
    return _FORM.fullmatch(notify) is not None
