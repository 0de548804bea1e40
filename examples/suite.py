"""A scratch passes as "ok" when the lamp dims. The incident becomes a case, and the candidate has to get it right.

Run it: ``python examples/suite.py``. It leaves the suite in ``incidents/suite``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from inspector import CLASSES, broken, predict

from recorder import FlightRecorder, triggers


def surface(light: float, *, scratched: bool) -> np.ndarray:
    """64 x 64 grey pixels of brushed metal, perhaps with a scratch across."""
    image = 140 + np.random.default_rng(0).normal(0, 2, (64, 64))
    if scratched:
        image += 75 * np.eye(64)
    return np.clip(image * light, 0, 255).astype(np.uint8)


def record(sink: Path) -> Path:
    """Serve three surfaces; an operator sees what the model did not. Return the bundle."""
    with FlightRecorder(
        sink=sink, triggers=[triggers.exception()], cooldown_seconds=0, dedupe_seconds=0, overhead_budget=1
    ) as recorder:
        model = recorder.attach(broken(), name="inspector")
        for number, light in enumerate((1.0, 1.0, 0.5)):
            image = surface(light, scratched=number > 0)
            with recorder.frame(image=image, camera="line-3") as frame:
                frame.output = predict(image, model)
                if number == 2:
                    incident = recorder.trigger("operator: a scratch passed as ok")
        return sink / Path(str(incident.wait(timeout=60).path)).name


def replay(*arguments: str) -> int:
    """Run `replay` as in a shell, and show what it prints."""
    print(f"$ replay {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "replay", *arguments], check=False)
    print(f"# exit code {done.returncode}\n", flush=True)
    return done.returncode


def main(sink: Path) -> int:
    """Record, keep as a case, run it on the broken model and on the fixed one."""
    bundle = str(record(sink))
    suite, code = str(sink / "suite"), str(Path(__file__).parent)
    (sink / "classes.txt").write_text("\n".join(CLASSES))
    replay("suite", "add", bundle, "--to", suite, "--name", "dim-lamp", "--expect", "class=scratch",
           "--expect", "stable:image.brightness=0.8..1.2", "--labels", str(sink / "classes.txt"))  # fmt: skip
    before = replay("suite", "run", suite, "--pipeline", "inspector:predict_broken", "--model-dir", code)
    after = replay("suite", "run", suite, "--pipeline", "inspector:predict_fixed", "--model-dir", code)
    return 0 if (before, after) == (1, 0) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "incidents")))
