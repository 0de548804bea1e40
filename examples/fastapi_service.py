"""A FastAPI service whose frames know their request; serves three requests to itself, the second answers NaN.

python examples/fastapi_service.py [INCIDENTS]
uvicorn --app-dir examples fastapi_service:app
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import torch
from fastapi import FastAPI, Request

from recorder import FlightRecorder
from recorder.adapters.fastapi import RecorderMiddleware
from recorder.bundle import Bundle

SINK = sys.argv[1] if __name__ == "__main__" and len(sys.argv) > 1 else os.environ.get("INCIDENTS", "incidents/")
recorder = FlightRecorder(sink=SINK, max_bytes=32 * 2**20, post_seconds=1.0)

torch.manual_seed(0)
model = recorder.attach(
    torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval(),
    name="classifier",
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Wait for incidents that are still open before the process ends."""
    yield
    recorder.close()


app = FastAPI(lifespan=lifespan)
app.add_middleware(RecorderMiddleware, headers={"x-camera": "camera"})


@app.post("/predict")
async def predict(request: Request, gain: float = 1.0) -> dict[str, int]:
    """Classify a raw 16 by 16 RGB picture, brightened by ``gain``."""
    image = np.frombuffer(await request.body(), np.uint8).reshape(16, 16, 3)
    with recorder.frame(image=image) as frame, torch.inference_mode():
        scores = model(torch.tensor(image).permute(2, 0, 1)[None].float() * gain)
        frame.output = answer = {"label": int(scores.argmax())}
    return answer


async def send() -> None:
    """Send three requests, one of them with a gain that no picture survives."""
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8).tobytes()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for number, gain in enumerate(("1", "nan", "1")):
            headers = {"X-Request-ID": f"request-{number}", "X-Camera": "line-3", "Authorization": "Bearer secret"}
            print((await client.post("/predict", params={"gain": gain}, content=picture, headers=headers)).json())


def main() -> None:
    """Make an incident and show what the bundle says of the requests."""
    asyncio.run(send())
    recorder.flush(timeout=60)
    recorder.close()
    path = min(Path(SINK).glob("*.zst"))
    with Bundle.open(path) as bundle:
        for frame in bundle.manifest.frames:
            print(frame.stream, frame.metadata)
        print(bundle.manifest.incident.triggers[0].reason)


if __name__ == "__main__":
    main()
