"""The connection to S3, and what its errors mean in a sentence."""

from __future__ import annotations

import os
import re
from typing import Any

__all__ = ["code_of", "connect", "is_status", "reason_of", "sentence_of"]

#: A bucket that does not answer must be noticed before the next incident; a part of 8 MiB may take its time.
_CONNECT_SECONDS, _READ_SECONDS = 5, 60
#: Within one request; the uploader has a patience of its own.
_ATTEMPTS = 3

#: What S3 says, why it is counted, what to do. HEAD answers have no body, so the bare status stands here too.
_MISSING_BUCKET = "there is no such bucket; make it, or name another"
_DENIED = "access is denied; check the bucket's policy and what these credentials may do"
_KEYS = "these credentials are not known; check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_EXPIRED = "the credentials have expired; renew them"
_REGION = "the bucket is in another region; set AWS_REGION to the bucket's"
_BUSY = "the store is out of order or overloaded; try again later"
_DIGEST = "the bytes were damaged on their way; try again, and suspect the network"
#: A code as S3 writes them; the bare statuses of answers without a body are looked up below.
_CODE = re.compile(r"[A-Z][A-Za-z]{2,60}")
_REGION_NAME = re.compile(r"[a-z]{2}(-[a-z0-9]{1,20}){2,4}")
_SENTENCES = {
    "NoSuchBucket": _MISSING_BUCKET,
    "InvalidBucketName": _MISSING_BUCKET,
    "NoSuchKey": "there is no such object; `replay ls` lists what is there",
    "404": "there is no such object or bucket; `replay ls` lists what is there",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidToken": _KEYS,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it by NTP",
    "RequestExpired": "this machine's clock is wrong; set it by NTP",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "IncorrectEndpoint": _REGION,
    "301": _REGION,
    "400": "the request is refused; check the region and whether the credentials have expired",
    "BadDigest": _DIGEST,
    "InvalidDigest": _DIGEST,
    "XAmzContentSHA256Mismatch": _DIGEST,
    "PreconditionFailed": "the object was replaced while it was read; run the command again",
    "412": "the object was replaced while it was read; run the command again",
    "NotImplemented": "this store knows no conditional writes, without which a bundle could be overwritten",
    "InternalError": _BUSY,
    "ServiceUnavailable": _BUSY,
    "SlowDown": _BUSY,
    "500": _BUSY,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
}


def connect(*, endpoint_url: str | None = None, region: str | None = None) -> Any:
    """Return a new S3 client: credentials, endpoint and region by AWS's usual chain unless they are given.

    Raises:
        botocore.exceptions.BotoCoreError: the configuration of this machine cannot be used.
        ValueError: the endpoint is no address.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        # Version 2 signs links in some regions by default, and other stores no longer take it.
        signature_version="s3v4",
        # Every body goes with a SHA-256 in a signed header; reading it once more to sign it adds nothing.
        s3={"payload_signing_enabled": False},
        # Ranges have no checksum of their own, and other stores than Amazon's reject the newer headers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    # A session of our own: it looks for credentials anew, and boto3's default one is the host's. Its region is in
    # AWS_REGION for AWS's other tools, and where AWS itself sets it; boto3 knows AWS_DEFAULT_REGION alone.
    session = boto3.session.Session(region_name=region or os.environ.get("AWS_REGION") or None)
    client = session.client("s3", endpoint_url=endpoint_url, config=config)
    client.meta.events.register_last("before-parameter-build.s3", _ask_once)
    return client


def _ask_once(model: Any, context: dict[str, Any], **_: object) -> None:
    """Let the question where a bucket is be answered once.

    botocore asks by HEAD where a 301 does not say it, and would ask for each such answer to HEAD again, hundreds of
    times. That answer's header is all it needs.
    """
    if model.name == "HeadBucket":
        context.setdefault("s3_redirect", {})["redirected"] = True


def is_status(error: Exception, *statuses: int) -> bool:
    """Whether S3 answered with one of these HTTP statuses."""
    response = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("ResponseMetadata", {}).get("HTTPStatusCode") in statuses


def code_of(error: Exception) -> str:
    """Return the code that S3 answered with, as it stands; "" where it did not answer."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")) if isinstance(response, dict) else ""


def reason_of(error: Exception) -> str:
    """Return the word by which a failure is counted, such as "AccessDenied" or a class's name."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = code_of(error)
        if _CODE.fullmatch(code):
            return code
        status = _status(error)
        return status if status in _SENTENCES else f"status {status or 'unknown'}"
    return type(error).__name__


def _region_of(error: Exception) -> str | None:
    """The region that an answer sends to; None where it does not say one."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or _SENTENCES.get(reason_of(error)) != _REGION:
        return None
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region") or "")
    return region if _REGION_NAME.fullmatch(region) else None


def sentence_of(error: Exception, where: object) -> str:
    """Return one sentence about a failure, without a full stop: the place, what is wrong, what to do."""
    from botocore import exceptions

    reason = reason_of(error)
    if (region := _region_of(error)) is not None:
        return f"{where}: the bucket is in another region; set AWS_REGION={region}"
    if (known := _SENTENCES.get(reason) or _SENTENCES.get(_status(error))) is not None:
        return f"{where}: {known}"
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return f"{where}: there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, exceptions.ProfileNotFound):
        return f"{where}: AWS_PROFILE names a profile that is not in ~/.aws; correct it"
    if isinstance(error, exceptions.ParamValidationError | exceptions.InvalidRegionError | ValueError):
        return f"{where}: the bucket, region or endpoint has no valid name; check AWS_REGION and AWS_ENDPOINT_URL"
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.IncompleteReadError):
        return f"{where}: the store cannot be reached ({reason}); check the network and AWS_ENDPOINT_URL"
    return f"{where}: the store refuses ({reason}); check the request with the AWS command line"
