"""What a privacy policy keeps out of the ring: taken away on the calling thread, before anything is copied.

A session has one of these only where its policy says "digest-only" somewhere, or where a stream's name is not for
others; everywhere else the hot path costs one comparison with None. Under a privacy key the digest costs the caller
about two milliseconds for a 720p image (HMAC-SHA256, which releases the interpreter); without a key nothing is hashed.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Mapping
from typing import Any

from recorder.bundle.values import JsonValue
from recorder.capture.images import CapturedImage
from recorder.capture.leaf import Leaf, RemoteLeaf, align
from recorder.capture.structure import Description
from recorder.privacy import Level, PrivacyKey, PrivacyPolicy
from recorder.privacy.scrub import Scrubber

__all__ = ["Withheld"]


class Withheld:
    """Applies the level "digest-only".

    Args:
        policy: the recording's.
        key: for digests and pseudonyms; None: values are removed and there are no digests.
        stream_key: the metadata key that names the stream.
    """

    def __init__(self, policy: PrivacyPolicy, key: PrivacyKey | None, stream_key: str) -> None:
        self._policy = policy
        self._key = key
        self._scrubber = Scrubber(denylist=policy.denylist, key=key)
        hidden = policy.level_of(f"metadata.{stream_key}") is not Level.FULL or self._scrubber.denies(stream_key)
        # Streams must be told apart also without a key: then their names mean nothing outside of this process.
        self._stream_key = (key or PrivacyKey(secrets.token_bytes(32))) if hidden else None

    @classmethod
    def of(cls, policy: PrivacyPolicy | None, key: PrivacyKey | None, stream_key: str) -> Withheld | None:
        """Return what a policy needs; None where it keeps nothing out of the ring."""
        if policy is None:
            policy = PrivacyPolicy()
        withheld = cls(policy, key, stream_key)
        return withheld if withheld._stream_key is not None or policy.is_digest_only_somewhere else None

    def stream(self, name: str) -> str:
        """Return the stream's name, or its pseudonym."""
        return name if self._stream_key is None or not name else self._stream_key.pseudonym(name)

    def keeps_out(self, field: str) -> bool:
        """Whether a field may not reach the ring."""
        return self._policy.level_of(field) is Level.DIGEST_ONLY

    def metadata(self, plain: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return metadata with pseudonyms, or nothing, in the place of what may not reach the ring."""
        return {
            key: self._scrubber.replace(value)[0] if self.keeps_out(f"metadata.{key}") else value
            for key, value in plain.items()
        }

    def keeps_out_image(self, name: str) -> bool:
        """Whether an image of this name may not reach the ring."""
        return self.keeps_out("image" if name == "image" else f"image.{name}")

    def image(self, captured: CapturedImage) -> dict[str, Any]:
        """Return what a frame's record says of an image that was kept out."""
        return {
            **captured.head,
            "sha256": None,
            "reason": "privacy",
            "original_digest": self._digest(captured.leaf),
        }

    def value(self, field: str, described: Description) -> Description:
        """Return a description without content where the field may not reach the ring, else as it is.

        Args:
            field: "model_output" or "output".
            described: nothing of it has been copied yet.
        """
        if not self.keeps_out(field):
            return described
        return Description(_Emptied(described, self).visit(described.tagged))

    def arguments(self, described: Description) -> Description:
        """The same for what `describe` made of (args, kwargs, random state[, state]); the random state stays."""
        if not self.keeps_out("model_input"):
            return described
        args, kwargs, generator, *state = described.tagged["tuple"]
        emptied = _Emptied(described, self)
        parts = [emptied.visit(args), emptied.visit(kwargs, keep_keys=True), generator]
        # A model's state is made of its earlier inputs.
        left = Description({"tuple": [*parts, *(emptied.visit(each, keep_keys=True) for each in state)]})
        if "tensor" in generator:
            place = described.tensors.index(generator["tensor"])
            generator["tensor"]["offset"] = 0
            left.leaves, left.offsets, left.tensors = [described.leaves[place]], [0], [generator["tensor"]]
            left.size_bytes = align(left.leaves[0].size_bytes)
        return left

    def exception(self, head: dict[str, Any]) -> dict[str, Any]:
        """Return an exception's description, without its message where that may not reach the ring."""
        return {**head, "message": ""} if self.keeps_out("exception_message") else head

    def _digest(self, leaf: Leaf) -> str | None:
        if self._key is None or isinstance(leaf, RemoteLeaf):  # a GPU would have to be waited for
            return None
        copy = ctypes.create_string_buffer(max(1, leaf.size_bytes))
        leaf.copy_to(ctypes.addressof(copy))
        return self._key.stated(memoryview(copy)[: leaf.size_bytes])


class _Emptied:
    """Walks a tagged value and leaves its structure, as `privacy.values.without_content` does with a parsed one."""

    def __init__(self, described: Description, withheld: Withheld) -> None:
        self._leaves = {id(tensor): leaf for tensor, leaf in zip(described.tensors, described.leaves, strict=True)}
        self._withheld = withheld

    def visit(self, tagged: Mapping[str, Any], *, keep_keys: bool = False) -> dict[str, Any]:
        tag, content = next(iter(tagged.items()))
        match tag:
            case "tensor":
                leaf = self._leaves.get(id(content))
                kept = {name: content[name] for name in ("container", "dtype", "shape", "size_bytes")}
                digest = self._withheld._digest(leaf) if leaf is not None else None
                return {"removed": {"kind": "tensor", **kept, "digest": digest}}
            case "tuple" | "list":
                return {tag: [self.visit(item) for item in content]}
            case "dict":
                named = enumerate(content)
                return {"dict": [[key if keep_keys else at, self.visit(item)] for at, (key, item) in named]}
            case "record":
                fields = [[name, self.visit(item)] for name, item in content["fields"]]
                return {"record": {**content, "fields": fields}}
            case "opaque":
                return {"removed": {"kind": "object"}}
        return {"removed": {"kind": "scalar"}}
