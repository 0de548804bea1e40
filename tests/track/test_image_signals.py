"""Each signal moves with what it is named after, and with nothing it should not."""

from __future__ import annotations

import io
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from recorder.image_signals import IMAGE_SIGNALS, bytes_digest, decode_reduced, image_signals
from tests.bundles import picture

NAMES = list(IMAGE_SIGNALS)


def signals(pixels: npt.NDArray[np.generic], **arguments: object) -> dict[str, float]:
    return dict(zip(NAMES, image_signals(pixels, **arguments).values.tolist(), strict=True))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scene() -> npt.NDArray[np.uint8]:
    """A smooth colour image with a little noise, larger than the grid."""
    return picture(np.random.default_rng(1), 540, 960)


def blurred(pixels: npt.NDArray[np.uint8], x: int, y: int) -> npt.NDArray[np.uint8]:
    """A box blur of odd widths."""
    result = pixels.astype(np.float64)
    for axis, width in ((1, x), (0, y)):
        result = sum(np.roll(result, shift, axis) for shift in range(-(width // 2), width // 2 + 1)) / width
    return result.round().astype(np.uint8)


def test_a_darker_scene_is_darker_and_of_less_contrast(scene: npt.NDArray[np.uint8]) -> None:
    bright, dark = signals(scene), signals(scene // 2)
    assert dark["luminance"] == pytest.approx(bright["luminance"] / 2, rel=0.02)
    assert dark["contrast"] == pytest.approx(bright["contrast"] / 2, rel=0.02)
    assert dark["saturation"] == pytest.approx(bright["saturation"], abs=0.02)


def test_the_formulas_hold_where_everything_is_on_the_grid() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    found = signals(pixels)
    grey = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    assert found["luminance"] == pytest.approx(grey.mean(), rel=1e-5)
    assert found["contrast"] == pytest.approx(grey.std(), rel=1e-5)
    assert found["channel_2"] == pytest.approx(pixels[..., 2].mean() / 255, rel=1e-5)
    assert found["clipped_low"] == pytest.approx(np.mean(grey <= 4 / 255))
    top, low = pixels.max(axis=2) / 255, pixels.min(axis=2) / 255
    assert found["saturation"] == pytest.approx(np.mean((top - low) / top), rel=1e-4)


def test_clipping_is_the_share_of_pixels_at_the_ends() -> None:
    pixels = np.full((100, 100), 128, np.uint8)
    pixels[:10] = 255
    pixels[10:30] = 0
    found = signals(pixels)
    assert found["clipped_high"] == pytest.approx(0.1) and found["clipped_low"] == pytest.approx(0.2)


def test_blur_lowers_sharpness_and_motion_lowers_it_in_its_direction(scene: npt.NDArray[np.uint8]) -> None:
    sharp, soft, moved = signals(scene), signals(blurred(scene, 5, 5)), signals(blurred(scene, 9, 1))
    assert soft["sharpness_x"] < sharp["sharpness_x"] / 4 and soft["sharpness_y"] < sharp["sharpness_y"] / 4
    assert moved["sharpness_x"] / sharp["sharpness_x"] < 0.5 * moved["sharpness_y"] / sharp["sharpness_y"]


@pytest.mark.parametrize("sigma", [2.0, 5.0, 12.0])
def test_noise_is_estimated_in_units_of_its_sigma(sigma: float) -> None:
    random_state = np.random.default_rng(3)
    y, x = np.mgrid[0:480, 0:640]
    smooth = 128 + 40 * np.sin(x / 90) + 30 * np.cos(y / 70)
    noisy = np.clip(smooth + random_state.normal(0, sigma, smooth.shape), 0, 255).astype(np.uint8)
    assert signals(noisy)["noise"] * 255 == pytest.approx(sigma, rel=0.1)


def test_sixteen_bits_and_eight_bits_say_the_same(scene: npt.NDArray[np.uint8]) -> None:
    eight, sixteen = signals(scene), signals(scene.astype(np.uint16) * 257)
    for name in NAMES[:11]:
        assert sixteen[name] == pytest.approx(eight[name], rel=1e-3, abs=1e-6)


def test_grey_images_have_no_colour_and_alpha_does_not_count(scene: npt.NDArray[np.uint8]) -> None:
    grey = signals(scene[:, :, 0])
    assert all(np.isnan(grey[name]) for name in ("saturation", "channel_0", "channel_1", "channel_2"))
    with_alpha = np.dstack([scene, np.zeros(scene.shape[:2], np.uint8)])
    assert signals(with_alpha) == pytest.approx(signals(scene), nan_ok=True)


def test_the_difference_is_to_the_frame_before(scene: npt.NDArray[np.uint8]) -> None:
    first = image_signals(scene)
    assert np.isnan(first.values[NAMES.index("difference")])
    assert signals(scene, previous=first.small)["difference"] == 0
    brighter = np.clip(scene.astype(int) + 20, 0, 255).astype(np.uint8)
    assert signals(brighter, previous=first.small)["difference"] == pytest.approx(20 / 255, rel=0.1)
    assert np.isnan(signals(scene[:100], previous=first.small)["difference"])


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(1, 40), st.integers(1, 400)),
            st.tuples(st.integers(1, 400), st.integers(1, 20), st.integers(1, 5)),
        ),
    )
)
def test_every_image_has_signals_within_their_range(pixels: npt.NDArray[np.generic]) -> None:
    found = signals(pixels)
    assert 0 <= found["luminance"] <= 1.0001 and 0 <= found["contrast"] <= 0.5001
    signed = {"anisotropy": 40, "spectrum_slope": 20, "motion_x": 400, "motion_y": 400, "blockiness": 1e4}
    for name, value in found.items():
        most = signed.get(name, 16)
        assert np.isnan(value) or (-most if name in signed else 0) <= value <= most, name


def test_a_camera_that_moves_has_motion_in_its_own_pixels(scene: npt.NDArray[np.uint8]) -> None:
    textured = np.random.default_rng(4).integers(0, 256, (45, 80), dtype=np.uint8).repeat(12, 0).repeat(12, 1)
    first = image_signals(textured)
    moved = signals(np.roll(textured, (24, -36), (0, 1)), previous=first.small)
    assert moved["motion_x"] == pytest.approx(-36, abs=6) and moved["motion_y"] == pytest.approx(24, abs=6)
    still = signals(textured, previous=first.small)
    assert still["motion_x"] == pytest.approx(0, abs=0.1) and still["motion_y"] == pytest.approx(0, abs=0.1)


def test_blocks_haze_and_direction_show_in_signals_of_their_own(scene: npt.NDArray[np.uint8]) -> None:
    clean = signals(scene)
    file = io.BytesIO()
    Image.fromarray(scene).save(file, "JPEG", quality=8)
    assert signals(np.asarray(Image.open(file)))["blockiness"] > clean["blockiness"] + 0.3
    veiled = (scene * 0.5 + 110).astype(np.uint8)
    assert signals(veiled)["haze"] > clean["haze"] + 0.2
    assert signals(blurred(scene, 9, 1))["anisotropy"] < clean["anisotropy"] - 1
    assert signals(blurred(scene, 5, 5))["spectrum_slope"] < clean["spectrum_slope"] - 0.5


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 3), (2, 2, 2, 2), (4,)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="an image is"):
        image_signals(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="an image is"):
        image_signals(np.zeros((4, 4), np.float32))


def test_digests_differ_where_bytes_do() -> None:
    dice = random.Random(0)
    base = bytearray(dice.randbytes(70_003))
    seen = {bytes_digest(bytes(base)), bytes_digest(bytes(base[:-1])), bytes_digest(b""), bytes_digest(b"\0")}
    for _ in range(500):
        changed = bytearray(base)
        changed[dice.randrange(len(base))] ^= 1 << dice.randrange(8)
        seen.add(bytes_digest(bytes(changed)))
    swapped = base[8:16] + base[:8] + base[16:]
    seen.add(bytes_digest(bytes(swapped)))
    assert len(seen) > 500 and all(0 <= each < 2**64 for each in seen)
    assert bytes_digest(bytes(base)) == bytes_digest(memoryview(base))


def test_digests_of_zeros_of_different_length_differ() -> None:
    assert len({bytes_digest(bytes(length)) for length in range(300)}) == 300


@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp"])
def test_encoded_images_are_measured_at_a_fraction_of_their_size(encoding: str, scene: npt.NDArray[np.uint8]) -> None:
    file = io.BytesIO()
    Image.fromarray(scene).save(file, encoding)
    pixels = decode_reduced(file.getvalue(), encoding)
    assert pixels is not None
    assert signals(pixels)["luminance"] == pytest.approx(signals(scene)["luminance"], abs=0.01)
    assert (max(pixels.shape) < 960) == (encoding == "jpeg")
    assert decode_reduced(file.getvalue()[:200], encoding) is None
    assert decode_reduced(b"nothing of the kind", encoding) is None
