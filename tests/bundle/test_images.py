"""Images keep every pixel, as files any viewer opens."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pil

from recorder.bundle import Bundle, BundleError, BundleInvalid, BundleWriter, PixelsDiffer, images, png, rows
from recorder.bundle.manifest import Image
from tests.bundle.forge import Forgery
from tests.bundles import picture

pixel_arrays = st.builds(
    lambda height, width, channels, dtype, seed, span: (
        np.random.default_rng(seed)
        .integers(0, span, (height, width, channels) if channels else (height, width))
        .astype(dtype)
    ),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 4),
    st.sampled_from(["uint8", "uint16"]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 256, 65536]),
)


def as_file(array: npt.NDArray[Any], kind: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    file = io.BytesIO()
    pil.fromarray(array).save(file, kind, **options)
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(pixels=pixel_arrays, filter_type=st.sampled_from([None, *range(6)]))
def test_pngs_of_any_shape_decode_to_the_same_pixels(pixels: npt.NDArray[Any], filter_type: int | None) -> None:
    """With every filter Pillow or the row-wise decoder agree; 16-bit colour uses only filters the latter knows."""
    if pixels.dtype == np.uint16 and pixels.ndim == 3 and pixels.shape[2] > 1 and filter_type in (3, 4, 5):
        filter_type = None
    decoded = images.decode_file(png.encode(pixels, filter_type), "png")
    assert np.array_equal(decoded.reshape(pixels.shape), pixels)
    assert decoded.dtype == pixels.dtype


@settings(max_examples=60, deadline=None)
@given(pixels=pixel_arrays, filter_type=st.sampled_from([0, 1, 2]))
def test_the_fast_decoder_agrees_with_pillow(pixels: npt.NDArray[Any], filter_type: int) -> None:
    """The row-wise decoder is a shortcut and gives what Pillow gives, wherever Pillow keeps all bits."""
    if pixels.dtype == np.uint16:
        pixels = pixels.reshape(pixels.shape[0], -1)
    data = png.encode(pixels, filter_type)
    fast = png.decode(data)
    assert fast is not None
    with pil.open(io.BytesIO(data)) as opened:
        assert np.array_equal(np.asarray(opened), fast)


def test_the_filter_follows_the_picture() -> None:
    """White noise needs none; a random walk along x or y the filter that predicts from the left or from above."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    steps = random.integers(-2, 3, (300, 300, 3))
    start = random.integers(0, 256, (300, 1, 3))
    walk = (np.cumsum(steps, axis=1) + start).astype(np.uint8)
    assert png.choose_filter(noise) == rows.NONE
    assert png.choose_filter(walk) == rows.SUB
    assert png.choose_filter(walk.transpose(1, 0, 2)) == rows.UP


def test_a_photograph_gets_a_filter_for_each_row_and_deep_colour_one_that_is_read_again() -> None:
    """Rows that continue the one above beside rows that continue to the right; Pillow halves 16-bit colour."""
    random = np.random.default_rng(0)
    across = np.cumsum(random.integers(-2, 3, (40, 90, 3)), axis=1)
    down = np.cumsum(random.integers(-2, 3, (40, 90, 3)), axis=0)
    pixels = np.concatenate([across, down] * 3).astype(np.uint8)
    data = png.encode(pixels, rows.ADAPTIVE)
    assert np.array_equal(images.decode_file(data, "png"), pixels)
    used = set(np.frombuffer(zlib.decompress(png._image_data(data)), np.uint8).reshape(240, -1)[:, 0])
    assert {rows.SUB, rows.UP} <= used <= {rows.SUB, rows.UP, rows.AVERAGE, rows.PAETH}
    smooth = picture(random, 64, 64)
    assert png.choose_filter(smooth) == rows.ADAPTIVE
    assert png.choose_filter(smooth.astype(np.uint16) * 9) in (rows.NONE, rows.SUB, rows.UP)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([1, 2, 3, 4, 6, 8]), st.sampled_from([2, 9, 256]))
def test_paeth_in_eight_bits_is_the_specification_s(seed: int, height: int, step: int, span: int) -> None:
    """Against the formula as the standard has it, ties included."""
    lines = np.random.default_rng(seed).integers(0, span, (height, 5 * step), np.uint8)
    padded = np.pad(lines, ((1, 0), (step, 0))).astype(int)
    left, up, corner = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    distances = [np.abs(left + up - corner - each) for each in (left, up, corner)]
    predicted = np.choose(np.argmin(distances, axis=0), [left, up, corner])
    assert np.array_equal(rows.filter_rows(lines, step, rows.PAETH)[:, 1:], (lines - predicted).astype(np.uint8))


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [
        ((30, 40), "uint8", "png"),
        ((30, 40, 1), "uint8", "png"),
        ((30, 40, 2), "uint16", "png"),
        ((30, 40, 4), "uint16", "png"),
        ((30, 40, 5), "uint8", "raw"),
        ((0, 40, 3), "uint8", "raw"),
    ],
)
def test_every_channel_count_is_stored_without_loss(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, encoding: str
) -> None:
    """PNG where it has such a form, raw bytes otherwise; strided arrays too."""
    pixels = np.random.default_rng(0).integers(0, 60000, shape).astype(dtype)
    view = np.asfortranarray(pixels)
    with image_bundle(tmp_path, lambda writer: writer.image(1, "image", view)) as bundle:
        [image] = bundle.manifest.frames[0].images
        assert image.encoding == encoding
        assert np.array_equal(bundle.pixels(image), pixels)
        assert bundle.verify() == []


def test_equal_images_are_stored_once(tmp_path: Path) -> None:
    """A frozen feed costs nothing."""
    pixels = picture(np.random.default_rng(0), 32, 32)
    with BundleWriter(tmp_path) as writer:
        first = writer.image(1, "image", pixels)
        second = writer.image(2, "left", pixels.copy(), source="pil")
        assert (second.member, second.thumbnail) == (first.member, first.thumbnail)
        assert (second.name, second.source) == ("left", "pil")
        assert writer.image(3, "image", pixels[:, :, :1]).member != first.member


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_encoded_original_stays_verbatim(tmp_path: Path, kind: str) -> None:
    """The member is the file that came in; its pixels are vouched for by a digest."""
    original = as_file(picture(np.random.default_rng(0), 40, 50), kind)
    with image_bundle(tmp_path, lambda writer: writer.encoded_image(1, "image", original)) as bundle:
        [image] = bundle.manifest.frames[0].images
        assert bundle.read(image.member) == original
        assert bundle.pixels(image).shape == (40, 50, 3) == (image.height, image.width, image.channels)
        assert image.thumbnail is not None
        with pil.open(io.BytesIO(bundle.read(image.thumbnail))) as opened:
            assert max(opened.size) == 50


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xff\xd8\xff truncated", "jpeg"),
        (b"\x89PNG\r\n\x1a\n broken", "png"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"RIFF\x04\x00\x00\x00WEBP", "webp"),
        (b"BM no format of ours", "raw"),
        (b"", "raw"),
    ],
)
def test_an_undecodable_original_is_kept_as_it_is(tmp_path: Path, data: bytes, encoding: str) -> None:
    """It may well be why the model failed."""
    with image_bundle(tmp_path, lambda writer: writer.encoded_image(1, "image", data)) as bundle:
        [image] = bundle.manifest.frames[0].images
        assert (image.encoding, image.pixels_sha256, image.height) == (encoding, None, 0)
        assert bundle.read(image.member) == data
        assert bundle.verify() == []
        with pytest.raises(BundleError, match="could not be decoded"):
            bundle.pixels(image)


def test_sixteen_bit_colour_that_pillow_would_halve_is_not_called_decoded() -> None:
    """Eight bits of sixteen are not the pixels."""
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    with pytest.raises(ValueError, match="without loss"):
        images.decode_file(png.encode(pixels, rows.PAETH), "png")


def test_palettes_masks_and_cmyk_have_defined_pixels() -> None:
    """What an encoded original decodes to is part of the format."""
    colours = pil.fromarray(picture(np.random.default_rng(0), 20, 20))
    for mode, kind, shape in [("P", "PNG", (20, 20, 3)), ("1", "PNG", (20, 20)), ("CMYK", "JPEG", (20, 20, 4))]:
        file = io.BytesIO()
        colours.convert(mode).save(file, kind)
        assert images.decode_file(file.getvalue(), kind.lower()).shape == shape


def test_a_png_bomb_is_refused_before_it_is_inflated() -> None:
    """Its size is compared with the manifest's first, and inflation stops one byte after the expected length."""
    pixels = np.zeros((10, 10), np.uint8)
    data = png.encode(pixels, 0)
    with pytest.raises(ValueError):
        images.decode_file(data, "png", (11, 10))
    start = data.index(b"IDAT") - 4
    bomb = zlib.compress(bytes(50_000_000), 9)
    chunk = len(bomb).to_bytes(4, "big") + b"IDAT" + bomb + zlib.crc32(b"IDAT" + bomb).to_bytes(4, "big")
    with pytest.raises(BundleInvalid, match="number of pixels"):
        png.decode(data[:start] + chunk)


def test_one_altered_pixel_is_refused_though_everything_else_agrees(forgery: Forgery) -> None:
    """Re-wrapped with new member digests, sizes and manifest, the pixel digest still tells."""
    path, content = next(item for item in forgery.contents if item[0].endswith(".png"))
    pixels = images.decode_file(content, "png").copy()
    pixels[3, 4, 1] ^= 1
    forgery.replace(path, png.encode(pixels))
    with Bundle.open(forgery.build()) as bundle:
        image = bundle.manifest.frames[0].images[0]
        with pytest.raises(BundleInvalid, match="other pixels"):
            bundle.pixels(image)
        assert [problem for problem in bundle.verify() if "other pixels" in problem]


def test_a_jpeg_that_decodes_otherwise_is_not_called_corrupt(tmp_path: Path) -> None:
    """Decoders differ in the last bit; the file's own digest vouches for it."""
    original = as_file(picture(np.random.default_rng(0), 16, 16), "JPEG")
    with image_bundle(tmp_path, lambda writer: writer.encoded_image(1, "image", original)) as bundle:
        data = (tmp_path / "a.zst").read_bytes()
    forged = Forgery.of(data)
    forged.manifest["frames"][0]["images"][0]["pixels_sha256"] = "0" * 64
    with Bundle.open(forged.build()) as bundle:
        assert bundle.verify() == []
        with pytest.raises(PixelsDiffer, match="intact"):
            bundle.pixels(bundle.manifest.frames[0].images[0])


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2, 2)])
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Wrong dimensions and float pixels."""
    with BundleWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="HW or HWC"):
            writer.image(1, "image", np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match="uint8 or uint16"):
            writer.image(1, "image", np.zeros((4, 4), np.float32))


def image_bundle(tmp_path: Path, store: Any) -> Bundle:
    """A bundle of one frame with one image."""
    from recorder.bundle.manifest import Context, Frame, Incident, Manifest, Trigger, Window
    from tests.bundles import INCIDENT_ID, environment

    with BundleWriter(tmp_path) as writer:
        image: Image = store(writer)
        frame = Frame(
            id=1, stream="", status="complete", time_ns=1, monotonic_ns=1, context=0, calls=(), images=(image,)
        )
        manifest = Manifest(
            created_ns=1,
            producer="test",
            incident=Incident(
                id=INCIDENT_ID,
                stream="",
                severity="normal",
                opened_ns=1,
                window=Window(pre_frames=0, post_frames=0, post_seconds=0.0, closed_by="frames"),
                triggers=(Trigger(kind="manual", reason="test", frame=1, time_ns=1),),
                host="alive",
            ),
            contexts=(Context(id=0, since_ns=0, environment=environment()),),
            models=(),
            frames=(frame,),
            calls=(),
            members=(),
        )
        writer.finish(tmp_path / "a.zst", manifest)
    return Bundle.open(tmp_path / "a.zst")
