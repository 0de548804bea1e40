"""The other examples, run as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recorder.bundle import Bundle
from tests.product.conftest import ROOT, run
from tests.waiting import free_port, sealers_of, wait_for


def test_an_exception_is_reproduced_at_the_same_stage(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "exception.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the service saw: shape '[9, 32, 14, 32, 3]' is invalid" in done.stdout
    assert "bit-exact   3 of 3 frames" in done.stdout and "the failure shows again" in " ".join(done.stdout.split())


def test_a_session_of_onnxruntime_is_replayed_from_its_file(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "onnx_session.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bit-exact   3 of 3 frames" in done.stdout
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        assert bundle.manifest.models[0].framework == "onnxruntime"


def test_the_detector_of_three_networks_replays_every_call(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "detector.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bit-exact   7 of 7 frames" in done.stdout
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
        assert [model.name for model in manifest.models] == ["pnet", "rnet", "onet"]
        assert manifest.incident.triggers[0].reason == "no face where there was one"
        assert all(len(frame.calls) >= 3 for frame in manifest.frames if frame.status == "complete")


def test_the_frames_of_a_fastapi_service_know_their_request(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "fastapi_service.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        assert "NaN" in bundle.manifest.incident.triggers[0].reason
        assert [frame.metadata for frame in bundle.manifest.frames] == [
            {"request_id": f"request-{number}", "camera": "line-3"} for number in range(3)
        ]
        assert all(frame.stream == "line-3" and frame.images for frame in bundle.manifest.frames)


def test_the_requests_of_a_litserve_batch_are_frames(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "examples" / "litserve_service.py"), str(tmp_path / "incidents"), str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_while_running(server, lambda: urllib.request.urlopen(f"{address}/health", timeout=240).status == 200)

        def ask(name: str, first: float) -> bytes:
            body = json.dumps({"id": name, "pixels": [first, 0.2, 0.3, 0.4]}).encode()
            request = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=240) as answer:
                return bytes(answer.read())

        with ThreadPoolExecutor(3) as pool:
            assert all(b"label" in answer for answer in pool.map(lambda name: ask(name, 0.1), "abc"))
        ask("infinite", 1e39)
        wait_while_running(server, lambda: any((tmp_path / "incidents").glob("*.zst")))
        path = min((tmp_path / "incidents").glob("*.zst"))
        with Bundle.open(path) as bundle:
            assert bundle.manifest.incident.triggers[0].kind == "non_finite"
            frames = {frame.metadata["request_id"]: frame for frame in bundle.manifest.frames}
            assert set(frames) == {"a", "b", "c", "infinite"}
            assert all(frame.output is not None for frame in frames.values())
    finally:
        # As Ctrl-C in a terminal: LitServe then ends its workers by SIGTERM.
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(120)
    assert server.returncode == 0
    wait_for(lambda: not sealers_of(tmp_path))  # a death would be sealed by now
    for path in (tmp_path / "incidents").glob("*.zst"):
        with Bundle.open(path) as bundle:
            assert bundle.manifest.incident.triggers[0].kind == "non_finite"


def wait_while_running(server: subprocess.Popen[bytes], done: Callable[[], object]) -> None:
    """Ask until it is so; the test's own timeout bounds it."""
    while server.poll() is None:
        with contextlib.suppress(OSError):
            if done():
                return
        time.sleep(0.2)
    raise AssertionError("the service has ended")
