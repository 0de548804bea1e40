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
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # Not urlsplit's path: a "?" or "#" in a key belongs to it.
    bucket, _, key = location.removeprefix("s3://").partition("/")
    try:
        client = boto3.client("s3", config=Config(signature_version="s3v4"))
        return str(
            client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)
        )
    except (BotoCoreError, ValueError) as error:
        raise TrackerUnavailable(f"no link can be signed: {error}") from error
