"""What sealing costs: the host's latency meanwhile, and time and size beside an archive and a zip of PNGs."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from benchmarks.payload import model_input, natural_frames, scratch, use_examples
from benchmarks.results import Section, Table, quantile
from recorder import FlightRecorder

__all__ = ["measure"]

_Picture = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def measure(frames: int) -> Section:
    """Seal a window of natural 720p frames with their tensors while the host goes on serving."""
    use_examples()
    import mobilenet

    torch.set_num_threads(1)
    given = model_input()
    pictures = list(natural_frames(frames))
    with scratch() as directory, torch.inference_mode():
        recorder = FlightRecorder(
            directory / "incidents",
            ring=directory / "ring" / "host.ring",
            max_bytes=max(256 * 2**20, 4 * frames * (pictures[0].nbytes + given.nbytes)),
            pre_frames=frames,
            post_frames=0,
            overhead_budget=1,
        )
        model = recorder.attach(mobilenet.load(), store=False)
        time.sleep(2)

        def serve(picture: _Picture) -> float:
            began = time.perf_counter_ns()
            with recorder.frame(image=picture, camera="line-3"):
                model(given)
            return (time.perf_counter_ns() - began) / 1e6

        try:
            calm = [serve(pictures[number % frames]) for number in range(max(200, frames))]
            began = time.monotonic()
            incident = recorder.trigger("benchmark")
            busy = []
            while incident.state in ("pending", "open"):
                busy.append(serve(pictures[len(busy) % frames]))
            sealed_seconds = time.monotonic() - began
            bundle_bytes = Path(incident.path or "").stat().st_size
        finally:
            recorder.close()
        rows = [["the recorder, beside a busy host", f"{sealed_seconds:.1f}", f"{bundle_bytes / 1e6:.1f}"]]
        zip_seconds, zip_bytes = _zip_of_pngs(directory, pictures)
        for name, (seconds, size_bytes) in (
            ("tar \\| zstd -3", _tar_zstd(directory, pictures, given)),
            ("zip of PNGs (Pillow, level 6), images only", (zip_seconds, zip_bytes)),
        ):
            rows.append([name, f"{seconds:.1f}", f"{size_bytes / 1e6:.1f}"])
    text = (
        f"A window of {frames} natural 720p frames with their tensors. The bundle takes {bundle_bytes / zip_bytes:.2f} "
        f"× the bytes of the zip, at {zip_seconds / sealed_seconds:.1f} × its speed. Host latency of a MobileNetV2 "
        f"frame while it is sealed ({len(busy)} frames), against before: "
        f"p50 {quantile(busy, 50) / quantile(calm, 50):.2f} ×, "
        f"p99 {quantile(busy, 99) / quantile(calm, 99):.2f} × (goal: p99 at most 1.1 ×; the sealer runs at low "
        "priority, and a machine whose other cores are busy shares this one with it)."
    )
    return Section("Sealing", text, Table(["what", "seconds", "MB"], rows))


def _tar_zstd(directory: Path, pictures: list[_Picture], given: torch.Tensor) -> tuple[float, int]:
    archive = directory / "frames.tar"
    with tarfile.open(archive, "w") as tar:
        for number, picture in enumerate(pictures):
            for name, data in ((f"{number}.raw", picture.tobytes()), (f"{number}.input", given.numpy().tobytes())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    began = time.monotonic()
    subprocess.run(["zstd", "-q", "-3", "--single-thread", archive, "-o", f"{archive}.zst"], check=True)
    seconds = time.monotonic() - began
    size_bytes = Path(f"{archive}.zst").stat().st_size
    archive.unlink()
    return seconds, size_bytes


def _zip_of_pngs(directory: Path, pictures: list[_Picture]) -> tuple[float, int]:
    path = directory / "frames.zip"
    began = time.monotonic()
    with zipfile.ZipFile(path, "w") as archive:
        for number, picture in enumerate(pictures):
            buffer = io.BytesIO()
            PIL.Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
            archive.writestr(f"{number}.png", buffer.getvalue())
    return time.monotonic() - began, path.stat().st_size
