"""Runs the python blocks of pages, in order, each page in a namespace of its own: `python -m tests.docs.pages`.

Standard input is JSON, page to list of blocks; a page that fails ends the process with its traceback. What a page uses
and does not define (a model, an image) stands here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnx
import torch
from fastapi import FastAPI
from onnx import TensorProto, helper

import recorder as package
from recorder import FlightRecorder, triggers

#: Absolute paths of a server, which lie in the working directory here.
_MODULE = re.compile(r"# (\w+\.py)\n")
_ELSEWHERE = re.compile(r'"(/(?:incidents|rings|run|var)\b)')


def _stand_ins() -> dict[str, Any]:
    torch.manual_seed(0)
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 4), *(torch.nn.Identity() for _ in range(18)))
    model = torch.nn.Sequential()
    model.add_module("features", features)  # features.18 is a layer that docs/drift.md names
    model.extend([torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 10)])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return {
        "model": model.eval(),
        "image": image,
        "jpeg": image,
        "preprocess": lambda picture: torch.from_numpy(picture).permute(2, 0, 1)[None] / 255,
        "decode": lambda logits: {"label": int(logits.argmax())},
        "app": FastAPI(),
        "litserve": litserve,
        "torch": torch,
        "make_recorder": lambda: FlightRecorder(sink="incidents/"),
        "FlightRecorder": FlightRecorder,
        "triggers": triggers,
    }


def _save_network(path: Path) -> None:
    """An ONNX file of one softmax over three numbers."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Softmax", ["pixels"], ["scores"])], "net", [pixels], [scores])
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), path)


def main() -> None:
    """Run the pages."""
    made: list[FlightRecorder] = []
    construct = FlightRecorder.__init__

    def constructed(self: FlightRecorder, *arguments: Any, **options: Any) -> None:
        construct(self, *arguments, **options)
        made.append(self)

    package.FlightRecorder.__init__ = constructed  # type: ignore[method-assign]
    for directory in ("incidents", "rings", "run/secrets", "run/app", "var/spool"):
        Path(directory).mkdir(parents=True, exist_ok=True)
    Path("run/secrets/flight-recorder").write_bytes(os.urandom(32).hex().encode())
    Path("run/secrets/flight-recorder").chmod(0o600)
    _save_network(Path("net.onnx"))
    warnings.simplefilter("error", UserWarning)
    warnings.simplefilter("error", RuntimeWarning)
    for page, texts in json.load(sys.stdin).items():
        names = _stand_ins()
        try:
            for text in texts:
                if module := _MODULE.match(text):
                    Path(module[1]).write_text(text)  # a later block imports it
                exec(compile(_ELSEWHERE.sub(f'"{Path.cwd()}\\1', text), page, "exec"), names)
        finally:
            for each in made:
                each.close()
            made.clear()
        print("ran", page)


if __name__ == "__main__":
    main()
