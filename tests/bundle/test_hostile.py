"""Bundles made to deceive: each is refused with one sentence, and nothing large is ever allocated for it."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from recorder.bundle import Bundle, BundleInvalid, archive, strictjson, ustar
from recorder.bundle.limits import MAX_FRAME_BYTES, MIB
from tests.bundle.forge import Forgery, frame_of

Change = Callable[[Forgery], None]


def refuses(data: bytes, match: str) -> None:
    """Opening, or reading everything, ends in BundleInvalid; the sentence is one line."""
    with pytest.raises(BundleInvalid, match=match) as raised, Bundle.open(data) as bundle:
        problems = bundle.verify()
        raise BundleInvalid(problems[0] if problems else "nothing was found")
    assert "\n" not in str(raised.value)


def test_the_forger_is_honest_when_nothing_is_changed(bundle_bytes: bytes, forgery: Forgery) -> None:
    """What the tests below refuse is refused for the change they make."""
    with Bundle.open(forgery.build()) as bundle:
        assert bundle.verify() == []


def test_the_file_cut_anywhere_is_refused(bundle_bytes: bytes) -> None:
    """Also at the frame boundaries, where zstd and tar see no error."""
    table_at = struct.unpack_from("<I", bundle_bytes, len(bundle_bytes) - 9)[0] * 8 + 17
    table = archive.parse_seek_table(bundle_bytes[-table_at:], len(bundle_bytes))
    cuts = {*table.offsets, *range(0, len(bundle_bytes), 997), *range(70), len(bundle_bytes) - 1}
    for cut in cuts - {len(bundle_bytes)}:
        with pytest.raises(BundleInvalid):
            Bundle.open(bundle_bytes[:cut])


def test_bytes_after_the_seek_table_are_refused(bundle_bytes: bytes) -> None:
    """The table's footer is the file's last bytes."""
    refuses(bundle_bytes + b"\0", "truncated or damaged")
    refuses(bundle_bytes + bundle_bytes, "truncated or damaged|contradict")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(100), frame_of(b"x" * 100), bytes(4096)])
def test_a_foreign_file_is_named_as_such(data: bytes) -> None:
    """The remedy is another path, not another download."""
    refuses(data, "not a bundle of vision-flight-recorder; check the path")


def test_a_newer_major_version_says_so(forgery: Forgery) -> None:
    """In the header before anything is parsed, and in the manifest."""
    forgery.major = 2
    refuses(forgery.build(), r"format 2\.0 and this version reads 1\.x; use a matching version")
    forgery.major = 1
    forgery.manifest["format_version"]["major"] = 7
    refuses(forgery.build(), "format 7")


def test_a_newer_minor_version_is_read(forgery: Forgery) -> None:
    """Fields it does not know are passed over; features it must know are not."""
    forgery.manifest["format_version"]["minor"] = 3
    forgery.manifest["later"] = {"anything": [1, 2]}
    forgery.manifest["frames"][0]["later"] = True
    with Bundle.open(forgery.build()) as bundle:
        assert bundle.verify() == []
    forgery.manifest["required_features"] = ["encrypted-members"]
    refuses(forgery.build(), "requires the feature 'encrypted-members'; update")


def with_header(**fields: Any) -> bytes:
    """A zstd frame whose header was rewritten to claim a content size."""
    raw = bytearray(frame_of(bytes(1000)))
    claimed = fields["claimed"]
    # frame header descriptor: 8-byte content size, single segment, checksum
    body = raw[zstandard.frame_header_size(bytes(raw)) :]
    return b"\x28\xb5\x2f\xfd" + bytes([0b11100100]) + struct.pack("<Q", claimed) + bytes(body)


def test_a_forged_content_size_allocates_nothing(forgery: Forgery) -> None:
    """A frame that claims a terabyte is refused by comparison with the seek table."""
    path, _ = forgery.contents[0]
    forgery.frame = lambda raw: with_header(claimed=2**40) if raw.startswith(path.encode()) else frame_of(raw)
    data = forgery.build()
    tracemalloc.start()
    refuses(data, "states other properties")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


def with_dictionary(raw: bytes) -> bytes:
    """A zstd frame whose header names a dictionary."""
    frame = frame_of(raw)
    assert frame[4] & 0x20  # single segment: no window descriptor before the dictionary's id
    return frame[:4] + bytes([frame[4] | 1]) + b"\x07" + frame[5:]


@pytest.mark.parametrize(
    "frame",
    [
        zstandard.ZstdCompressor(write_checksum=False).compress,
        zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress,
        with_dictionary,
    ],
    ids=["no checksum", "no content size", "dictionary"],
)
def test_frames_without_their_guards_are_refused(forgery: Forgery, frame: Callable[[bytes], bytes]) -> None:
    """Checksum and content size are mandatory, dictionaries do not exist."""
    forgery.frame = frame
    refuses(forgery.build(), "states other properties")


def test_two_frames_in_the_place_of_one_are_refused(forgery: Forgery) -> None:
    """Frames tile the file one by one."""
    forgery.frame = lambda raw: frame_of(raw[:512]) + frame_of(raw[512:])
    refuses(forgery.build(), "states other properties|damaged")


def test_bytes_between_frames_are_refused(forgery: Forgery) -> None:
    """Nothing hides behind a frame."""
    forgery.frame = lambda raw: frame_of(raw) + b"hidden"
    refuses(forgery.build(), "damaged|length that is not allowed")


def test_a_skippable_frame_in_the_place_of_a_member_is_refused(forgery: Forgery) -> None:
    """zstd's parameters of a skippable frame look like a content size."""
    forgery.frame = lambda raw: struct.pack("<II", 0x184D2A50, len(raw)) + raw
    refuses(forgery.build(), "not a zstd frame|not allowed")


@pytest.mark.parametrize("index", [0, 1, 2, -1])
@pytest.mark.parametrize("delta", [(1, 0), (-1, 0), (0, 1), (0, -1), (0, 512), (0, 2**31)])
def test_a_forged_seek_table_is_refused(forgery: Forgery, index: int, delta: tuple[int, int]) -> None:
    """Its lengths must agree with file, header and manifest."""

    def lie(entries: list[tuple[int, int]]) -> list[tuple[int, int]]:
        packed, raw = entries[index]
        entries[index] = (packed + delta[0], max(0, raw + delta[1]))
        return entries

    forgery.table = lie
    if entries_unchanged(forgery, index, delta):
        return
    with pytest.raises(BundleInvalid):
        Bundle.open(forgery.build())


def entries_unchanged(forgery: Forgery, index: int, delta: tuple[int, int]) -> bool:
    """The header's raw length is zero already and cannot be less."""
    return index == 0 and delta == (0, -1)


def test_a_seek_table_that_shifts_a_boundary_is_refused(forgery: Forgery) -> None:
    """The sums agree, the frames do not."""

    def shift(entries: list[tuple[int, int]]) -> list[tuple[int, int]]:
        entries[2] = (entries[2][0] + 4, entries[2][1])
        entries[3] = (entries[3][0] - 4, entries[3][1])
        return entries

    forgery.table = shift
    refuses(forgery.build(), "damaged|not a zstd frame")


@pytest.mark.parametrize("count", [0, 1, 2, 2**31, 2**32 - 1])
def test_an_absurd_number_of_frames_is_refused(bundle_bytes: bytes, count: int) -> None:
    """Before anything of that size is read."""
    data = bytearray(bundle_bytes)
    struct.pack_into("<I", data, len(data) - 9, count)
    refuses(bytes(data), "claims .* frames")


def test_reserved_bits_of_the_footer_must_be_zero(bundle_bytes: bytes) -> None:
    """Version 1 has no checksums in the table and no other form."""
    data = bytearray(bundle_bytes)
    data[-5] |= 0x80
    refuses(bytes(data), "truncated or damaged")


def test_a_bomb_of_zeros_is_refused_by_its_ratio(forgery: Forgery) -> None:
    """Two gigabytes in a few hundred kilobytes: no honest bundle is like that."""
    chunk = bytes(4 * MIB)
    packed = frame_of(chunk)
    data = forgery.build()
    entries = [(len(packed), len(chunk))] * 512
    forgery.table = lambda honest: [*honest[:-1], *entries, honest[-1]]
    bomb = forgery.build()
    assert len(bomb) > len(data)
    table_length = (len(entries) + len(forgery.contents) + 3) * 8 + 17
    body = bomb[:-table_length]
    refuses(body + packed * 512 + bomb[-table_length:], "times its size|truncated")


def test_a_frame_above_the_cap_is_refused(forgery: Forgery) -> None:
    """One frame is the most that is ever unpacked at once."""
    forgery.contents[0] = (forgery.contents[0][0], bytes(100))
    forgery.table = lambda entries: [*entries[:2], (entries[2][0], MAX_FRAME_BYTES + 1), *entries[3:]]
    refuses(forgery.build(), "length that is not allowed")


@pytest.mark.parametrize(
    "path",
    [
        "../evil.json",
        "/etc/passwd",
        "images/../../x.png",
        "images/conftest.py",
        "conftest.py",
        "numpy.py",
        "images/con.png",
        "images/.0.png",
        "images/0.png.py",
        "images/0.png\n",
        "IMAGES/0.png",
        "images\\0.png",
        "images/0.svg",
        "tensors/0.png",
        "images/" + "0" * 65 + ".png",
        "images/\u0660.png",
        "manifest.json",
        "images/0",
        "",
    ],
)
def test_paths_outside_the_grammar_are_refused(forgery: Forgery, path: str) -> None:
    """Whatever `tar x` would make of them."""
    forgery.tar_header = lambda name, size: ustar.header(name.encode("ascii", "replace").decode()[:100], size)
    forgery.contents.append((path, b"data"))
    refuses(forgery.build(), "rule '(pattern|maxLength)'|not allowed")


def test_a_member_listed_twice_is_refused(forgery: Forgery) -> None:
    """Which of the two is meant would depend on the reader."""
    forgery.contents.append(forgery.contents[0])
    refuses(forgery.build(), "listed twice")


def test_members_may_not_overlap_swap_or_leave_gaps(forgery: Forgery) -> None:
    """Every frame belongs to exactly one member."""
    honest = Forgery.of(forgery.build())
    listed = json.loads(json.dumps(list_of(honest)))
    changes: list[Callable[[list[dict[str, Any]]], Any]] = [
        lambda m: m.reverse(),
        lambda m: m.pop(),
        lambda m: m.pop(0),
        lambda m: m[1].update(first_frame=2),
        lambda m: m[0].update(frame_count=2),
        lambda m: m[0].update(size_bytes=m[0]["size_bytes"] + 512),
        lambda m: m[-1].update(frame_count=100),
    ]
    for change in changes:
        members = json.loads(json.dumps(listed))
        change(members)
        honest.relist = False
        honest.manifest["members"] = members
        with pytest.raises(BundleInvalid):
            Bundle.open(honest.build())


def list_of(forgery: Forgery) -> list[dict[str, Any]]:
    """The members as the manifest lists them."""
    with Bundle.open(forgery.build()) as bundle:
        return [
            {
                "path": m.path,
                "size_bytes": m.size_bytes,
                "sha256": m.sha256,
                "first_frame": m.first_frame,
                "frame_count": m.frame_count,
            }
            for m in bundle.manifest.members
        ]


def test_another_tar_header_than_the_manifests_is_refused(forgery: Forgery) -> None:
    """A link, another name, another owner: tar would do what the manifest does not say."""
    links = [b"1", b"2", b"5", b"L", b"x"]
    for kind in links:
        forged = Forgery(forgery.manifest, forgery.contents)
        forged.tar_header = (
            lambda path, size, kind=kind: (  # type: ignore[misc]
                ustar.header(path, size)
                if path == "manifest.json"
                else ustar.header(path, size)[:156] + kind + ustar.header(path, size)[157:]
            )
        )
        refuses(forged.build(), "another tar header")
    forged = Forgery(forgery.manifest, forgery.contents)
    forged.tar_header = lambda path, size: ustar.header("evil.json" if path == "manifest.json" else path, size)
    refuses(forged.build(), "manifest has another tar header")


def set_in(*path: Any, to: Any) -> Change:
    """A change that sets one place of the manifest."""

    def change(forgery: Forgery) -> None:
        node = forgery.manifest
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = to

    return change


TENSOR = ("calls", 0, "args", "tuple", 0, "tensor")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_in("calls", 0, "model", to=9), "model or context"),
        (set_in("calls", 0, "context", to=9), "model or context"),
        (set_in("calls", 0, "parent", to=101), "parent"),
        (set_in("calls", 1, "id", to=101), "twice or out of order"),
        (set_in("calls", 0, "frames", to=[1, 1]), "names a frame twice"),
        (set_in("frames", 0, "calls", to=[999]), "context or call"),
        (set_in("frames", 0, "context", to=1), "context or call"),
        (set_in("frames", 1, "id", to=1), "twice or out of order"),
        (set_in("frames", 0, "calls", to=[101, 101]), "names a call twice"),
        (set_in("frames", 0, "images", 0, "member", to="images/ff-0.png"), "member that is not in the bundle"),
        (set_in("frames", 0, "images", 0, "member", to="images/000001-0.jpg"), "member that is not in the bundle"),
        (set_in("frames", 0, "images", 0, "thumbnail", to="thumbnails/ff-0.jpg"), "thumbnail"),
        (set_in("frames", 0, "images", 0, "height", to=2**20), "pixels"),
        (set_in("frames", 0, "images", 0, "height", to=47), "other pixels"),
        (set_in("frames", 0, "images", 0, "channels", to=5), "cannot have"),
        (set_in("frames", 0, "images", 0, "dtype", to="object"), "enum"),
        (set_in(*TENSOR, "dtype", to="object"), "enum"),
        (set_in(*TENSOR, "dtype", to="float64"), "another size"),
        (set_in(*TENSOR, "shape", to=[2**62] * 4), "another size"),
        (set_in(*TENSOR, "shape", to=[1, 3, 48, -64]), "minimum"),
        (set_in(*TENSOR, "strides", to=[1]), "strides"),
        (set_in(*TENSOR, "member", to="tensors/ff.bin"), "not in the bundle"),
        (set_in(*TENSOR, "member", to="images/000001-0.png"), "pattern"),
        (set_in(*TENSOR, "offset", to=1), "within its member"),
        (set_in(*TENSOR, "encoding", to="raw"), "within its member"),
        (set_in(*TENSOR, "encoding", to="pickle"), "enum"),
        (set_in(*TENSOR, "sha256", to="0" * 64), "another digest"),
        (set_in("calls", 0, "output", "tensor", "offset", to=130), "within its member"),
        (set_in("calls", 0, "args", "tuple", 0, to={"pickle": "gASV"}), "additionalProperties"),
        (set_in("calls", 0, "kwargs", "dict", to=[["a", {"scalar": 1}], ["a", {"scalar": 2}]]), "key twice"),
        (set_in("incident", "id", to="../../../tmp/x"), "minLength|pattern"),
        (set_in("incident", "triggers", to=[]), "minItems"),
        (set_in("format", to="other"), "not one of vision-flight-recorder"),
        (set_in("frames", 0, "metadata", to={"a": "\ud800"}), "JSON|Unicode"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(forgery: Forgery, change: Change, match: str) -> None:
    """References, sizes, types and names, everything else re-wrapped to agree."""
    change(forgery)
    refuses(forgery.build(), match)


def test_a_value_nested_without_end_is_refused(forgery: Forgery) -> None:
    """Deeper than any model answers; no recursion of ours overflows."""
    for depth in (17, 40, 120, 5000):
        text = strictjson.dumps(forgery.manifest)
        nest = b'{"list":[' * depth + b'{"scalar":1}' + b"]}" * depth
        marker = b'"kwargs":{"dict":[]}'
        assert marker in text
        forgery.manifest_text = text.replace(marker, b'"kwargs":{"dict":[["a",' + nest + b"]]}", 1)
        refuses(forgery.build(), "nested|JSON")


def test_a_key_twice_in_the_manifest_is_refused(forgery: Forgery) -> None:
    """Two readers would see two manifests."""
    text = strictjson.dumps(forgery.manifest)
    forgery.manifest_text = text[:-1] + b',"producer":"someone else"}'
    refuses(forgery.build(), "key twice")


def test_terminal_escapes_in_a_bundle_do_not_reach_an_error_message(forgery: Forgery) -> None:
    """Names of a hostile bundle are shown without their control characters, and shortened."""
    forgery.manifest["required_features"] = ["\x1b]0;pwned\x07\u202e" + "x" * 5000]
    with pytest.raises(BundleInvalid) as raised:
        Bundle.open(forgery.build())
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) <= 400


def test_hidden_bytes_in_padding_are_refused(forgery: Forgery) -> None:
    """Padding is zeros; the archive ends in zeros."""
    original = ustar.padding
    path, content = next(item for item in forgery.contents if len(item[1]) % 512)

    def frame(raw: bytes) -> bytes:
        return frame_of(raw[:-1] + b"!") if raw.startswith(path.encode()) else frame_of(raw)

    forgery.frame = frame
    assert original(len(content))
    refuses(forgery.build(), "should be zero")


def test_annotations_before_the_seek_table_are_passed_over(bundle_bytes: bytes, forgery: Forgery) -> None:
    """A signature may stand there; the id does not change. Anything else may not."""
    annotation = struct.pack("<II", 0x184D2A53, 11) + b"a signature"[:11]

    def annotated(frame: bytes, raw: int = 0, times: int = 1) -> bytes:
        forgery.table = lambda entries: [*entries, *[(len(frame), raw)] * times]
        built = forgery.build()
        table = built.rindex(struct.pack("<I", 0x184D2A5E))
        return built[:table] + frame * times + built[table:]

    with Bundle.open(annotated(annotation)) as bundle, Bundle.open(bundle_bytes) as plain:
        assert bundle.verify() == []
        assert bundle.manifest.frames == plain.manifest.frames
    refuses(annotated(annotation[:-1]), "unknown part")
    refuses(annotated(annotation, raw=5), "unknown part")
    refuses(annotated(struct.pack("<II", 0x184D2A5E, 3) + b"abc"), "unknown part")
    refuses(annotated(frame_of(b"hidden"), raw=6), "unknown part")
    refuses(annotated(annotation, times=17), "more behind its archive")
