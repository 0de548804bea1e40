"""Nothing of the machine or of its secrets leaves: unique texts are planted, and looked for in every byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.bundle import Bundle
from recorder.sealer import recover_ring
from tests.privacy.plants import everything_in, pattern, places_of
from tests.waiting import is_empty, wait_for

REPOSITORY = Path(__file__).parents[2]

#: Where each secret is planted, by what it is.
SECRETS = {
    what: f"Plnt{number:02d}{what.title()}Qz7"
    for number, what in enumerate(
        [
            *("home", "user", "variable", "setting", "index", "package", "directory", "remote", "module", "argument"),
            *("password", "nested", "text", "exception", "header", "cookie", "url", "stream", "answer", "sensor"),
        ]
    )
}
#: What the host gave the recorder; the ring, which stays on the machine, holds it.
RECORDED = ("password", "nested", "text", "exception", "header", "cookie", "url", "stream", "answer")

DETECTOR = """
import torch

class Detector(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.body(x)
"""

HOST = """
import asyncio, json, os, socket, sys
sys.path.insert(0, sys.argv[3])
import numpy as np, torch
from detector import Detector
from recorder import FlightRecorder, PrivacyPolicy, Redactor, triggers
from recorder.adapters.fastapi import RecorderMiddleware
from tests.privacy.plants import pattern

planted = json.loads(os.environ["PLANTED"])
policy = PrivacyPolicy(
    levels={"image": "redacted", "sensor_time": "digest-only"}, redactors={"image": Redactor.pixelate("faces")}
)
recorder = FlightRecorder(
    sink=sys.argv[1], ring=sys.argv[2], max_bytes=16 * 2**20, post_seconds=0.2, privacy=policy, overhead_budget=1,
    triggers=[triggers.exception()],
)
model = recorder.attach(Detector().eval())
image = np.full((64, 96, 3), 20, np.uint8)
image[8:40, 8:40] = pattern(32)

def frame():
    with recorder.frame(
        image=image, time=planted["sensor"], faces=[[8, 8, 40, 40]], password=planted["password"],
        deep={"list": [{"api-key": planted["nested"]}]}, note=f"curl -H 'Authorization: Bearer {planted['text']}'",
        camera=f"rtsp://root:{planted['stream']}@10.0.0.7/1",
    ) as frame:
        with torch.inference_mode():
            model(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float())
        frame.output = {"crop": image, "who": planted["answer"]}

async def request():
    secret = planted["header"].encode()
    headers = [(b"authorization", b"Bearer " + secret), (b"x-note", b"sid=1; token=" + secret)]
    headers += [(b"cookie", planted["cookie"].encode()), (b"x-session-token", planted["cookie"].encode())]
    async def app(scope, receive, send):
        frame()
    served = RecorderMiddleware(app, headers=["x-note", "x-session-token"])
    await served({"type": "http", "headers": headers}, None, None)

asyncio.run(request())
recorder.trigger(f"see https://ops:{planted['url']}@example.org/?token={planted['url']}")
recorder.flush(timeout=120)
try:
    with recorder.frame(image=image):
        raise RuntimeError(
            f"{os.getcwd()}/x.pt: {socket.gethostname()} refused password={planted['exception']} of "
            f"postgresql://svc:{planted['exception']}@db/x"
        )
except RuntimeError:
    pass
frame()
recorder.flush(timeout=120)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a host full of secrets has recorded, triggered, raised, and died by SIGKILL."""
    root = tmp_path_factory.mktemp("planted")
    home, service = root / SECRETS["home"], root / SECRETS["directory"]
    site, module = root / SECRETS["package"], root / SECRETS["module"]
    for directory in (home, service, site, module, root / "spare"):
        directory.mkdir()
    (module / "detector.py").write_text(DETECTOR)
    package = site / "plainpkg-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plainpkg\nVersion: 1.0\n")
    (package / "direct_url.json").write_text(json.dumps({"url": f"https://u:{SECRETS['package']}@pypi.corp/p.whl"}))
    odd = site / "odd-1.0.dist-info"
    odd.mkdir()
    (odd / "METADATA").write_text(f"Metadata-Version: 2.1\nName: https://{SECRETS['package']}@odd\nVersion: 1.0\n")
    subprocess.run(["git", "init", "-q", str(service)], check=True, timeout=240)
    remote = f"https://u:{SECRETS['remote']}@git.corp/x.git"
    subprocess.run(["git", "-C", str(service), "remote", "add", "origin", remote], check=True, timeout=240)
    (service / "host.py").write_text(HOST)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}:{site}",
        "TMPDIR": str(root / "spare"),
        "OMP_NUM_THREADS": "1",
        "HOME": str(home),
        "USER": SECRETS["user"],
        "LOGNAME": SECRETS["user"],
        "DATABASE_URL": SECRETS["variable"],
        "MKL_CBWR": SECRETS["setting"],
        "CUBLAS_WORKSPACE_CONFIG": SECRETS["setting"],
        "PIP_INDEX_URL": f"https://u:{SECRETS['index']}@pypi.corp/simple",
        "PLANTED": json.dumps(SECRETS),
    }
    ring = root / "ring" / "host.ring"
    command = [sys.executable, str(service / "host.py"), str(root / "incidents"), str(ring), str(module)]
    command.append(SECRETS["argument"])
    process = subprocess.Popen(
        command, cwd=service, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        shutil.copytree(ring.parent, root / "copied", ignore=lambda folder, names: [n for n in names if "sealer" in n])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
    wait_for(lambda: is_empty(ring.parent))
    return root


def test_no_planted_secret_leaves_the_machine(host: Path) -> None:
    """A live trigger, an exception, a death by SIGKILL and `recover`: no byte of any bundle holds one."""
    recovered = recover_ring(host / "copied" / "host.ring", host / "recovered")
    sealed = sorted((host / "incidents").glob("*.zst"))
    kinds = set()
    secrets = [*SECRETS.values()]
    if len(name := socket.gethostname()) >= 5 and name != "localhost":
        secrets.append(name)
    for path in [*sealed, *recovered]:
        with Bundle.open(path) as bundle:
            assert bundle.verify() == []
            content = everything_in(bundle)
            kinds |= {trigger.kind for trigger in bundle.manifest.incident.triggers}
            assert bundle.manifest.track is not None and bundle.manifest.frames
            environments = [context.environment for context in bundle.manifest.contexts]
            assert any("plainpkg" in environment.packages for environment in environments)
        assert places_of(secrets, content) == [], path.name
        assert places_of(secrets, path.name.encode()) == []
        assert pattern(32)[3].tobytes() not in content
        assert pattern(32).astype("float32")[3, :, 0].tobytes() not in content
    assert kinds >= {"manual", "exception", "process_died"}


def test_the_secrets_were_there_to_be_found(host: Path) -> None:
    """Levels above "digest-only" reach the ring; what is "digest-only" and what is of the machine alone does not."""
    ring = (host / "copied" / "host.ring").read_bytes()
    assert {what for what, secret in SECRETS.items() if places_of([secret], ring)} == set(RECORDED) | {"directory"}
    assert pattern(32)[3].tobytes() in ring


def test_no_planted_secret_stands_beside_the_bundles(host: Path) -> None:
    """The model store, the status and the progress of the sealer; the ring and its track stay on the machine."""
    beside = [path for path in (host / "incidents").rglob("*") if path.is_file() and path.suffix != ".zst"]
    said = [path for path in (host / "copied").iterdir() if path.suffix in (".status", ".progress", ".track")]
    assert beside and len(said) == 3
    for path in [*beside, *said]:
        found = places_of(SECRETS.values(), path.read_bytes())
        assert found == [], path.name
