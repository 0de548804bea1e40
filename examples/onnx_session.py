"""MobileNetV2 as an ONNX file in onnxruntime: the recorder watches the session, and replay runs the same file again.

Run it: ``python examples/onnx_session.py``, with ``pip install onnx onnxruntime``. The session knows no torch, which
only reads the weights the file is made of.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mobilenet
import numpy as np
import onnx
import onnxruntime
import skimage.data
from onnx import helper, numpy_helper
from torch import nn

from recorder import FlightRecorder, triggers


class Graph:
    """An ONNX graph that grows by one node at a time."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], weights: Sequence[np.ndarray] = (), **attributes: object) -> str:
        """Append a node; return the name of its output."""
        names = [f"weight{len(self.weights) + number}" for number in range(len(weights))]
        self.weights += [numpy_helper.from_array(array, name) for array, name in zip(weights, names, strict=True)]
        output = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*inputs, *names], [output], **attributes))
        return output

    def module(self, module: nn.Module, x: str) -> str:
        """Append a module of MobileNetV2."""
        match module:
            case nn.Conv2d():
                kernel, pads = list(module.kernel_size), list(module.padding) * 2
                settings = {"strides": list(module.stride), "group": module.groups}
                return self.add("Conv", [x], [_array(module.weight)], kernel_shape=kernel, pads=pads, **settings)
            case nn.BatchNorm2d():
                parts = (module.weight, module.bias, module.running_mean, module.running_var)
                return self.add("BatchNormalization", [x], [_array(part) for part in parts], epsilon=module.eps)
            case nn.ReLU6():
                return self.add("Clip", [x], [np.float32(0), np.float32(6)])
            case nn.Linear():
                return self.add("Gemm", [x], [_array(module.weight), _array(module.bias)], transB=1)
            case mobilenet.InvertedResidual():
                y = self.module(module.conv, x)
                return self.add("Add", [x, y]) if module.residual else y
            case nn.Sequential():
                for inner in module:
                    x = self.module(inner, x)
        return x  # dropout does nothing here


def _array(tensor: object) -> np.ndarray:
    return tensor.detach().numpy()


def build() -> bytes:
    """Return MobileNetV2 with its ImageNet weights as the bytes of an ONNX file."""
    network, graph = mobilenet.load(), Graph()
    features = graph.module(network.features, "image")
    pooled = graph.add("Flatten", [graph.add("GlobalAveragePool", [features])])
    logits = graph.module(network.classifier, pooled)
    scores = graph.add("Softmax", [logits])
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 224, 224])
    answer = helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, ["n", 1000])
    whole = helper.make_graph(graph.nodes, "mobilenet_v2", [image], [answer], graph.weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def main(sink: Path) -> int:
    """Serve three photographs, the last of them in the dark; return what `replay` says of the incident."""
    photographs = [skimage.data.coffee(), skimage.data.chelsea(), skimage.data.coffee() // 20]
    with FlightRecorder(sink=sink, triggers=[triggers.low_confidence(below=0.6)]) as recorder:
        session = onnxruntime.InferenceSession(build(), providers=["CPUExecutionProvider"])
        recorder.attach(session, name="classifier")
        for image in photographs:
            with recorder.frame(image=image, camera="line-3") as frame:
                [scores] = session.run(None, {"image": mobilenet.preprocess(image).numpy()})
                frame.output = {"label": int(scores.argmax()), "confidence": float(scores.max())}
                print(frame.output)
        recorder.flush(timeout=120)

    bundle = max(sink.glob("*.zst"))
    print(f"\n$ replay {bundle}", flush=True)
    return subprocess.run([sys.executable, "-m", "replay", str(bundle)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "incidents")))
