"""Several stages in one record: what is committed when, and that readers see them as if each had its own."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recorder.records import Kind, RecordInvalid, pack_head
from recorder.ring import FRAMES, FrameScan, RingIdentity, RingReader, RingWriter
from recorder.sealer.leftover import salvage
from recorder.sealer.stages import SpooledStages, StageRecord, read_stages

GIVEN = torch.arange(16.0).reshape(1, 1, 4, 4)


def stages_in(recorder: Any) -> list[list[StageRecord]]:
    """The stages of each record of the ring's frames."""
    with RingReader(recorder._session.ring_path) as reader:
        return [list(read_stages(reader, record)) for record in FrameScan(reader, {}, skip_pending=True)]


def kinds(stages: list[list[StageRecord]]) -> list[list[int]]:
    return [[stage.kind for stage in record] for record in stages]


def test_a_call_outside_of_any_frame_takes_two_records(make_recorder: Any, net: Any) -> None:
    """The first call takes the plain path, the others a template; both write the same."""
    recorder = make_recorder()
    recorder.attach(net, store=False)
    for _ in range(3):
        net(GIVEN)
    records = stages_in(recorder)
    assert kinds(records) == [[Kind.BEGIN, Kind.INPUT], [Kind.OUTPUT, Kind.END]] * 3
    plain, templated = (sorted(record[0].head) for record in (records[0], records[2]))
    assert plain == templated
    assert records[0][1].head["args"] == records[2][1].head["args"]
    assert records[1][0].head["output"] == records[3][0].head["output"]
    assert [record[0].key for record in records] == sorted(record[0].key for record in records)


def test_the_inputs_are_in_the_ring_before_the_model_runs(make_recorder: Any, net: Any) -> None:
    """Of a frame made for the call as of one that the host made, by template and without."""
    recorder = make_recorder()
    seen: list[list[list[int]]] = []
    wrapped = net.forward
    net.forward = lambda x: (seen.append(kinds(stages_in(recorder))), wrapped(x))[1]
    recorder.attach(net, store=False)
    for _ in range(2):
        net(GIVEN)
        assert seen[-1][-1] == [Kind.BEGIN, Kind.INPUT]
        with recorder.frame(image=np.zeros((4, 4, 3), np.uint8)):
            net(GIVEN)
        assert seen[-1][-2:] == [[Kind.BEGIN], [Kind.INPUT]]


def test_a_call_in_flight_at_death_is_an_open_frame_with_its_input(make_recorder: Any, net: Any) -> None:
    recorder = make_recorder()
    found: list[Any] = []
    wrapped = net.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        with RingReader(recorder._session.ring_path) as reader:
            window = salvage(reader, "0" * 32, "it died", ending="killed")
            last = window.records[-1]
            tensor = last.head["args"]["tuple"][0]["tensor"]
            found.append((window.incident.triggers[0].frame, last.key, last.payload(tensor["offset"], 64)))
        return wrapped(x)

    net.forward = forward
    recorder.attach(net, store=False)
    for number in range(3):
        net(GIVEN + number)
        assert found[-1] == (found[-1][1], found[-1][1], (GIVEN + number).numpy().tobytes())


def test_a_raising_call_outside_of_any_frame_is_a_frame_that_raised(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    for fail in (None, None, ValueError("no such class"), None):
        net.fail = fail
        with contextlib.suppress(ValueError):
            net(GIVEN)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert [frame.status for frame in bundle.manifest.frames] == ["complete", "complete", "raised", "complete"]
    assert [call.status for call in bundle.manifest.calls] == ["returned", "returned", "raised", "returned"]
    assert bundle.verify() == [] and bundle.manifest.incident.lost == {}


def test_a_record_of_two_stages_is_copied_once(tmp_path: Path) -> None:
    with _ring(tmp_path, {"output": {"call": 1}, "end": {"latency": 0.5}}) as reader:
        [record] = reader.scan(FRAMES)
        spool = SpooledStages(tmp_path, "window")
        stages = read_stages(reader, record)
        costs = []
        for stage in stages:
            costs.append(spool.cost_bytes(stage))
            assert spool.add(reader, stage)
        assert costs == [record.size_bytes, 0] and spool.size_bytes == record.size_bytes
        assert [stage.head for stage in spool.records] == [{"call": 1}, {"latency": 0.5}]
        assert [stage.payload(0, 4) for stage in spool.records] == [b"data", b"data"]
        spool.close()


@pytest.mark.parametrize("head", [{}, {"begin": 1}, {"begin": {}, "trigger": {}}, {"begin": [{}]}])
def test_a_forged_record_of_stages_is_malformed(tmp_path: Path, head: dict[str, Any]) -> None:
    with _ring(tmp_path, head) as reader:
        [record] = reader.scan(FRAMES)
        with pytest.raises(RecordInvalid, match="several stages"):
            read_stages(reader, record)


def _ring(directory: Path, head: dict[str, Any]) -> RingReader:
    path = directory / "test.ring"
    sizes = {"frames_bytes": 2**16, "events_bytes": 2**14, "contexts_bytes": 2**14}
    ring = RingWriter.create(path, identity=RingIdentity.of_this_process(), **sizes)
    data, start = pack_head(head)
    assert ring.append(FRAMES, Kind.STAGES, 1, data.ljust(start, b"\0") + b"data")
    ring.close()
    return RingReader(path)
