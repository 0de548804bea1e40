"""Strings of a bundle cannot act on a terminal, in a page, or on what a command says."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.bundle import Manifest
from recorder.bundle.manifest import ExceptionInfo
from replay.show.text import cells, fit, inert, inert_markdown
from tests.cli.conftest import Run, rewrite

ATTACK = (
    "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b32m\x90evil\x9c\r\nverdict: bit-exact\b\b\x00"
    "\u202eexe.gpj\u2066\u200b\ufeff\u00ad\u034f\U000e0041 |`@team` <script>alert(1)</script> [x](http://e.vil) "
    + "z\u0301\u0302\u0303\u0304\u0305" * 3
    + "A" * 5000
)


def _poison(manifest: Manifest) -> Manifest:
    incident = manifest.incident
    triggers = tuple(replace(trigger, reason=ATTACK) for trigger in incident.triggers)
    frames = tuple(
        replace(
            frame,
            stream=ATTACK[:200],
            metadata={ATTACK[:100]: ATTACK, "nested": [ATTACK, {"x": ATTACK}]},
            exception=ExceptionInfo(type=ATTACK[:200], message=ATTACK, stage="model", traceback=(ATTACK[:200],)),
            status="raised",
            lost={ATTACK[:100]: 1},
        )
        for frame in manifest.frames
    )
    environment = manifest.contexts[0].environment
    return replace(
        manifest,
        producer=ATTACK[:100],
        incident=replace(incident, triggers=triggers, stream=ATTACK[:200], lost={ATTACK[:90]: 2},
                         cause={"cause": ATTACK, "confidence": 2.0}),
        frames=frames,
        models=tuple(replace(m, name=ATTACK[:150], type=ATTACK[:150], problems=(ATTACK,)) for m in manifest.models),
        contexts=(replace(manifest.contexts[0], environment=replace(
            environment, python=ATTACK[:60], cpu={"model": ATTACK}, libraries={"torch.version": ATTACK})),),
    )  # fmt: skip


@pytest.fixture(scope="module")
def poisoned(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with an attack in every string that the schema leaves free."""
    return rewrite(bundle, tmp_path_factory.mktemp("poisoned") / "evil.zst", _poison)


def _assert_inert(text: str) -> None:
    for character in text.replace("\n", ""):
        assert unicodedata.category(character)[0] != "C", repr(character)


@pytest.mark.parametrize("options", [["show"], ["show", "--markdown"], ["show", "--json"], ["verify"], ["run"]])
def test_hostile_strings_are_inert_when_shown(replay: Run, poisoned: Path, options: list[str]):
    """No control, format or private character reaches stdout or stderr."""
    ended = replay(options[0], poisoned, *options[1:])
    assert ended.out
    if options[-1] != "--json":
        _assert_inert(ended.out)
    else:
        assert ended.out.isascii()
        assert all(character.isprintable() or character == "\n" for character in ended.out)
    _assert_inert(ended.err)


def test_hostile_strings_do_not_widen_the_page(replay: Run, poisoned: Path):
    """80 columns whatever the bundle says."""
    assert max(cells(line) for line in replay("show", poisoned).out.splitlines()) <= 80
    listed = replay("ls", poisoned.parent)
    _assert_inert(listed.out)
    lines = [line for line in listed.out.splitlines() if "evil.zst" not in line]
    assert max(cells(line) for line in lines) <= 80


def test_markdown_keeps_hostile_strings_in_code_spans(replay: Run, poisoned: Path):
    """No HTML, mention or link outside of a code span, and no broken table."""
    text = replay("show", poisoned, "--markdown").out
    outside = "".join(part for line in text.splitlines() for part in line.split("`")[::2])
    for active in ("<script", "@team", "](http"):
        assert active not in outside
    assert all(line.count("`") % 2 == 0 for line in text.splitlines())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in rows}
    assert widths <= {3, 5, 6, 8}, widths


def test_extract_takes_no_name_from_the_bundle(replay: Run, poisoned: Path, tmp_path: Path):
    """File names are made here."""
    assert replay("extract", poisoned, "-o", tmp_path / "out").code == 0
    names = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert all(name.replace("-", "").replace(".", "").isalnum() and name.isascii() for name in names)


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 80))
def test_inert_text_is_printable_short_and_stable(text: str, limit: int):
    """For any text: nothing acts, the length holds, and doing it twice changes nothing."""
    once = inert(text, limit)
    assert len(once) <= limit
    assert once.isprintable()
    assert inert(once, limit) == once


@given(st.text(alphabet=st.characters(), max_size=100), st.integers(2, 40))
def test_a_fitted_cell_has_exactly_its_width(text: str, columns: int):
    """Wide letters and marks included."""
    assert cells(fit(text, columns)) == columns


@given(st.text(alphabet=st.sampled_from("`|\x1b[]0;\x07a<@\n"), max_size=60))
def test_a_code_span_cannot_be_left(text: str):
    """Backticks and table borders are replaced."""
    span = inert_markdown(text)
    assert span == "" or (span[0] == span[-1] == "`" and "`" not in span[1:-1] and "|" not in span)


def test_an_escape_sequence_goes_with_its_payload():
    """A window title, a colour, a string of C1 controls: nothing of them is left as litter."""
    assert inert("a\x1b]0;owned\x07b\x1b[31mc\x9b2Jd\x90q#0\x9ce\x1b(0f") == "abcdef"


def test_honest_text_is_kept():
    """Accents, other scripts and emoji are not controls."""
    for text in ("Größe 12 µm", "面板 3", "größer als ½", "ligne n° 3 🚗"):
        assert inert(text) == text


def test_a_long_attack_costs_little():
    """Only as much is looked at as can be shown."""
    assert len(inert("\x1b]" * 10**6, 100)) <= 100
    assert inert("\x1b[" + "1;" * 10**6 + "m", 10) in ("", "…")
