"""The sink that is a bucket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from recorder.sinks.base import BundleListing, Sink, SinkUnavailable, check_name
from recorder.sinks.claims import Claims
from recorder.sinks.directory import DirectorySink
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.claims import S3Claims
from recorder.sinks.s3.client import connect, is_status, sentence_of
from recorder.sinks.s3.options import S3Options, default_spool
from recorder.sinks.s3.uploading import Uploading, own_directory, waiting_models

__all__ = ["PATIENCE_SECONDS", "S3Sink"]

_SUFFIXES = (".zst", ".zst.age")
#: A sealer whose services are gone still tries for so long to reach the bucket; the next one goes on.
PATIENCE_SECONDS = 30.0


class S3Sink(Sink):
    """Bundles wait in a spool on this machine until they are in the bucket; a thread brings them there one at a time.

    Nothing in the bucket is ever deleted or overwritten: how long bundles stay there is for its lifecycle rules.
    ``sweep`` keeps the spool within its bounds.

    Args:
        address: the bucket and a prefix, as text.
        options: see `S3Options`.

    Raises:
        SinkUnavailable: the address is none.
        ValueError: an option is unknown or makes no sense.
    """

    arrives_later = True

    def __init__(self, address: str, **options: Any) -> None:
        try:
            parsed = S3Address.parse(address)
        except ValueError as error:
            raise SinkUnavailable(str(error)) from error
        self.address = S3Address(parsed.bucket, parsed.key.strip("/"))
        self.given = options  #: by which another process makes the same sink
        self.options = S3Options.checked(options)
        self.settled_models: set[str] = set()  #: names of model files in the spool that are known to be in the bucket
        self.spool = DirectorySink(
            self.options.spool or default_spool(self.address),
            self.options.max_spool_bytes,
            self.options.max_spool_age_seconds,
        )
        self._uploading: Uploading | None = None
        self._lock = threading.Lock()
        self._arrived: Callable[[str], None] = lambda location: None
        self._fault: Callable[[str, str], None] = lambda reason, sentence: None

    def start(self, arrived: Callable[[str], None], fault: Callable[[str, str], None]) -> None:
        """Begin with what an earlier process left in the spool."""
        self._arrived, self._fault = arrived, fault
        with suppress(SinkUnavailable):  # the first bundle will tell
            own_directory(self.spool.path)
        self._thread()

    def check(self) -> None:
        """Make the spool and a file in it, and ask for the bucket."""
        own_directory(self.spool.path)
        self.spool.check()
        try:
            self._client().list_objects_v2(Bucket=self.address.bucket, Prefix=self.address.key, MaxKeys=1)
        except Exception as error:
            # Credentials that may only write are well chosen; whether they may is for the first upload to tell.
            if not is_status(error, 403):
                raise self._unavailable(error) from error

    def publish(self, local_file: Path, name: str) -> str:
        """Put a bundle into the spool, durably, and return the location it will have once it has arrived.

        In the rare case that other bytes stand there by then, ``arrived`` is told another.
        """
        location = self.put_into_spool(local_file, name)
        self.wake()
        return location

    def put_into_spool(self, local_file: Path, name: str) -> str:
        """Do what `publish` does, and leave the bundle there."""
        check_name(name)
        own_directory(self.spool.path)
        modified = local_file.stat().st_mtime  # asked before: an upload under way may have taken the file along
        spooled = Path(self.spool.publish(local_file, name))
        return str(self.address.within(self.options.key_of(spooled.name, modified)))

    def wake(self) -> None:
        """Say that there is something in the spool."""
        self._thread().wake()

    def apart(self) -> Sink:
        """Return this sink with its uploads in a process of their own, which keep boto3 out of this one."""
        from recorder.sinks.s3.apart import ApartS3Sink

        return ApartS3Sink(self)

    def variables(self) -> dict[str, str]:
        """Return endpoint and region, where options name them; credentials are in the environment already."""
        said = {"AWS_ENDPOINT_URL_S3": self.options.endpoint_url, "AWS_REGION": self.options.region}
        return {name: value for name, value in said.items() if value}

    def find(self, name: str) -> str | None:
        """Look into the spool, then for the object of that name."""
        return self.find_in_spool(name) or self.find_in_bucket(name)

    def find_in_spool(self, name: str) -> str | None:
        """The location that a bundle which still waits will have; None where none of that name does."""
        check_name(name)
        if not (self.spool.path / name).is_file():
            return None
        return str(self.address.within(self.options.key_of(name, time.time())))

    def find_in_bucket(self, name: str) -> str | None:
        """The location of the object of that name; None where there is none."""
        check_name(name)
        location = self.address.within(self.options.key_of(name, time.time()))
        try:
            self._client().head_object(Bucket=location.bucket, Key=location.key)
        except Exception as error:
            if is_status(error, 404):
                return None
            raise self._unavailable(error) from error
        return str(location)

    def sweep(self) -> tuple[str, ...]:
        """Delete from the spool what its bounds no longer allow: the oldest bundles that wait. Each is a fault."""
        return self._thread().sweep()

    def waiting(self) -> tuple[str, ...]:
        """The spooled files that have not arrived yet, oldest first."""
        with suppress(SinkUnavailable):
            return tuple(listing.location for listing in self.spool.bundles())
        return ()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits in the spool; say whether that was in time."""
        deadline = time.monotonic() + timeout_seconds
        self.wake()
        while self.waiting():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def is_busy(self) -> bool:
        """Whether something waits that there is still hope for."""
        return self._thread().failing_seconds < PATIENCE_SECONDS and self.has_waiting()

    def has_waiting(self) -> bool:
        """Whether a bundle or a model file has not arrived yet."""
        return bool(self.waiting()) or any(True for _ in waiting_models(self.spool.path, self.settled_models))

    def close(self) -> None:
        """End the upload under way, to be resumed by the next process."""
        with self._lock:
            if self._uploading is not None:
                self._uploading.stop()
                self._uploading = None

    def bundles(self) -> Iterator[BundleListing]:
        """The bundles in the bucket, below the prefix; those that still wait are not among them."""
        prefix = f"{self.address.key}/" if self.address.key else ""
        listings = []
        try:
            pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=self.address.bucket, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    name = found["Key"].rpartition("/")[2]
                    if name.endswith(_SUFFIXES) and not name.startswith("."):
                        location = str(S3Address(self.address.bucket, found["Key"]))
                        modified = found["LastModified"].timestamp()
                        listings.append(BundleListing(location, name, found["Size"], modified))
        except Exception as error:
            raise self._unavailable(error) from error
        yield from sorted(listings, key=lambda listing: (listing.modified, listing.location))

    def models_directory(self) -> Path:
        """``models/`` in the spool: what stands in it is brought to ``models/`` below the prefix, once."""
        return self.spool.path / "models"

    def state_directory(self) -> Path:
        """The spool: what is hidden in it is no bundle."""
        return self.spool.path

    def claims(self) -> Claims:
        """Small objects beside the bundles, made by conditional writes."""
        try:
            return S3Claims(self._client(), self.address)
        except Exception as error:
            raise self._unavailable(error) from error

    def _thread(self) -> Uploading:
        with self._lock:
            if self._uploading is None:
                self._uploading = Uploading(
                    self.address,
                    self.options,
                    self.spool,
                    self.settled_models,
                    arrived=lambda location: self._arrived(location),
                    fault=lambda reason, sentence: self._fault(reason, sentence),
                )
            return self._uploading

    def _client(self) -> Any:
        return connect(endpoint_url=self.options.endpoint_url, region=self.options.region)

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(f"{sentence_of(error, self.address)}.")
