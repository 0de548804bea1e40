"""Links to a bundle in a bucket that work without credentials, for a while: only when asked."""

from __future__ import annotations

import re
import urllib.parse

from replay.ticket.errors import AddressInvalid, TrackerUnavailable

__all__ = ["MAX_SECONDS", "parse_duration", "presigned"]

#: Signature version 4 allows no more.
MAX_SECONDS = 7 * 86400
_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(text: str) -> int:
    """Return the seconds of "15m", "12h" or "7d".

    Raises:
        AddressInvalid: it is none, or longer than a link can live.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    seconds = int(match[1]) * _UNITS_SECONDS[match[2]] if match else 0
    if not 0 < seconds <= MAX_SECONDS:
        raise AddressInvalid("--presign takes a span such as 15m, 12h or 7d, at most 7d")
    return seconds


def presigned(location: str, seconds: int) -> str:
    """Return a link to an object, signed with the credentials of the environment.

    Raises:
        AddressInvalid: the location is in no bucket.
        TrackerUnavailable: there are no credentials.
    """
    parts = urllib.parse.urlsplit(location)
    if parts.scheme != "s3" or not parts.netloc:
        raise AddressInvalid("--presign needs a bundle in a bucket (s3://…); a local file has no address for others")
    from recorder.sinks.s3.address import S3Address
    from recorder.sinks.s3.client import sentence_of
    from recorder.sinks.s3.source import reading_client

    try:
        address = S3Address.parse(location)
    except ValueError as error:
        raise AddressInvalid(str(error).rstrip(".")) from error
    held = {"Bucket": address.bucket, "Key": address.key}
    try:
        return str(reading_client().generate_presigned_url("get_object", Params=held, ExpiresIn=seconds))
    except Exception as error:
        raise TrackerUnavailable(f"no link can be signed: {sentence_of(error, address)}") from error
