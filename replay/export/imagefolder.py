"""Pictures for training and validation: one folder a class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from recorder.bundle.manifest import Image
from replay.export.labels import label_of
from replay.export.names import NO_CLASS, plain_name
from replay.export.pictures import original_file, suffix_of
from replay.export.source import Shot, Source

__all__ = ["CLASSES", "classes_json", "imagefolder"]

#: Maps folders back to classes; it stands where ImageFolder expects folders only, and passes over it.
CLASSES = "classes.json"


def imagefolder(sources: Sequence[Source], out: Path) -> None:
    """Write ``CLASS/BUNDLE-FRAME.png``, pixels as they were recorded, and `CLASSES`.

    Args:
        sources: the frames.
        out: a directory that is there and empty.
    """
    folders: dict[str, str | None] = {}
    for source in sources:
        for shot in source.shots():
            kind = _class_of(shot, shot.images[0]) if shot.images else None
            if kind is None and source.options.by == "truth-only":
                source.exported.left_out["picture whose class is not in the metadata"] += len(shot.images)
                continue
            folder = NO_CLASS if kind is None else plain_name(kind)
            for number, image in enumerate(shot.images):
                content = original_file(source.bundle, image, source.exported)
                if content is None:
                    continue
                folders[folder] = kind
                (out / folder).mkdir(exist_ok=True)
                with (out / folder / f"{shot.name(number)}{suffix_of(image)}").open("xb") as file:
                    file.write(content)
                source.exported.images += 1
    (out / CLASSES).write_bytes(classes_json(folders))


def classes_json(folders: Mapping[str, str | None]) -> bytes:
    """The content of `CLASSES`: class by folder, null for pictures of which none is known."""
    return json.dumps(folders, indent=1, sort_keys=True).encode() + b"\n"


def _class_of(shot: Shot, image: Image) -> str | None:
    names, labels = shot.source.options.names, shot.source.exported.labels
    known = label_of(shot, image)
    if known.whole is not None:
        labels["truth"] += 1
        return names.text(known.whole)
    if shot.reading is not None and shot.reading.winner is not None and shot.source.options.by != "truth-only":
        labels["prediction"] += 1
        return names.text(shot.reading.winner)
    labels["none"] += 1
    return None
