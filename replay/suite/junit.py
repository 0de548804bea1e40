"""A run as JUnit XML, as CI systems read it: a failure for a failure and a flaky case, an error where it cannot run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from replay.show.text import inert
from replay.suite.running import CaseResult

__all__ = ["is_junit", "write_junit"]

_HEAD_BYTES = 4096


def is_junit(path: Path) -> bool:
    """Whether a file is a report such as `write_junit` makes, or an empty one: nothing else is written over.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return not head or (head.lstrip().startswith(b"<") and b"<testsuite" in head)


def write_junit(results: Sequence[CaseResult], name: str, path: Path) -> None:
    """Write one ``testsuite`` with one ``testcase`` a case; every string is made inert, so that XML can hold it.

    Raises:
        OSError: the file cannot be written.
    """
    counts = {status: sum(result.status == status for result in results) for status in ("fail", "flaky", "cannot-run")}
    root = Element("testsuites")
    suite = SubElement(
        root,
        "testsuite",
        name=inert(name, 200),
        tests=str(len(results)),
        failures=str(counts["fail"] + counts["flaky"]),
        errors=str(counts["cannot-run"]),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        case = SubElement(
            suite, "testcase", classname=inert(name, 200), name=inert(result.name, 100), time=f"{result.seconds:.3f}"
        )
        if result.status == "pass":
            continue
        told = " · ".join(result.sentences)
        tag = "error" if result.status == "cannot-run" else "failure"
        problem = SubElement(case, tag, type=result.status, message=inert(told, 300))
        problem.text = inert(told, 2000)
    indent(root)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
