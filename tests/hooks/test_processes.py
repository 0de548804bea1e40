"""Hosts of several processes: gunicorn's prefork, DataLoader workers, spawned children, foreign handlers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

from recorder.bundle import Bundle
from tests.waiting import free_port

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The caller's, with the project importable."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the sink as its argument."""
    script = tmp_path / "host.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, str(script), str(tmp_path / "incidents")],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        cwd=tmp_path,
    )


def incidents(tmp_path: Path) -> list[tuple[str, list[object]]]:
    """Kind of the first trigger and who recorded, of each bundle."""
    found = []
    for path in sorted((tmp_path / "incidents").glob("*.zst")):
        with Bundle.open(path) as bundle:
            manifest = bundle.manifest
            found.append((manifest.incident.triggers[0].kind, [frame.metadata.get("who") for frame in manifest.frames]))
    return found


def test_gunicorn_workers_forked_from_a_recording_master_have_rings_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(
        textwrap.dedent("""
        import os
        import torch
        from recorder import FlightRecorder

        recorder = FlightRecorder(sink=os.environ["INCIDENTS"], triggers=[], max_bytes=8 * 2**20, overhead_budget=1)
        model = recorder.attach(torch.nn.Linear(2, 2), store=False)
        with recorder.frame(who="master"):
            model(torch.zeros(1, 2))

        def app(environ, start_response):
            with recorder.frame(who=environ["PATH_INFO"]):
                model(torch.zeros(1, 2))
            state = recorder.trigger("asked").wait(120).state
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{os.getpid()} {state}".encode()]
        """)
    )
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "--preload",
                "-w",
                "2",
                "--timeout",
                "240",
                "-b",
                f"127.0.0.1:{port}",
                "service:app",
            ],
            cwd=tmp_path,
            env=environment(INCIDENTS=str(tmp_path / "incidents")),
            stdout=log,
            stderr=log,
        )
    try:
        answers = set()
        for attempt in range(1800):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{attempt}", timeout=240) as answer:
                    answers.add(answer.read().decode())
                break
            except OSError:
                time.sleep(0.1)
        assert {answer.split()[1] for answer in answers} == {"sealed"}, (tmp_path / "log").read_text()
        assert str(server.pid) not in {answer.split()[0] for answer in answers}
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0, (tmp_path / "log").read_text()
    [(kind, who)] = incidents(tmp_path)
    assert kind == "manual" and len(who) == 1 and str(who[0]).startswith("/")


def test_data_loader_workers_neither_record_nor_hang_nor_leave_an_incident(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys
        import torch
        from torch.utils.data import DataLoader, Dataset
        from recorder import FlightRecorder

        class Numbers(Dataset):
            def __len__(self):
                return 8
            def __getitem__(self, index):
                return torch.full((2,), float(index))

        if __name__ == "__main__":
            recorder = FlightRecorder(sink=sys.argv[1], triggers=[], max_bytes=8 * 2**20, overhead_budget=1)
            model = recorder.attach(torch.nn.Linear(2, 2), store=False)
            for context in ("fork", "spawn"):
                for batch in DataLoader(Numbers(), batch_size=4, num_workers=2, multiprocessing_context=context):
                    with recorder.frame(who=context):
                        model(batch)
            print(recorder.trigger("look").wait(120).state, recorder.stats().frames_recorded)
            recorder.close()
        """,
    )
    assert done.stdout.split() == ["sealed", "4"], done.stderr
    assert incidents(tmp_path) == [("manual", ["fork", "fork", "spawn", "spawn"])]


def test_a_child_of_multiprocessing_that_records_ends_in_order(tmp_path: Path) -> None:
    """It ends by os._exit, which is no death: the recorder closes with multiprocessing's own finalizers."""
    done = run(
        tmp_path,
        """
        import multiprocessing
        import sys
        import time
        from recorder import FlightRecorder

        recorder = None

        def work(sink, who):
            global recorder
            recorder = recorder or FlightRecorder(sink=sink, triggers=[], max_bytes=8 * 2**20, overhead_budget=1)
            with recorder.frame(who=who):
                pass

        if __name__ == "__main__":
            for context in ("spawn", "fork"):
                child = multiprocessing.get_context(context).Process(target=work, args=(sys.argv[1], context))
                child.start()
                child.join()
                print(child.exitcode)
            recorder = FlightRecorder(sink=sys.argv[1], triggers=[], max_bytes=8 * 2**20, overhead_budget=1)
            child = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1], "inherited"))
            child.start()
            child.join()
            print(child.exitcode)
            recorder.trigger("look").wait(120)
            time.sleep(1.0)
            recorder.close()
        """,
    )
    assert done.stdout.split() == ["0", "0", "0"], done.stderr
    assert [kind for kind, _ in incidents(tmp_path)] == ["manual"]


def test_signals_and_exit_handlers_of_the_host_stay_its_own(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import atexit, os, signal, sys
        before = {number: signal.getsignal(number) for number in range(1, 32)}
        hook = sys.excepthook
        atexit.register(print, "host's own")
        from recorder import FlightRecorder
        recorder = FlightRecorder(sink=sys.argv[1], max_bytes=8 * 2**20, overhead_budget=1)
        with recorder.frame():
            pass
        assert {number: signal.getsignal(number) for number in range(1, 32)} == before
        assert sys.excepthook is hook and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        os.kill(os.getpid(), signal.SIGTERM)
        """,
    )
    assert done.returncode == 7 and done.stdout == "host's own\n", done.stderr
    assert incidents(tmp_path) == []


def test_the_kill_switch_leaves_nothing_running(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import os, sys, threading
        os.environ["FLIGHT_RECORDER_DISABLED"] = "1"
        import torch
        from recorder import FlightRecorder
        descriptors = set(os.listdir("/proc/self/fd"))
        recorder = FlightRecorder(sink=sys.argv[1])
        net = torch.nn.Linear(2, 2)
        function = lambda x: x
        assert recorder.attach(net) is net and recorder.attach(function) is function
        with recorder.frame(image=b"x") as frame:
            frame.output = net(torch.zeros(1, 2))
        assert not net._forward_hooks and "__getstate__" not in vars(net)
        assert threading.active_count() == 1 and set(os.listdir("/proc/self/fd")) == descriptors
        assert not os.path.exists(sys.argv[1])
        children = open(f"/proc/self/task/{os.getpid()}/children").read()
        print("nothing" if not children else children)
        """,
    )
    assert done.stdout == "nothing\n", done.stderr
