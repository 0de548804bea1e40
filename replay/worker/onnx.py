"""ONNX models in a worker: the file that was recorded, checked, in a session of onnxruntime set up as the host's was.

onnxruntime is imported here and nowhere else in replay. The file is hashed in memory and handed over from there, so
that what was checked is what is loaded, and onnxruntime has no directory to look for other files in.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recorder.models.onnx_file import OnnxInvalid, references_of
from replay.show.text import inert

__all__ = ["MAX_ONNX_BYTES", "OnnxRefused", "open_onnx"]

#: protobuf itself cannot hold more in one message.
MAX_ONNX_BYTES = 2**31 - 1

_CPU = "CPUExecutionProvider"
#: Values that the options may have; a bundle is hostile, and new levels of a newer onnxruntime may do anything.
_CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "execution_mode": ("ExecutionMode", ("ORT_SEQUENTIAL", "ORT_PARALLEL")),
    "graph_optimization_level": (
        "GraphOptimizationLevel",
        ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL"),
    ),
}
_THREADS = ("intra_op_num_threads", "inter_op_num_threads")
#: A process may ask for more threads than there are CPUs, but not for as many as a bundle can write down.
_MAX_THREADS = 1024
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}")
#: Errors only: its warnings quote names out of the model.
_LOG_ERRORS = 3


class OnnxRefused(Exception):
    """The model cannot be had here; the message is one sentence with the remedy."""


def open_onnx(
    path: str | os.PathLike[str], expected_digest: str, options: Mapping[str, Any], profile: str
) -> tuple[Callable[..., Any], list[str]]:
    """Open a session on a recorded ONNX file.

    Args:
        path: of the file.
        expected_digest: its sha256 hex; checked over the very bytes that are loaded.
        options: what was recorded of the session (manifest.Model.options); untrusted.
        profile: "faithful" restores the recorded threads, "portable" uses one, "here" onnxruntime's own choice.

    Returns:
        A function of (output names or None, feed), and sentences: what of the session is not as it was recorded.

    Raises:
        OnnxRefused: no onnxruntime, or a file that is damaged, not whole, or none that it runs.
    """
    content = _read(path, expected_digest)
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxRefused(
            "onnxruntime is not installed here; install it: pip install 'vision-flight-recorder[onnx]'"
        ) from error
    notes: list[str] = []
    settings = _settings(onnxruntime, options, profile, notes)
    _compare(onnxruntime, options, profile, notes)
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=[_CPU])
    except MemoryError:
        raise
    except Exception as error:
        said = inert(" ".join(str(error).split()), 300)
        raise OnnxRefused(
            f"onnxruntime {onnxruntime.__version__} does not load the model ({said}); install the recorded version"
        ) from error
    return session.run, notes


def _read(path: str | os.PathLike[str], expected_digest: str) -> bytes:
    file_path = Path(path)
    try:
        with file_path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_ONNX_BYTES:
                raise OnnxRefused("the ONNX file is larger than any can be; fetch it again")
            content = file.read(MAX_ONNX_BYTES)
    except OSError as error:
        raise OnnxRefused(f"the ONNX file {expected_digest[:12]}… cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected_digest:
        raise OnnxRefused(
            f"the ONNX file has the digest {found[:12]}… and not the recorded {expected_digest[:12]}…; "
            "fetch the right one"
        )
    try:
        problem = references_of(memoryview(content)).problem
    except OnnxInvalid as error:
        raise OnnxRefused(f"the ONNX file cannot be checked: {error}") from error
    if problem is not None:
        raise OnnxRefused(f"the ONNX file alone is not the model: {inert(problem, 300)}")
    return content


def _settings(onnxruntime: Any, options: Mapping[str, Any], profile: str, notes: list[str]) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _LOG_ERRORS
    # Else bytes that look like onnxruntime's own format would be read as that, unchecked.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    for name, (enumeration, known) in _CHOICES.items():
        recorded = options.get(name)
        chosen = getattr(getattr(onnxruntime, enumeration), recorded, None) if recorded in known else None
        if chosen is not None:
            setattr(settings, name, chosen)
        elif recorded is not None:
            notes.append(f"onnxruntime: the recorded {name} {inert(recorded, 60)} is not one that replay restores")
    for name in _THREADS:
        recorded = options.get(name)
        if profile == "portable":
            setattr(settings, name, 1)
        elif profile == "faithful" and type(recorded) is int and 0 <= recorded <= _MAX_THREADS:
            setattr(settings, name, recorded)
        elif profile == "faithful" and recorded is not None:
            notes.append(f"onnxruntime: the recorded {name} {inert(recorded, 60)} is not one that replay restores")
    settings.use_deterministic_compute = options.get("use_deterministic_compute") is True
    return settings


def _compare(onnxruntime: Any, options: Mapping[str, Any], profile: str, notes: list[str]) -> None:
    """Note what of the recorded runtime cannot be restored here."""
    recorded, here = options.get("onnxruntime"), str(onnxruntime.__version__)
    if recorded != here:
        said = recorded if isinstance(recorded, str) and _VERSION.fullmatch(recorded) else "unknown"
        notes.append(f"onnxruntime: version {said} was recorded, {here} runs here")
    providers = options.get("providers")
    used = [inert(each, 64) for each in providers] if isinstance(providers, list) else []
    if others := [each for each in used if each != _CPU]:
        notes.append(f"onnxruntime: recorded on {', '.join(others[:4])}, run on {_CPU}")
    if profile == "portable":
        notes.append("onnxruntime: it chooses its kernels by the CPU, which the portable profile cannot change")
