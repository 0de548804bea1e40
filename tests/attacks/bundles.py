"""Named attack files: ``python -m tests.attacks.bundles DIRECTORY`` writes them all, for other readers to try.

REFUSED: no reader may take these. INERT: valid bundles whose strings attack whoever shows them.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image as pil

from recorder.bundle import BundleError, archive, ustar
from recorder.bundle.limits import MAX_MANIFEST_BYTES, MAX_MANIFEST_NODES
from recorder.bundle.parse import parse_manifest
from recorder.bundle.schema import load_schema
from tests.bundle.forge import Forgery, frame_of
from tests.golden.regenerate import FOLDER

__all__ = ["INERT", "REFUSED", "STRING", "attack_bundle"]

#: Escapes, controls, bidirectional and zero-width characters, HTML, Markdown, mentions, a shell and a template.
STRING = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\r\nverdict: bit-exact\b\b\u202egpj.exe\u2066\u200b\ufeff\U000e0041"
    "<script>alert(1)</script><img src=x onerror=alert(1)>`@team` [x](http://e.vil) |$(id)`id`;{{7*7}}=cmd|'/c calc'!A1"
)

Attack = Callable[[], bytes]


def attack_bundle(name: str) -> bytes:
    """The bytes of one attack."""
    return {**REFUSED, **INERT}[name]()


def _victim(name: str = "1.0-batch") -> Forgery:
    return Forgery.of((FOLDER / f"{name}.zst").read_bytes())


def _changed(*path: Any, to: Any, victim: str = "1.0-batch") -> Attack:
    def attack() -> bytes:
        forgery = _victim(victim)
        node: Any = forgery.manifest
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = to
        return forgery.build()

    return attack


def _text(change: Callable[[bytes], bytes]) -> Attack:
    """The manifest's text is changed; everything around agrees with it."""

    def attack() -> bytes:
        forgery = _victim()
        honest = forgery.build()
        forgery.manifest_text = change(_manifest_text(honest))
        return forgery.build()

    return attack


def _manifest_text(data: bytes) -> bytes:
    from recorder.bundle import Bundle

    with Bundle.open(data) as bundle:
        return bundle.manifest_bytes


def _extra(path: str, content: bytes = b"import os\n") -> Attack:
    def attack() -> bytes:
        forgery = _victim()
        forgery.tar_header = lambda name, size: ustar.header(name.encode("ascii", "replace").decode()[:100], size)
        forgery.contents.append((path, content))
        return forgery.build()

    return attack


def _tar(change: Callable[[bytes], bytes]) -> Attack:
    """Every member's tar header is changed, its checksum made right again."""

    def header(path: str, size: int) -> bytes:
        block = ustar.header(path, size)
        if path == "manifest.json":
            return block
        block = change(block)
        blank = block[:148] + b" " * 8 + block[156:]
        return block[:148] + b"%06o\0 " % sum(blank) + block[156:]

    def attack() -> bytes:
        forgery = _victim()
        forgery.tar_header = header
        return forgery.build()

    return attack


def _image(make: Callable[[], bytes], encoding: str = "png", **fields: Any) -> Attack:
    """The first image's member is this file; the manifest agrees."""

    def attack() -> bytes:
        forgery, content = _victim(), make()
        image = forgery.manifest["frames"][0]["images"][0]
        old = image["member"]
        new = old.rsplit(".", 1)[0] + {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[encoding]
        forgery.contents = [
            (new if path == old else path, content if path == old else c) for path, c in forgery.contents
        ]
        for frame in forgery.manifest["frames"]:
            for each in frame["images"]:
                if each["member"] == old:
                    each.update(member=new, encoding=encoding, **fields)
        return forgery.build()

    return attack


def _png(width: int, height: int, *chunks: tuple[bytes, bytes], inflated: int = 0) -> bytes:
    @functools.cache
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    parts += [chunk(kind, body) for kind, body in chunks]
    return b"".join([*parts, chunk(b"IDAT", _zeros(inflated)), chunk(b"IEND", b"")])


def _zeros(mebibytes: int) -> bytes:
    """A zlib stream of zeros: one mebibyte is compressed, and stands there again and again."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = (mebibytes * 2**20 % 65_521 << 16) + 1  # Adler-32, of zeros
    return b"\x78\xda" + block * mebibytes + compressor.flush() + struct.pack(">I", checksum)


def _stretched(form: str, width: int, height: int) -> bytes:
    """A tiny JPEG that says it is large."""
    target = io.BytesIO()
    pil.new("RGB", (16, 16)).save(target, form)
    data = bytearray(target.getvalue())
    place = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, place + 5, height, width)
    return bytes(data)


def _zstd_bomb() -> bytes:
    """4 GiB of zeros, 8 MiB a frame, in one member."""
    forgery = _victim()
    raw = bytes(8 * 2**20)
    packed, count = frame_of(raw), 512
    built = forgery.build()
    from recorder.bundle import Bundle

    with Bundle.open(built) as bundle:
        frames = len(bundle.manifest.members)
    forgery.table = lambda entries: [*entries[:-1], *[(len(packed), len(raw))] * count, entries[-1]]
    bomb = forgery.build()
    table = (frames + 3 + count) * 8 + 17
    end = frame_of(ustar.END_OF_ARCHIVE)
    return bomb[: -table - len(end)] + packed * count + end + bomb[-table:]


def _forged_frame(descriptor: int, extra: bytes) -> Attack:
    """The first member's frame has another header."""

    def attack() -> bytes:
        forgery = _victim()
        path = forgery.contents[0][0].encode()

        def frame(raw: bytes) -> bytes:
            honest = frame_of(raw)
            return honest[:4] + bytes([descriptor]) + extra + honest[6:] if raw.startswith(path) else honest

        forgery.frame = frame
        return forgery.build()

    return attack


def _manifest_of_zeros() -> bytes:
    """The header promises a manifest of exactly the cap, and zeros unpack to it."""
    forgery = _victim()
    forgery.manifest_text = bytes(MAX_MANIFEST_BYTES - 1024)
    return forgery.build()


def _worst_manifest(nodes: int) -> bytes:
    """As many parts as are allowed, of the kind that takes longest to check, and a contradiction at the end."""
    forgery = _victim()
    item = {"dict": [[1, {"scalar": 1}], [2, {"scalar": 2}]]}
    forgery.manifest["calls"][0]["args"]["tuple"] += [item] * (nodes // 10)
    forgery.manifest["frames"][0]["context"] = 99
    return forgery.build()


def _parts(item: str, count: int, field: str = "metadata") -> Attack:
    """One field of the manifest is an array of many parts."""
    many = ('{"x":[' + ",".join([item] * count) + "]}").encode()
    return _text(lambda text: text.replace(b'"images":[', b'"%s":%s,"images":[' % (field.encode(), many), 1))


def _tensors_over_each_other() -> bytes:
    """Thousands of tensors over one member: reading each would hash it again and again."""
    forgery = _victim("1.0-tensors")
    large = bytes(2**23)
    forgery.contents.append(("tensors/ffffff.bin", large))
    call = forgery.manifest["calls"][0]
    template = next(item for item in call["args"]["tuple"] if item["tensor"]["dtype"] == "uint8")["tensor"]
    digest = hashlib.sha256(large[: 2**22])
    for size in range(2**22 + 1, 2**22 + 5_000):
        digest.update(b"\0")
        described = {"member": "tensors/ffffff.bin", "shape": [size], "strides": [1], "offset": 0, "size_bytes": size}
        described |= {"encoding": "raw", "sha256": digest.copy().hexdigest()}
        call["args"]["tuple"].append({"tensor": template | described})
    return forgery.build()


def _table_bomb() -> bytes:
    """A value table that claims four billion channels."""
    forgery = _victim("1.0-tensors")
    tensor = next(
        item["tensor"]
        for item in forgery.manifest["calls"][0]["args"]["tuple"]
        if item["tensor"]["encoding"] == "table"
    )
    content = next(content for path, content in forgery.contents if path == tensor["member"])
    forgery.replace(tensor["member"], struct.pack("<II", 2**32 - 1, 2**32 - 1) + content[8:])
    return forgery.build()


def _overlapping_frames() -> bytes:
    """The seek table gives two members the same bytes."""
    forgery = _victim()

    def overlap(entries: list[tuple[int, int]]) -> list[tuple[int, int]]:
        first, second = entries[2], entries[3]
        return [*entries[:2], (first[0] + second[0] - 8, first[1]), (8, second[1]), *entries[4:]]

    forgery.table = overlap
    return forgery.build()


def _annotations() -> bytes:
    """Seventeen skippable frames behind the archive."""
    forgery = _victim()
    note = struct.pack("<II", 0x184D2A51, 4) + b"note"
    forgery.table = lambda entries: [*entries, *[(len(note), 0)] * 17]
    built = forgery.build()
    table = built.rindex(struct.pack("<I", 0x184D2A5E))
    return built[:table] + note * 17 + built[table:]


def _cut(data: bytes) -> bytes:
    length = struct.unpack_from("<I", data, len(data) - 9)[0] * 8 + 17
    return data[: archive.parse_seek_table(data[-length:], len(data)).offsets[4]]


TENSOR = ("calls", 0, "args", "tuple", 0, "tensor")
_NEST = b'{"x":' * 200_000

REFUSED: dict[str, Attack] = {
    "zstd-bomb-of-zeros": _zstd_bomb,
    "zstd-content-size-of-a-terabyte": _forged_frame(0b11100100, struct.pack("<Q", 2**40)),
    "zstd-window-of-terabytes": _forged_frame(0b11000100, b"\xff" + struct.pack("<Q", 2**40)),
    "zstd-reserved-bit": _forged_frame(0b01101100, b"\0\0"),
    "seek-table-overlapping-frames": _overlapping_frames,
    "seek-table-missing-cut-at-a-frame": lambda: _cut(_victim().build()),
    "annotations-too-many": _annotations,
    "manifest-of-zeros": _manifest_of_zeros,
    "manifest-of-empty-lists": _text(lambda text: b"[" + b"[]," * 10_000_000 + b"[]]"),
    "manifest-of-a-million-parts": _parts("[]", 1_000_000),
    "manifest-at-the-cap-slowest-parts": lambda: _worst_manifest(MAX_MANIFEST_NODES - 2000),
    "manifest-of-a-million-numbers": _parts("1", 1_100_000),
    "manifest-nested-200000-deep": _text(lambda text: _NEST + b"1" + b"}" * 200_000),
    "manifest-key-twice": _text(lambda text: text[:-1] + b',"format":"vision-flight-recorder"}'),
    "manifest-number-of-a-million-digits": _text(lambda text: text[:-1] + b',"x":' + b"9" * 1_000_000 + b"}"),
    "manifest-nan": _text(lambda text: text[:-1] + b',"x":NaN}'),
    "manifest-lone-surrogate": _text(lambda text: text[:-1] + b',"x":"\\ud800"}'),
    "manifest-not-utf8": _text(lambda text: text[:-1] + b',"x":"\xff\xfe"}'),
    "manifest-byte-order-mark": _text(lambda text: b"\xef\xbb\xbf" + text),
    "manifest-remote-ref": _changed("calls", 0, "args", to={"$ref": "http://127.0.0.1:9/x"}),
    "manifest-newer-feature": _changed("required_features", to=[STRING]),
    "manifest-string-of-two-megabytes": _changed("producer", to="x" * 2**21),
    "path-traversal": _extra("../../etc/cron.d/x"),
    "path-absolute": _extra("/etc/passwd"),
    "path-conftest": _extra("conftest.py"),
    "path-numpy": _extra("tensors/numpy.py"),
    "path-pth": _extra("images/x.pth"),
    "path-hidden": _extra("images/.git"),
    "path-newline": _extra("images/0.png\n"),
    "path-device": _extra("images/con.png"),
    "path-backslash": _extra("images\\..\\0.png"),
    "member-twice": lambda: _twice(),
    "tar-symbolic-link": _tar(lambda block: block[:156] + b"2" + b"/etc/passwd".ljust(100, b"\0") + block[257:]),
    "tar-hard-link": _tar(lambda block: block[:156] + b"1" + b"manifest.json".ljust(100, b"\0") + block[257:]),
    "tar-device": _tar(lambda block: block[:156] + b"3" + block[157:]),
    "tar-pax-header": _tar(lambda block: block[:156] + b"x" + block[157:]),
    "tar-set-user-id": _tar(lambda block: block[:100] + b"0004755\0" + block[108:]),
    "tar-size-in-base-256": _tar(lambda block: block[:124] + b"\x80" + bytes(7) + b"\x7f\xff\xff\xff" + block[136:]),
    "png-of-ten-gigapixels": _image(lambda: _png(100_000, 100_000), height=100_000, width=100_000),
    "png-size-lies": _image(lambda: _png(60_000, 60_000, inflated=8)),
    "png-inflates-to-a-gigabyte": _image(lambda: _png(16, 16, inflated=1024)),
    "png-text-bomb": _image(lambda: _png(16, 16, (b"zTXt", b"x\0\0" + _zeros(256)))),
    "png-profile-bomb": _image(lambda: _png(16, 16, (b"iCCP", b"x\0\0" + _zeros(256)))),
    "png-of-a-million-chunks": _image(lambda: _png(16, 16, *[(b"tEXt", b"")] * 1_000_000)),
    "jpeg-of-four-gigapixels": _image(lambda: _stretched("JPEG", 65_500, 65_500), "jpeg", height=65_500, width=65_500),
    "image-is-a-program": _image(lambda: b"#!/bin/sh\nid\n"),
    "image-is-postscript": _image(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n"),
    "tensor-object-dtype": _changed(*TENSOR, "dtype", to="object"),
    "tensor-pickle-encoding": _changed(*TENSOR, "encoding", to="pickle"),
    "tensor-shape-overflows": _changed(*TENSOR, "shape", to=[2**32, 2**32, 3, 8]),
    "tensor-negative-shape": _changed(*TENSOR, "shape", to=[-4, -3, 8, 8]),
    "tensor-offset-outside": _changed(*TENSOR, "offset", to=2**40),
    "tensor-of-a-thousand-dimensions": _changed(*TENSOR, "shape", to=[1] * 1000),
    "tensor-in-another-folder": _changed(*TENSOR, "member", to="images/000001-0.png"),
    "tensors-over-each-other": _tensors_over_each_other,
    "tensor-table-of-billions": _table_bomb,
    "value-unknown-kind": _changed("calls", 0, "output", to={"pickle": "gASVHQAAAAAAAACMBXBvc2l4"}),
    "value-key-twice": _changed("calls", 0, "kwargs", to={"dict": [["a", {"scalar": 1}], ["a", {"scalar": 2}]]}),
}


def _twice() -> bytes:
    forgery = _victim()
    forgery.contents.append(forgery.contents[0])
    return forgery.build()


def strings_everywhere(victim: str = "1.0-values", complete: Callable[[Any], None] = lambda manifest: None) -> bytes:
    """STRING in every place, key or value, where the schema allows any text."""
    forgery = _victim(victim)
    complete(forgery.manifest)
    forgery.manifest = json.loads(json.dumps(forgery.manifest))  # no two places share an object
    for path, is_key in list(_strings(forgery.manifest)):
        candidate = copy.deepcopy(forgery.manifest)
        node: Any = candidate
        for key in path[:-1]:
            node = node[key]
        if is_key and path[-1] in _property_names():
            continue  # renamed, an optional part would be one that nobody looks at
        if is_key:
            node[STRING[: 90 + len(path)]] = node.pop(path[-1])
        else:
            node[path[-1]] = STRING
        try:
            parse_manifest(json.dumps(candidate, ensure_ascii=False).encode())
        except BundleError:
            continue
        forgery.manifest = candidate
    return forgery.build()


@functools.cache
def _property_names() -> frozenset[str]:
    parts = load_schema("manifest")
    return frozenset(name for part in (parts, *parts["$defs"].values()) for name in part.get("properties", ()))


def complete(manifest: dict[str, Any]) -> None:
    """Add every part a manifest may have and this one lacks, so that there is no string it does not hold."""
    some = {"key": ["x", {"y": "z"}]}
    manifest["incident"] |= {"cause": {"cause": "x", "evidence": ["y"]}, "lost": {"zz": 1}}
    manifest["incident"]["triggers"][0] |= {"parameters": some, "severity": "high"}
    manifest["parent"] = {"bundle": "0" * 64, "operation": "recover"}
    exception = {"type": "a.B", "message": "x", "stage": "model", "traceback": ["a:b:1"]}
    named = {"record": {"type": "a.B", "form": "dataclass", "fields": [["name", {"opaque": "a.B"}]]}}
    answer = {"dict": [["key", {"list": [{"scalar": "x"}, named]}]]}
    for context in manifest["contexts"]:
        context["environment"] |= {
            "git_commit": "0" * 40, "gpus": [{"name": "x"}], "packages": {"x": "1"},
            "libraries": {"torch.version": "x"}, "variables": {"OMP_NUM_THREADS": "1"},
            "settings": {"torch.num_threads": "x"}, "cpu": {"model": "x", "flags": ["y"]},
        }  # fmt: skip
    for model in manifest["models"]:
        model |= {"factory": "a.b:c", "problems": ["x"], "options": some, "training_modules": ["x"], "state": ["x"]}
        model["layouts"] = {"x": {"strides": [1], "alignment": 0}}
    for frame in manifest["frames"]:
        left = {"name": "x", "source": "array", "encoding": "pixels", "sha256": None, "dtype": "uint8"}
        frame["images_left_out"] = [left | {"size_bytes": 1, "height": 1, "width": 1, "channels": 3}]
        frame |= {"metadata": some, "sensor_time": some, "lost": {"x": 1}, "output": answer, "exception": exception}
    for call in manifest["calls"]:
        call |= {"kwargs": answer, "exception": exception, "status": "raised"}
        call["settings"]["autocast"] = {"cpu": "bfloat16"}


def _strings(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Paths of all strings, and of all keys, values first."""
    if isinstance(node, str):
        yield path, False
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, item in items:
        yield from _strings(item, (*path, key))
    if isinstance(node, dict):
        for key in node:
            yield (*path, key), True


INERT: dict[str, Attack] = {
    "strings-in-values": strings_everywhere,
    "strings-in-exception": lambda: strings_everywhere("1.0-exception"),
    "strings-in-everything": lambda: strings_everywhere("1.0-batch", complete),
    "strings-in-open-frame": lambda: strings_everywhere("1.0-open-frame"),
}


def main() -> None:
    """Write all of them."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name in (*REFUSED, *INERT):
        (directory / f"{name}.zst").write_bytes(attack_bundle(name))


if __name__ == "__main__":
    main()
