"""A real host's answers keep every bit while it is recorded, its weights are read and its graph is exported."""

from __future__ import annotations

from pathlib import Path

from tests.product.conftest import ROOT, run

HOST = """
import sys
sys.path.insert(0, sys.argv[1])
import mobilenet, skimage.data, torch
from recorder import FlightRecorder, triggers

plain, attached = mobilenet.load(), mobilenet.load()
picture = mobilenet.preprocess(skimage.data.coffee())
with FlightRecorder(sink=sys.argv[2], triggers=[triggers.low_confidence(below=0.9999)]) as recorder:
    recorder.attach(attached)
    differing = compared = 0
    store = recorder._session
    with torch.inference_mode():
        while compared < 60 or not store._exports._idle.is_set():
            x = picture + compared * 1e-3
            with recorder.frame(number=compared):
                answer = attached(x)
            differing += not torch.equal(answer, plain(x))
            compared += 1
    assert recorder.flush(120)
    assert recorder.stats().incidents_sealed >= 1, recorder.stats()
print(compared, differing)
"""


def test_answers_are_bit_identical_with_and_without_the_recorder_export_included(tmp_path: Path) -> None:
    (tmp_path / "host.py").write_text(HOST)
    done = run(tmp_path / "host.py", ROOT / "examples", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    compared, differing = map(int, done.stdout.split())
    assert compared >= 60 and differing == 0
    assert list((tmp_path / "incidents" / "models").glob("*.graph.json"))
