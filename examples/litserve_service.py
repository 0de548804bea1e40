"""A LitServe service, batched: each worker has a recorder, each request of a batch a frame of its own.

    python examples/litserve_service.py INCIDENTS PORT
    curl localhost:PORT/predict -H 'Content-Type: application/json' -d '{"id": "a", "pixels": [0.1, 0.2, 0.3, 0.4]}'

Pixels of 1e39 become infinite, which is an incident.
"""

import os
import sys
from typing import Any

import litserve
import torch

from recorder import FlightRecorder
from recorder.adapters.litserve import recorded


def make_recorder() -> FlightRecorder:
    """Called in each worker; the sink comes from the environment, which workers inherit."""
    return FlightRecorder(sink=os.environ.get("INCIDENTS", "incidents/"), max_bytes=32 * 2**20, post_seconds=1.0)


@recorded(make_recorder, context=["request_id"])
class Classifier(litserve.LitAPI):
    """Three classes from four numbers."""

    recorder: FlightRecorder

    def setup(self, device: Any) -> None:
        torch.manual_seed(0)
        self.model = self.recorder.attach(torch.nn.Linear(4, 3).eval(), name="classifier")

    def decode_request(self, request: litserve.Request, context: dict[str, Any]) -> torch.Tensor:
        context["request_id"] = str(request["id"])
        return torch.tensor(request["pixels"], dtype=torch.float32)

    def predict(self, batch: torch.Tensor, context: list[dict[str, Any]]) -> list[int]:
        with torch.inference_mode():
            return [int(label) for label in self.model(batch).argmax(1)]

    def encode_response(self, output: int) -> dict[str, int]:
        return {"label": output}


if __name__ == "__main__":
    os.environ["INCIDENTS"] = sys.argv[1]
    api = Classifier(max_batch_size=4, batch_timeout=0.2)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False)
