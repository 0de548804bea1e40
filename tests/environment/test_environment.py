"""What of the surroundings is recorded, and what never leaves the machine."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recorder.bundle.codec import from_json, to_json
from recorder.bundle.manifest import Environment
from recorder.environment import VARIABLES, allowed_variables, capture_environment
from recorder.fingerprint import FINGERPRINT_NAMES, call_settings, settings_fingerprint
from recorder.git import git_state
from recorder.torch_settings import SETTINGS, acceptable, read_settings, write_settings


@pytest.fixture(autouse=True)
def flags_as_they_were() -> Iterator[None]:
    before = read_settings(torch)
    yield
    write_settings(torch, {name: value for name, value in before.items() if name != "torch.num_interop_threads"})


def test_an_environment_survives_json() -> None:
    captured = capture_environment(Path.cwd())
    assert from_json(Environment, json.loads(json.dumps(to_json(captured)))) == captured
    assert captured.packages["torch"] == torch.__version__
    assert captured.libraries["torch.cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert captured.settings["torch.num_threads"] == torch.get_num_threads()
    assert captured.cpu["count"] == len(os.sched_getaffinity(0))


def test_no_name_path_or_address_leaves_the_machine() -> None:
    text = json.dumps(to_json(capture_environment(Path.cwd())))
    assert f'"{socket.gethostname()}"' not in text
    assert str(Path.home()) + "/" not in text and str(Path.cwd()) not in text and sys.prefix not in text
    assert "://" not in text
    if getpass.getuser() != "root":
        assert f'"{getpass.getuser()}"' not in text


def test_only_listed_variables_with_plain_values_are_kept() -> None:
    given = {"OMP_NUM_THREADS": "4", "MKL_CBWR": "AVX2 # mine", "AWS_SECRET_ACCESS_KEY": "x", "PYTHONHASHSEED": "0\n"}
    assert allowed_variables(given) == {"OMP_NUM_THREADS": "4"}
    assert not any("/" in pattern.pattern for pattern in VARIABLES.values())


def test_torch_is_not_imported_for_the_sake_of_describing_it() -> None:
    code = (
        "import sys; from recorder.environment import *; from recorder.fingerprint import settings_fingerprint;"
        "e = capture_environment(packages=False);"
        "assert 'torch' not in sys.modules and e.settings == {} and settings_fingerprint() == ()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_a_changed_flag_changes_the_fingerprint_and_back() -> None:
    before = settings_fingerprint()
    assert settings_fingerprint() == before and len(before) == len(FINGERPRINT_NAMES)
    enabled = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = not enabled
    changed = settings_fingerprint()
    torch.backends.mkldnn.enabled = enabled
    assert changed != before and settings_fingerprint() == before
    torch.set_flush_denormal(True)
    assert settings_fingerprint() != before
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert settings_fingerprint() != before
    torch.use_deterministic_algorithms(False)
    assert settings_fingerprint() == before


def test_the_model_threads_own_reading_wins_over_the_background_threads() -> None:
    """torch's number of threads is per thread once read: a background thread goes on seeing the old one."""
    found: list[Environment] = []
    turn, done = threading.Event(), threading.Event()

    def background() -> None:
        torch.get_num_threads()
        done.set()
        turn.wait(120)
        found.append(capture_environment(packages=False, fingerprint=fingerprint))

    thread = threading.Thread(target=background)
    fingerprint: tuple[object, ...] = ()
    thread.start()
    done.wait(120)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    fingerprint = settings_fingerprint()
    turn.set()
    thread.join()
    torch.set_num_threads(before)
    assert found[0].settings["torch.num_threads"] == 3


def test_settings_are_restored_by_name_and_refusals_are_told() -> None:
    wanted = {
        "torch.num_threads": 2,
        "torch.mkldnn.enabled": False,
        "torch.float32_matmul_precision": "medium",
        "torch.deterministic_algorithms": True,
        "torch.deterministic_algorithms.warn_only": True,
        "torch.sdp.math": False,
        "torch.flush_denormal": True,
        "torch.nonsense": True,
        "torch.num_interop_threads": 10**9,
    }
    assert write_settings(torch, wanted) == ["torch.nonsense", "torch.num_interop_threads"]
    read = read_settings(torch)
    assert {name: read[name] for name in list(wanted)[:7]} == {name: wanted[name] for name in list(wanted)[:7]}


def test_every_setting_reads_a_value_it_would_accept() -> None:
    read = read_settings(torch)
    assert all(acceptable(setting, read[setting.name]) for setting in SETTINGS if setting.name in read)


def test_call_settings_are_the_calling_threads() -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call_settings(True)
    assert inside.inference_mode and not inside.grad_enabled and inside.autocast == {"cpu": "bfloat16"}
    outside = call_settings(False)
    assert outside.grad_enabled and not outside.inference_mode and outside.autocast == {} and not outside.training


def test_the_commit_is_read_from_the_repository(tmp_path: Path) -> None:
    def git(*arguments: str, at: Path = tmp_path) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert git_state(tmp_path) == (None, None)
    git("init", "-q")
    assert git_state(tmp_path) == (None, None), "nothing committed yet"
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "below").mkdir()
    assert git_state(tmp_path / "below") == (commit, False)
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    git("pack-refs", "--all")
    assert git_state(tmp_path)[0] == commit
    git("worktree", "add", "-q", str(tmp_path / "tree"), "-b", "other")
    assert git_state(tmp_path / "tree")[0] == commit
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/../../secret\n")
    assert git_state(tmp_path)[0] is None
