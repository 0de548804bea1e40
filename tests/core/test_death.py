"""What a process leaves behind when it dies is sealed, with the frame that was in flight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.ring import RingInvalid
from recorder.sealer import recover_ring
from tests.waiting import halt, is_empty, sealers_of, wait_for

HOST = textwrap.dedent("""
    import os, sys, time
    import numpy as np
    import torch
    from recorder import FlightRecorder

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(8, 2)
            self.dying = False
        def forward(self, x):
            if self.dying:
                print("in flight", flush=True)
                {ending}
            return self.layer(x)

    recorder = FlightRecorder(sink=sys.argv[1], ring=sys.argv[2], max_bytes=16 * 2**20, overhead_budget=1)
    net = recorder.attach(Net(), store={store})
    with torch.no_grad():
        for number in range(5):
            with recorder.frame(image=np.full((4, 4), number, np.uint8), number=number) as frame:
                frame.output = net(torch.ones(1, 8) * number)
        recorder.flush(120)
        net.dying = True
        with recorder.frame(image=np.full((4, 4), 99, np.uint8), number=99):
            net(torch.ones(1, 8) * 99)
""")

ENDINGS = {
    "SIGKILL": "time.sleep(600)",
    "SIGSEGV": "import ctypes; ctypes.string_at(0)",
    "SIGABRT": "os.abort()",
    "_exit": "os._exit(0)",
}


def start_host(tmp_path: Path, ending: str, *, store: bool = False) -> subprocess.Popen[str]:
    """Start one; ``store`` lets it have its model's graph exported, which takes longer than everything else."""
    script = tmp_path / "host.py"
    script.write_text(HOST.replace("{ending}", ending).replace("{store}", str(store)))
    given = {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **given}
    command = [sys.executable, str(script), str(tmp_path / "incidents"), str(tmp_path / "ring" / "host.ring")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


@pytest.mark.parametrize("ending", ENDINGS, ids=list(ENDINGS))
def test_a_dying_host_leaves_a_bundle_whose_last_frame_is_open_and_holds_its_image(tmp_path: Path, ending: str) -> None:
    stored = ending == "SIGKILL"
    with start_host(tmp_path, ENDINGS[ending], store=stored) as host:
        assert host.stdout is not None and host.stdout.readline() == "in flight\n"
        if ending == "SIGKILL":
            host.send_signal(signal.SIGKILL)
    wait_for(lambda: list((tmp_path / "incidents").glob("*.zst")))
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
        assert bundle.verify() == []
        assert [frame.metadata["number"] for frame in manifest.frames] == [0, 1, 2, 3, 4, 99]
        assert [frame.status for frame in manifest.frames] == ["complete"] * 5 + ["open"]
        last = manifest.frames[-1]
        assert np.array_equal(bundle.pixels(last.images[0]), np.full((4, 4), 99, np.uint8))
        [call] = [call for call in manifest.calls if call.id in last.calls]
        assert call.status == "open" and bundle.array(call.args.items[0])[0, 0] == 99
        [trigger] = manifest.incident.triggers
        assert trigger.kind == "process_died" and trigger.frame == last.id
        assert manifest.incident.host == "died" and manifest.incident.window.closed_by == "death"
        assert manifest.models[0].weights is not None and bool(manifest.models[0].graphs) is stored
    # The sealer takes everything away and ends.
    wait_for(lambda: is_empty(tmp_path / "ring"))


def test_a_host_that_closes_leaves_no_incident_and_no_file(tmp_path: Path) -> None:
    with start_host(tmp_path, "pass") as host:
        assert host.wait(120) == 0
    wait_for(lambda: is_empty(tmp_path / "ring"))
    assert not list((tmp_path / "incidents").glob("*.zst"))


def test_a_ring_that_no_sealer_saw_is_recovered_by_hand(tmp_path: Path) -> None:
    with start_host(tmp_path, "time.sleep(600)") as host:
        assert host.stdout is not None and host.stdout.readline() == "in flight\n"
        ring = tmp_path / "ring" / "host.ring"
        with pytest.raises(RingInvalid, match="still recording"):
            recover_ring(ring, tmp_path / "too-early")
        halt(host)  # a host that still runs would start another sealer
        for sealer in sealers_of(ring.parent):
            os.kill(sealer, signal.SIGKILL)
        wait_for(lambda: not sealers_of(ring.parent))
        host.send_signal(signal.SIGKILL)
    [path] = recover_ring(ring, tmp_path / "recovered")
    with Bundle.open(path) as bundle:
        assert [frame.status for frame in bundle.manifest.frames] == ["complete"] * 5 + ["open"]
        assert bundle.manifest.incident.triggers[0].reason.startswith("recovered from the ring of process")
    assert ring.exists()
