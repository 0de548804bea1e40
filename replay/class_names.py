"""Which class is which: names by index, as a list of them says or as the bundle itself tells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from recorder.bundle import Bundle
from recorder.bundle.manifest import Call, Frame
from recorder.bundle.values import TensorValue, has_removed
from replay.exchange import recorded_answer
from replay.suite.seen import View

__all__ = ["ClassNames", "answers_of", "is_class", "listed_in", "names_for", "read_labels", "told_by"]

#: A list of class names; ImageNet-21k takes half a megabyte.
_MAX_LABELS_BYTES = 8 * 2**20


#: Below all of 32 bits: labels of detectors are indices, with -1 for none.
_INVENTED = -(2**40)


class ClassNames:
    """Classes as they are called: an index, a name, or both."""

    def __init__(self, by_name: Mapping[str, int]) -> None:
        """``by_name`` holds the index of each name that is known."""
        self._by_name = dict(by_name)
        self._by_index: dict[int, str] = {}
        for name, index in by_name.items():
            self._by_index.setdefault(index, name)
        self._invented: dict[str, int] = {}
        self._called: dict[int, str] = {}

    def __iter__(self) -> Iterator[int]:
        """The indices that have a name."""
        return iter(self._by_index)

    def key(self, said: object) -> int | str:
        """The index of a class that is called by index or by name; a name of which none is known stays one."""
        text = str(said)
        if text in self._by_name:
            return self._by_name[text]
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and str(int(text)) == text else text

    def number(self, name: str) -> int:
        """The index of a name; of one without an index, a number that no model gives and `key_of` takes back."""
        key = self.key(name)
        if isinstance(key, str):
            key = self._invented.setdefault(name, _INVENTED - len(self._invented))
            self._called[key] = name
        return key

    def key_of(self, number: int) -> int | str:
        """What `number` has made an index of."""
        return self._called.get(number, number)

    def text(self, key: int | str) -> str:
        """The name of a class; its index in digits where it has none."""
        return key if isinstance(key, str) else self._by_index.get(key, str(key))

    def says(self, answer: Set[str], truth: object) -> bool | None:
        """Whether an answer that names some classes names the true one.

        None where one of them speaks in names, the other in indices, and nothing says which is which.
        """
        key = self.key(truth)
        wanted = {str(truth), str(key), self.text(key)}
        if wanted & answer:
            return True
        return False if {_is_index(each) for each in wanted} & {_is_index(each) for each in answer} else None


def _is_index(name: str) -> bool:
    return name.removeprefix("-").isdigit()


def is_class(truth: object) -> bool:
    """Whether a value of the metadata can be the name or the index of a class."""
    return isinstance(truth, str | int) and not isinstance(truth, bool)


def names_for(bundle: Bundle, truth: str) -> ClassNames:
    """The names that a bundle tells, for the truth under a key of its metadata; nothing is read where there is none."""
    said = any(is_class(frame.metadata.get(truth)) for frame in bundle.manifest.frames)
    return ClassNames(told_by(bundle) if said else {})


def listed_in(bundle: Bundle) -> dict[str, int]:
    """Index by name, of the lists of class names that stand in the metadata of frames."""
    found: dict[str, int] = {}
    for frame in bundle.manifest.frames:
        for key in ("labels", "classes", "class_names"):
            names = frame.metadata.get(key)
            if isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names):
                found |= {str(name): index for index, name in enumerate(names)}
    return found


def told_by(bundle: Bundle) -> dict[str, int]:
    """What the bundle itself tells: a list of names in the metadata, and what the service called which index.

    A service that calls two indices by one name, or one by two (an unsure one "unknown", say), tells nothing of these.
    """
    called: set[tuple[str, int]] = set()
    for frame in bundle.manifest.frames:
        views = answers_of(bundle, frame) if frame.output is not None else []
        if len(views) == 2:
            texts = [name for name in views[0].names if not _is_index(name)]
            indices = [name for name in views[1].names if name.isdigit()]
            if len(texts) == 1 and len(indices) == 1:
                called.add((texts[0], int(indices[0])))
    names, numbers = (Counter(each[place] for each in called) for place in (0, 1))
    return {name: index for name, index in sorted(called) if names[name] == numbers[index] == 1} | listed_in(bundle)


def answers_of(bundle: Bundle, frame: Frame) -> list[View]:
    """The recorded answers to a frame: the service's own, and that of the last model."""
    by_id: dict[int, Call] = {call.id: call for call in bundle.manifest.calls}
    outer = [by_id[each] for each in frame.calls if each in by_id and by_id[each].parent is None]
    views = []
    if frame.output is not None and not isinstance(frame.output, TensorValue) and not has_removed(frame.output):
        views.append(View(recorded_answer(frame.output, bundle.tensor_bytes)))
    if outer and outer[-1].output is not None and not has_removed(outer[-1].output):
        call = outer[-1]
        row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else None
        assert call.output is not None  # noqa: S101 - just seen
        views.append(View(recorded_answer(call.output, bundle.tensor_bytes), row))
    return views


def read_labels(path: Path) -> dict[str, int]:
    """Read the names of classes: one a line, a JSON list, or a model's config with ``id2label`` or ``labels``.

    Raises:
        ValueError: it is none of these; one sentence.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_LABELS_BYTES + 1)
        if len(content) > _MAX_LABELS_BYTES:
            raise ValueError(f"it is larger than {_MAX_LABELS_BYTES} bytes")
        text = content.decode("utf-8")
        data: Any = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.split("\n")
        if isinstance(data, dict):
            data = data.get("id2label", data.get("labels", data))
        pairs = data.items() if isinstance(data, dict) else enumerate(data)
        found = {str(name).strip(): int(index) for index, name in pairs if str(name).strip()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        no_text = isinstance(error, UnicodeDecodeError)
        why = error.strerror if isinstance(error, OSError) else "it is no text" if no_text else str(error)[:100]
        raise ValueError(f"--labels {path}: {why}; write one name a line, or a JSON list") from error
    if not found:
        raise ValueError(f"--labels {path} names no class; write one name a line, or a JSON list")
    return found
