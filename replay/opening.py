"""How bundles are opened: decrypted where they are encrypted, refused where a signature is required and missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.reader import Bundle
from recorder.bundle.source import FileSource, RangeSource
from recorder.sinks.s3.address import S3Address, is_s3
from replay.load import ConfigInvalid, read_user_config
from replay.trust import Signed, signed_by, trusted_keys

__all__ = ["Opening", "local_name", "place_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the user asked for."""

    keys: tuple[str, ...] = ()  #: files of public keys: a signature by one of them is required
    require_signed: bool = False  #: a signature by a key of the user's config is required
    identities: tuple[str, ...] = ()  #: files of age identities; those of the user's config come after them

    @property
    def requires_signature(self) -> bool:
        """Whether an unsigned bundle is refused."""
        return self.require_signed or bool(self.keys)

    def open(self, location: str) -> Bundle:
        """Open a bundle.

        Raises:
            BundleInvalid: it is not an intact bundle.
            BundleUnavailable: there is no such file, or it cannot be read.
            BundleError: it is encrypted and no identity opens it, or a signature is required and missing.
        """
        bundle = self.open_unsigned(location)
        try:
            if self.requires_signature:
                self._require(self.signed(bundle))
        except BaseException:
            bundle.close()
            raise
        return bundle

    def open_unsigned(self, location: str) -> Bundle:
        """Open a bundle whoever signed it: for what reports on signatures itself."""
        if "://" in location and not is_s3(location):
            raise BundleUnavailable(f"{location}: only files and s3:// addresses can be opened; fetch the bundle first")
        return Bundle.open(self._source(location))

    def signed(self, bundle: Bundle) -> Signed:
        """Check a bundle's signatures against the keys asked for, else those of the user's config."""
        return signed_by(bundle, trusted_keys(self.keys))

    def _source(self, location: str) -> RangeSource:
        from recorder.trust.encryption import decrypted, is_encrypted

        source = _opened(location)
        try:
            if not is_encrypted(source):
                return source
            return decrypted(source, [*self.identities, *_configured_identities()])
        except BaseException:
            source.close()
            raise

    def _require(self, signed: Signed) -> None:
        if signed.state == "trusted":
            return
        if signed.remark is not None:
            raise BundleError(signed.remark)
        wanted = "the key given" if self.keys else "a key in trusted_keys/ of your config"
        found = "it is not signed" if signed.state == "none" else "it is signed by others only"
        raise BundleError(
            f"a signature by {wanted} is required and {found}; get the bundle from who sealed it, "
            "or open it without asking for a signature"
        )


def place_of(location: str) -> Path | S3Address:
    """Return where a bundle is.

    Raises:
        BundleUnavailable: it is meant to be an address in S3 and is none.
    """
    if not is_s3(location):
        return Path(location)
    try:
        return S3Address.parse(location)
    except ValueError as error:
        raise BundleUnavailable(str(error).rstrip(".")) from error


def local_name(location: str) -> str:
    """Return the path beside which what is made of a bundle stands: of one in a bucket, here under its own name."""
    return location.rpartition("/")[2] if is_s3(location) else location


def _opened(location: str) -> RangeSource:
    if not is_s3(location):
        return FileSource(location)
    from recorder.sinks.s3.source import S3Source

    return S3Source(location)


def _configured_identities() -> list[str]:
    try:
        return [str(Path(path).expanduser()) for path in read_user_config().identities]
    except ConfigInvalid as error:
        raise BundleError(str(error)) from error
