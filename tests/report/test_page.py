"""The page as a file: what it holds, what it may load, and what a stranger's strings become in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from recorder.bundle.writer import BundleWriter
from replay.cli import cli
from replay.commands import report
from replay.report.drawings import boxes_of, classes_of, drawing, mask_colours
from replay.report.pictures import picture
from replay.report.plots import plot
from tests.export.conftest import detected, made
from tests.golden.regenerate import FOLDER
from tests.report.conftest import Make

MAX_BYTES = 8_000_000


class Parsed(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        """What follows is no longer in it."""
        self._open = ""

    def handle_data(self, data: str) -> None:
        """Keep the text of the element that was opened last."""
        self.texts[self._open] = self.texts.get(self._open, "") + data

    def count(self, tag: str) -> int:
        """How many elements there are of a kind."""
        return sum(name == tag for name, _ in self.elements)


@pytest.mark.parametrize("which", ["page", "attacked"])
def test_nothing_on_the_page_leads_out_of_it(which: str, request: pytest.FixtureRequest) -> None:
    """Addresses are data: or fragments; one style and one script, those whose digests the policy names."""
    parsed = Parsed(request.getfixturevalue(which))
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcset", "action")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), (tag, attributes)
    assert (parsed.count("script"), parsed.count("style"), parsed.count("link")) == (1, 1, 0)
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(parsed.texts[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_strings_that_attack_are_text(attacked: Path, page: Path) -> None:
    """The page of an attack has no other kinds of elements than an honest one, and no character that moves anything."""
    text = attacked.read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text)
    assert "49=cmd" not in text  # {{7*7}} was not evaluated
    assert {tag for tag, _ in Parsed(attacked).elements} <= {tag for tag, _ in Parsed(page).elements} | {"ul", "li"}
    images = [attributes for tag, attributes in Parsed(attacked).elements if tag == "img"]
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,") for each in images)


@pytest.mark.parametrize("golden", sorted(path.name for path in FOLDER.glob("*.zst")))
def test_every_kind_of_bundle_has_a_page(golden: str, make: Make) -> None:
    """Salvaged, thinned, redacted, without images: each makes a page with a heading."""
    parsed = Parsed(make(FOLDER / golden))
    assert parsed.count("h1") == 1
    assert parsed.count("h2") >= 5


def test_sixty_four_frames_stay_below_eight_megabytes(page: Path) -> None:
    """And all of them are there."""
    assert page.stat().st_size < MAX_BYTES
    assert Parsed(page).count("article") == 64


def test_a_saved_result_gives_the_verdict(bundle: Path, make: Make) -> None:
    """One that is valid and of this bundle; others are named and not used."""
    saved = Path(f"{bundle}.replay.json")
    with Bundle.open(bundle) as opened:
        result = _result(opened.id)
    try:
        saved.write_text(json.dumps(result))
        text = make(bundle).read_text("utf-8")
        assert "<strong>diverged</strong>" in text
        assert "&lt;b&gt;it differs&lt;/b&gt;" in text
        assert "features" in text  # the tree of layers
        saved.write_text(json.dumps({**result, "bundle": "0" * 64}))
        assert "that of another bundle" in make(bundle).read_text("utf-8")
        saved.write_text("{")
        text = make(bundle).read_text("utf-8")
        assert "The saved result is not used" in text
        assert "not replayed yet" in text
    finally:
        saved.unlink()


def _result(bundle_id: str) -> dict[str, Any]:
    layer = {"path": "features.3.conv", "kind": "Conv2d", "call_index": 0, "operator": None}
    difference = {"stage": "model", "where": "output", "what": "another class", "layer": layer}
    return {
        "format": "vision-flight-recorder replay", "format_version": {"major": 1, "minor": 0}, "bundle": bundle_id,
        "verdict": "diverged", "reproduced": False, "failure_reproduced": None, "numerics": "faithful",
        "not_restored": [], "remedies": [], "exit_code": 1, "conclusion": "<b>it differs</b>",
        "frames": [{"id": 1, "level": "diverged", "first_difference": difference}],
    }  # fmt: skip


def test_what_changed_against_a_reference_is_named(bundle: Path, make: Make) -> None:
    """A bundle of another machine and model."""
    assert (
        "weights" in make(bundle, "--against", FOLDER / "1.0-batch.zst").read_text("utf-8").partition("What changed")[2]
    )


def test_a_file_that_is_there_is_never_overwritten(page: Path, bundle: Path) -> None:
    """Exit code 2 and one sentence."""
    ended = CliRunner().invoke(cli, ["report", str(bundle), "-o", str(page)])
    assert ended.exit_code == 2
    assert "Traceback" not in ended.output


def test_pictures_fit_their_budget_or_are_left_out() -> None:
    """Noise compresses badly: it is made smaller, not cut."""
    noise = np.random.default_rng(1).integers(0, 4096, (600, 800), dtype=np.uint16)
    made = picture(noise, 30_000)
    assert made is not None
    assert len(made.uri) < 30_000 * 4 / 3 + 40
    assert picture(noise, 100) is None
    assert picture(np.zeros((4, 4, 7), np.uint8), 10_000) is None


def test_boxes_masks_and_classes_are_drawn() -> None:
    """A detector's boxes with their scores, a mask, and of a classifier the five likeliest."""
    boxes = np.array([[10, 20, 30, 40], [0, 0, 5, 5], [9, 9, 1, 1], [np.nan, 0, 1, 1]], np.float32)
    drawn, left_out = boxes_of(boxes, np.array([0.5, 0.9, 0.8, 0.7], np.float32), np.array([3, 1, 0, 0]))
    assert [(box.x, box.width, box.label) for box in drawn] == [(0, 5, "class 1 0.90"), (10, 20, "class 3 0.50")]
    assert left_out == 0
    masks = np.zeros((2, 1, 8, 8), np.float32)
    masks[1, 0, 2:4, 2:4] = 0.9
    colours = mask_colours(masks, None)
    assert colours is not None
    assert (colours[..., 3] > 0).sum() == 4
    scores = np.zeros((1, 3, 8, 8), np.float32)
    scores[0, 2, :4] = 1
    colours = mask_colours(None, scores)
    assert colours is not None
    assert (colours[..., 3] > 0).sum() == 32
    assert [index for index, _ in classes_of(np.array([[0.0, 3.0, 1.0]], np.float32), None)] == [1, 2, 0]


@pytest.mark.parametrize(("size", "expected"), [((64, 48), (8, 12, 16)), ((32, 24), (16, 24, 32)), ((64, 64), None)])
def test_a_models_boxes_are_drawn_where_they_belong_or_not_at_all(
    tmp_path: Path, size: tuple[int, int], expected: tuple[float, float, float] | None
) -> None:
    """The picture has 64 x 48 pixels; what the model was given may be a part of it, or have borders."""
    boxes = np.asarray([[8, 12, 24, 24]], np.float32)
    with Bundle.open(
        made(tmp_path / "a.zst", lambda manifest, writer: detected(writer, manifest, size, boxes))
    ) as bundle:
        [frame], calls = bundle.manifest.frames, {call.id: call for call in bundle.manifest.calls}
        drawn = drawing(bundle, frame, calls)
    assert [(box.x, box.y, box.width) for box in drawn.boxes] == ([] if expected is None else [expected])
    assert drawn.boxes_left_out == (expected is None)


def test_a_plot_leaves_gaps_where_there_is_no_number() -> None:
    """A line is drawn between neighbours only; nothing at all is no plot."""
    drawn = plot("confidence", "", [0.5, 0.6, None, 0.7, float("nan")], [1, 2, 3, 4, 5], 0.55)
    assert drawn is not None
    assert drawn.line.count("M") == 2
    assert "most 0.7 at frame 4" in drawn.summary
    assert plot("confidence", "", [None, float("inf")], [1, 2]) is None


def test_a_page_of_somebody_else_is_left_alone(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place was free when the command looked, and is not when the page is made."""
    path = tmp_path / "report.html"

    def slow(name: str, bundle_id: str) -> tuple[None, str]:
        path.write_text("theirs")
        return None, ""

    monkeypatch.setattr(report, "_result", slow)
    ended = CliRunner().invoke(cli, ["report", str(bundle), "-o", str(path)])
    assert ended.exit_code == 2
    assert "exists by now" in ended.output
    assert path.read_text() == "theirs"


def test_a_thinned_bundle_is_not_said_to_lack_large_images(make: Make) -> None:
    text = make(FOLDER / "1.0-thinned.zst").read_text("utf-8")
    assert text.count("the image was left out: thinned, to keep the bundle within its size") == 4
    assert "left out: too large" not in text


def test_thousands_of_triggers_and_contexts_make_no_larger_page(make: Make, tmp_path: Path) -> None:
    """The first are shown and the others counted: a hostile bundle's page opens as quickly as any."""

    def change(manifest: Manifest, _: BundleWriter) -> Manifest:
        incident, context = manifest.incident, manifest.contexts[0]
        long = replace(incident.triggers[0], reason="r" * 500)
        contexts = [
            replace(
                context, id=number, environment=replace(context.environment, variables={"V": "y" * 300 + str(number)})
            )
            for number in range(500)
        ]
        return replace(manifest, incident=replace(incident, triggers=(long,) * 2000), contexts=tuple(contexts))

    text = make(made(tmp_path / "b" / "a.zst", change)).read_text("utf-8")
    assert "1940 more triggers" in text
    assert "and 459 more changes" in text
    assert len(text) < 300_000
