"""How one image is redacted: built-in methods with boxes from the metadata, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.values import JsonValue
from recorder.privacy.redactors import downscale, fill, pixelate

__all__ = ["ImageFunction", "RedactionFailed", "Redactor", "redact"]

#: Takes pixels (a copy of its own) and the frame's metadata, returns pixels of the same dtype.
ImageFunction = Callable[[NDArray[Any], Mapping[str, JsonValue]], NDArray[Any]]

_METHODS = ("pixelate", "fill", "downscale", "function")


class RedactionFailed(Exception):
    """The image could not be redacted and must not be shown; the message is one reason, without the image's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redactor:
    """One step; made by `pixelate`, `fill`, `downscale` and `function`.

    Raises:
        ValueError: an argument is out of range.
    """

    method: str  #: "pixelate", "fill", "downscale" or "function"
    boxes: str | None = None  #: metadata key of the boxes, ``[[x0, y0, x1, y1], …]`` in pixels; None: the whole image
    block: int = 16  #: of pixelate
    value: int = 0  #: of fill
    factor: int | None = None  #: of downscale, or
    max_side: int | None = None
    target: str | None = None  #: of function: "package.module:function"

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"{self.method!r} is no way to redact an image; there are {', '.join(_METHODS)}")
        if self.boxes is not None and (not isinstance(self.boxes, str) or not self.boxes):
            raise ValueError(f"boxes={self.boxes!r} must name the metadata key that holds them")
        if self.method == "function":
            if self.target is None or not _names_a_function(self.target):
                raise ValueError(f"{self.target!r} must read 'package.module:function': it runs in another process")
        else:
            self._apply(np.zeros((2, 2), np.uint16), [])  # says what is wrong with the numbers

    @classmethod
    def pixelate(cls, boxes: str | None = None, block: int = 16) -> Redactor:
        """Squares become their mean, inside the boxes that stand under a metadata key, else everywhere.

        A frame without that key, or with something else under it, loses its whole image.
        """
        return cls(method="pixelate", boxes=boxes, block=block)

    @classmethod
    def fill(cls, boxes: str | None = None, value: int = 0) -> Redactor:
        """One value, inside the boxes that stand under a metadata key, else everywhere."""
        return cls(method="fill", boxes=boxes, value=value)

    @classmethod
    def downscale(cls, factor: int | None = None, max_side: int | None = None) -> Redactor:
        """A smaller image: by a factor, or until its longer side has ``max_side`` pixels."""
        return cls(method="downscale", factor=factor, max_side=max_side)

    @classmethod
    def function(cls, target: str) -> Redactor:
        """``package.module:function``, called with pixels and metadata; what it raises costs the image."""
        return cls(method="function", target=target)

    @classmethod
    def from_json(cls, data: object) -> Redactor:
        """The redactor that `to_json` described: ``{"pixelate": {"boxes": "faces"}}``, ``{"function": "a.b:c"}``.

        Raises:
            ValueError: it describes none.
        """
        if not isinstance(data, dict) or len(data) != 1:
            raise ValueError(f"{data!r} is no redactor; write {{'pixelate': {{'boxes': 'faces'}}}}")
        method, options = next(iter(data.items()))
        if method == "function" and isinstance(options, str):
            options = {"target": options}
        if not isinstance(options, dict):
            raise ValueError(f"the options of {method!r} must be a dictionary")
        try:
            return cls(method=method, **options)
        except TypeError:
            raise ValueError(f"{method!r} has no such options: {', '.join(map(str, options))}") from None

    def to_json(self) -> dict[str, Any]:
        """A form that JSON and msgpack can hold."""
        by_method: dict[str, dict[str, Any]] = {
            "pixelate": {"boxes": self.boxes, "block": self.block},
            "fill": {"boxes": self.boxes, "value": self.value},
            "downscale": {"factor": self.factor, "max_side": self.max_side},
            "function": {"target": self.target},
        }
        return {self.method: {name: value for name, value in by_method[self.method].items() if value is not None}}

    def apply(
        self, pixels: NDArray[Any], metadata: Mapping[str, JsonValue], functions: Mapping[str, ImageFunction]
    ) -> NDArray[Any]:
        """Return redacted pixels.

        Raises:
            RedactionFailed: the function is not among ``functions``, raises, or returns something else than pixels.
            ValueError: ``pixels`` are no HW or HWC array of uint8 or uint16.
        """
        if self.method == "function":
            return self._call(pixels, metadata, functions.get(self.target or ""))
        if self.boxes is None:
            return self._apply(pixels, [[0, 0, pixels.shape[1], pixels.shape[0]]])
        return self._apply(pixels, metadata.get(self.boxes))

    def _apply(self, pixels: NDArray[Any], boxes: object) -> NDArray[Any]:
        if self.method == "pixelate":
            return pixelate(pixels, boxes, self.block)
        if self.method == "fill":
            return fill(pixels, boxes, self.value)
        return downscale(pixels, self.factor, self.max_side)

    def _call(
        self, pixels: NDArray[Any], metadata: Mapping[str, JsonValue], function: ImageFunction | None
    ) -> NDArray[Any]:
        if function is None:
            raise RedactionFailed("the redacting function is not there")
        try:
            redacted = function(pixels.copy(), dict(metadata))
        except Exception as error:
            raise RedactionFailed(f"the redacting function raised {type(error).__name__}") from error
        if not isinstance(redacted, np.ndarray) or redacted.dtype != pixels.dtype:
            raise RedactionFailed("the redacting function returned no pixels of the image's dtype")
        if redacted.ndim != pixels.ndim or redacted.size == 0 or redacted.shape[2:] != pixels.shape[2:]:
            raise RedactionFailed("the redacting function returned an image of another form")
        return np.array(redacted, order="C", subok=False)


def redact(
    pixels: NDArray[Any],
    steps: tuple[Redactor, ...],
    metadata: Mapping[str, JsonValue],
    functions: Mapping[str, ImageFunction] | None = None,
) -> NDArray[Any]:
    """Apply the steps in order. Boxes are coordinates of the image as it was given: put `downscale` last.

    Args:
        pixels: HW or HWC, uint8 or uint16; not modified.
        steps: at least one.
        metadata: of the frame, where the boxes stand, before it was scrubbed.
        functions: by "package.module:function", already imported: this module imports nobody's code.

    Raises:
        RedactionFailed: nothing of the image may be shown.
    """
    if not steps:
        raise RedactionFailed("there is no redactor")
    for step in steps:
        try:
            pixels = step.apply(pixels, metadata, functions or {})
        except (ValueError, MemoryError) as error:
            raise RedactionFailed(f"redacting failed with {type(error).__name__}") from error
    return pixels


def _names_a_function(text: object) -> bool:
    if not isinstance(text, str):
        return False
    module, colon, name = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in module.split(".")) and name.isidentifier()
