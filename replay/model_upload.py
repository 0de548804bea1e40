"""What `replay model add` built, brought to a model store in a bucket: each file once, named by its digest."""

from __future__ import annotations

import threading
from pathlib import Path

from recorder.bundle.errors import BundleUnavailable
from recorder.sinks.s3.address import S3Address

__all__ = ["bring_models"]


def bring_models(directory: Path, address: S3Address) -> tuple[str, ...]:
    """Bring every model file of a store to the prefix, over nothing that is there, and return their addresses.

    Raises:
        BundleUnavailable: the bucket cannot be written, or something else stands under a digest's name.
    """
    from recorder.sinks.s3.client import connect, sentence_of
    from recorder.sinks.s3.options import S3Options
    from recorder.sinks.s3.pace import Bandwidth
    from recorder.sinks.s3.upload import KeyTaken, Upload, content_of

    brought = []
    files = sorted(path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    try:
        client = connect()
        try:
            upload = Upload(client, address.bucket, S3Options(), Bandwidth(None, threading.Event()))
            for path in files:
                where = address.within(path.name)
                with path.open("rb") as file:
                    upload.put(file, content_of(file), where.key, path.with_name(f".{path.name}.upload"))
                brought.append(str(where))
        finally:
            client.close()
    except KeyTaken as error:
        raise BundleUnavailable(
            f"{where} holds something else than its name says; remove it, then run this again"
        ) from error
    except Exception as error:  # what botocore raises is of many kinds
        raise BundleUnavailable(sentence_of(error, address)) from error
    return tuple(brought)
