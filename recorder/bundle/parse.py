"""From the bytes of ``manifest.json`` to the checked tree."""

from __future__ import annotations

from recorder.bundle import codec, schema, strictjson
from recorder.bundle.check import check_manifest
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import FORMAT_MAJOR, FORMAT_NAME, Manifest
from recorder.bundle.values import PLANES, REMOVED_VALUES

__all__ = ["parse_manifest"]

#: Features a manifest may require of its reader (schemas/FORMAT.md, section 7).
_KNOWN_FEATURES = frozenset({REMOVED_VALUES, PLANES})


def parse_manifest(text: bytes) -> Manifest:
    """Parse and check a manifest: version and features first, they decide whether the rest can be understood.

    Raises:
        BundleInvalid: of another format or major version, requiring what this version does not know, or not what the
            schema and the references within it allow.
    """
    data = strictjson.loads(text)
    match data:
        case {"format": str(name), "format_version": {"major": int(major)}} if name == FORMAT_NAME:
            if major != FORMAT_MAJOR:
                raise BundleInvalid(
                    f"the bundle has format {major} and this version reads {FORMAT_MAJOR}; "
                    "use a matching version of vision-flight-recorder"
                )
        case _:
            raise BundleInvalid("the manifest is not one of vision-flight-recorder; check the path")
    features = data.get("required_features", [])
    unknown = [f for f in features if f not in _KNOWN_FEATURES] if isinstance(features, list) else []
    if unknown:
        raise BundleInvalid(f"the bundle requires the feature {unknown[0]!r}; update vision-flight-recorder")
    try:
        schema.validate(data)
        manifest = codec.from_json(Manifest, data)
        check_manifest(manifest)
    except RecursionError as error:
        raise BundleInvalid("the manifest is nested too deep; do not open this bundle") from error
    return manifest
