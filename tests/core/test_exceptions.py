"""What is kept of an exception: who called and what failed, whatever lies between."""

from __future__ import annotations

from collections.abc import Callable

from recorder.bundle.manifest import ExceptionInfo
from recorder.exception_head import INNERMOST_ENTRIES, OUTERMOST_ENTRIES, exception_head


def raised(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # the point
        return error
    raise AssertionError("nothing was raised")


def dive(depth: int) -> None:
    if depth:
        dive(depth - 1)
    else:
        fail_at_the_bottom()


def fail_at_the_bottom() -> None:
    raise ValueError("deep")


def test_both_ends_of_a_long_traceback_are_kept() -> None:
    """The innermost entries say what failed; sixty-four frames of middleware above it must not hide them."""
    entries = exception_head(raised(lambda: dive(500)), "frame")["traceback"]
    assert entries[0].startswith("tests.core.test_exceptions:raised:")
    assert entries[-1].startswith("tests.core.test_exceptions:fail_at_the_bottom:")
    assert len(entries) == OUTERMOST_ENTRIES + 1 + INNERMOST_ENTRIES
    [gap] = [entry for entry in entries if "left out" in entry]
    assert gap == f"… {504 - OUTERMOST_ENTRIES - INNERMOST_ENTRIES} entries left out"


def test_a_traceback_that_fits_is_kept_whole() -> None:
    """Up to the sum of both ends."""
    for depth in (0, OUTERMOST_ENTRIES, OUTERMOST_ENTRIES + INNERMOST_ENTRIES - 4):
        entries = exception_head(raised(lambda depth=depth: dive(depth)), "frame")["traceback"]
        assert len(entries) == depth + 4 and not any("left out" in entry for entry in entries)


def test_an_error_that_cannot_describe_itself_is_described() -> None:
    """A host's ``__str__`` may do anything."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail() -> None:
        raise Mute

    head = exception_head(raised(fail), "model")
    assert head["message"] == "" and head["type"].endswith("Mute")
    ExceptionInfo(**{**head, "traceback": tuple(head["traceback"])})
