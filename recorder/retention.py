"""How far back the ring reaches, watched while it records: the other half of the bound by bytes."""

from __future__ import annotations

from collections import deque

from recorder.ring import RingWriter

__all__ = ["Retention"]

#: Samples kept; with a longer minimum age they are taken further apart.
MAX_SAMPLES = 600


class Retention:
    """Measures the age that the ring holds at the present rate, from samples taken once a second.

    A record is still there when its number is not below the oldest of its lane; so everything since a sample is held
    when that is so for every lane. Exact for records of any size mix, to the distance of two samples.

    Args:
        ring: which ring.
        min_age_seconds: what it should hold; 0: nothing is measured.
    """

    def __init__(self, ring: RingWriter, min_age_seconds: float) -> None:
        self._ring = ring
        self.min_age_seconds = min_age_seconds
        self._apart_seconds = max(0.9, min_age_seconds / (MAX_SAMPLES - 2))
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=MAX_SAMPLES)

    def held_seconds(self, now_seconds: float) -> float | None:
        """Take a sample; return how much is held when that is less than the minimum age, else None."""
        if not self.min_age_seconds:
            return None
        lanes = self._ring.lanes
        oldest = [self._ring.oldest(lane) for lane in lanes]
        evicted = False
        # Samples come oldest first: drop the ones from which something is gone, but not the last of these.
        while self._samples:
            first = self._samples[0]
            evicted = any(number < bound for number, bound in zip(first[1], oldest, strict=True))
            too_old = now_seconds - first[0] > self.min_age_seconds + 2 * self._apart_seconds
            if not evicted and not too_old:
                break
            if evicted and now_seconds - first[0] <= self.min_age_seconds:
                held = next((at for at, numbers in self._samples if _is_held(numbers, oldest)), now_seconds)
                self._sample(now_seconds)
                return now_seconds - held
            self._samples.popleft()
        self._sample(now_seconds)
        return None

    def _sample(self, now_seconds: float) -> None:
        if not self._samples or now_seconds - self._samples[-1][0] >= self._apart_seconds:
            self._samples.append((now_seconds, tuple(self._ring.place(lane)[1] for lane in self._ring.lanes)))


def _is_held(numbers: tuple[int, ...], oldest: list[int]) -> bool:
    return all(number >= bound for number, bound in zip(numbers, oldest, strict=True))
