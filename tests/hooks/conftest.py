"""The fixtures of the core's tests, and small ONNX models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.core.conftest import TinyNet, bundles, make_recorder, net

__all__ = ["TinyNet", "bundles", "make_recorder", "net"]

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def tiny_model(domain: str = "") -> onnx.ModelProto:
    """A linear layer and a softmax; with a domain, one more operator of that domain."""
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    if domain:
        nodes.append(helper.make_node("Foreign", ["scores"], ["foreign"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """Return the path of a tiny ONNX model."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny_model().SerializeToString())
    return path


@pytest.fixture
def open_session(onnx_file: Path) -> Callable[[], onnxruntime.InferenceSession]:
    """Return a function that opens a session on the tiny model."""
    return lambda: onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
