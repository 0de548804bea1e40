"""Who an encrypted bundle is for, checked as far as that needs no library: the recorder's host imports none."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["checked_recipients"]

#: The form of an X25519 recipient: its checksum is for pyrage to check.
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")


def checked_recipients(recipients: Sequence[str]) -> tuple[str, ...]:
    """Return recipients whose form is right.

    Raises:
        ValueError: one has another form.
    """
    for recipient in recipients:
        if not isinstance(recipient, str) or not _RECIPIENT.fullmatch(recipient):
            raise ValueError(f"{recipient!r} is no age recipient: age1 and 58 letters and digits, from `age-keygen -y`")
    return tuple(recipients)
