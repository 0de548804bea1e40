"""Who replays: threads of this process, each with replay workers of its own, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from replay.fleet.candidate import Candidate, replay_one
from replay.opening import Opening
from replay.show.text import inert

__all__ = ["EngineMissing", "local", "on_ray"]

Result = tuple[str, dict[str, Any]]


class EngineMissing(Exception):
    """The engine cannot be had; the message is one sentence with the remedy."""


def local(locations: Sequence[str], candidate: Candidate, opening: Opening, jobs: int) -> Iterator[Result]:
    """Yield ``(location, result)`` as they come. Models run in processes of their own, so threads are enough here.

    Closing the generator waits for the bundles under way and begins no other.
    """
    waiting = iter(locations)
    running: dict[Future[dict[str, Any]], str] = {}
    with ThreadPoolExecutor(jobs, thread_name_prefix="fleet") as pool:
        while True:
            while len(running) < jobs and (location := next(waiting, None)) is not None:
                running[pool.submit(replay_one, location, candidate, opening)] = location
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


def on_ray(
    locations: Sequence[str], candidate: Candidate, opening: Opening, jobs: int, address: str | None
) -> Iterator[Result]:
    """Do the same on a Ray cluster, where every node has this package and reaches the bundles.

    Args:
        locations: of the bundles, as every node can open them.
        candidate: what is tried.
        opening: its files of keys and identities as every node has them.
        jobs: bundles at a time; without an address also the processors of the cluster that is started here.
        address: of a cluster; None: one is started on this machine, and ended afterwards.

    Raises:
        EngineMissing: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise EngineMissing("--engine ray needs Ray: pip install 'vision-flight-recorder[fleet]'") from error
    try:
        # "local", said outright: else Ray would go to the cluster that RAY_ADDRESS names.
        ray.init(
            address=address or "local",
            num_cpus=None if address else jobs,
            include_dashboard=False,
            log_to_driver=False,
        )
    except Exception as error:
        why = f"{type(error).__name__}: {inert(error, 200)}"
        raise EngineMissing(f"Ray cannot be reached at {address or 'this machine'}: {why}") from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(replay_one)
        waiting = iter(locations)
        running: dict[Any, str] = {}
        while True:
            while len(running) < jobs and (location := next(waiting, None)) is not None:
                running[remote.remote(location, candidate, opening)] = location
            if not running:
                return
            for done in ray.wait(list(running), num_returns=1)[0]:
                location = running.pop(done)
                try:
                    yield location, ray.get(done)
                except ray.exceptions.RayError as error:  # the node or its process died of it
                    reason = f"{type(error).__name__}: the worker of the cluster died of it"
                    yield location, {"outcome": "cannot run", "reason": reason, "frames": {}, "seconds": 0.0}
    finally:
        ray.shutdown()
