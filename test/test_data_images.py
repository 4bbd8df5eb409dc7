# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images out of messages: right colours, no needless copies, and a reason for every refusal."""

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from helpers_data import jpeg, picture, png
from hypothesis import given
from hypothesis import strategies as st

from av_compress.data.content import content_sha256
from av_compress.data.images import (
    ENCODINGS,
    RawImage,
    decode_compressed,
    decode_raw,
    frame_from_message,
    raw_from_message,
    read_image,
)
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import ImageFrame

BYTES = {"bgr8": 3, "rgb8": 3, "8UC3": 3, "bgra8": 4, "rgba8": 4, "yuv422": 2, "uyvy": 2}
BYTES |= {"yuv422_yuy2": 2, "yuyv": 2}


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    """Return an image so smooth that demosaicing interpolates it almost exactly, BGR."""
    y, x = np.mgrid[:height, :width]
    return np.stack((4 * x + 20, 5 * y + 60, 2 * x + 3 * y + 30), axis=2).astype(np.uint8)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_read_from_the_first_row(pattern: str):
    image = gradient()
    mosaic = np.empty(image.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = image[row::2, column::2, "bgr".index(color)]
    pixels, color = decode_raw(f"bayer_{pattern}8", 24, 32, 32, mosaic.tobytes())
    assert color == "bgr"
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(pixels[inner].astype(int) - image[inner]).max() <= 2


def bt601(y: int, u: int, v: int) -> np.ndarray:
    """Return the BGR of a limited-range BT.601 colour, in float64."""
    luma, cb, cr = 1.164383 * (y - 16), u - 128, v - 128
    blue = luma + 2.017232 * cb
    green = luma - 0.391762 * cb - 0.812968 * cr
    return np.clip([blue, green, luma + 1.596027 * cr], 0, 255)


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv422_pixels_share_their_colour_in_pairs(encoding: str, order: str):
    u, v, luma = 90, 200, [60, 180]
    values = {"u": iter([u]), "v": iter([v]), "y": iter(luma)}
    data = bytes(next(values[part]) for part in order)
    pixels, color = decode_raw(encoding, 1, 2, 4, data)
    assert color == "bgr"
    for column in range(2):
        assert np.abs(pixels[0, column] - bt601(luma[column], u, v)).max() <= 1.5


def test_nv12_pixels_share_their_colour_in_squares():
    luma = np.array([[60, 180, 20, 235], [100, 140, 16, 90]], np.uint8)
    chroma = np.array([[90, 200, 160, 70]], np.uint8)  # u v u v
    data = np.concatenate((luma, chroma)).tobytes()
    pixels, color = decode_raw("nv12", 2, 4, 4, data)
    assert color == "bgr"
    for row, column in np.ndindex(2, 4):
        u, v = chroma[0, column // 2 * 2 :][:2].tolist()
        assert np.abs(pixels[row, column] - bt601(int(luma[row, column]), u, v)).max() <= 1.5


def test_alpha_is_dropped_and_grey_is_repeated():
    image = picture(3)
    alpha = np.full((*image.shape[:2], 1), 7, np.uint8)
    bgra = np.concatenate((image, alpha), axis=2)
    rgba = np.concatenate((image[..., ::-1], alpha), axis=2)
    for encoding, data in (("bgra8", bgra), ("rgba8", rgba)):
        pixels, color = decode_raw(encoding, 48, 64, 256, data.tobytes())
        assert color == "bgr"
        np.testing.assert_array_equal(pixels, image)
    for encoding in ("mono8", "8UC1"):
        pixels, _ = decode_raw(encoding, 48, 64, 64, image[..., 0].tobytes())
        np.testing.assert_array_equal(pixels, image[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "8UC3"])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("kind", [bytes, lambda b: array.array("B", b), bytearray, memoryview])
def test_three_channels_are_views_of_the_message(encoding: str, padding: int, kind):
    image = picture(5)
    padded = np.pad(image.reshape(48, 192), ((0, 0), (0, padding)))
    data = kind(padded.tobytes())
    pixels, color = decode_raw(encoding, 48, 64, 192 + padding, data)
    np.testing.assert_array_equal(pixels, image)
    assert color == ("rgb" if encoding == "rgb8" else "bgr")
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8))


@given(
    st.sampled_from(ENCODINGS), st.integers(3, 9), st.integers(2, 6), st.integers(0, 7), st.data()
)
def test_padding_and_what_follows_the_last_row_do_not_matter(encoding, rows, pairs, padding, data):
    width = 2 * pairs
    rows += rows % 2 if encoding == "nv12" else 0
    count = rows * 3 // 2 if encoding == "nv12" else rows
    row_bytes = width * BYTES.get(encoding, 1)
    plain = data.draw(st.binary(min_size=count * row_bytes, max_size=count * row_bytes))
    wanted, _ = decode_raw(encoding, rows, width, row_bytes, plain)
    lines = [plain[i * row_bytes : (i + 1) * row_bytes] for i in range(count)]
    padded = b"".join(line + bytes(padding) for line in lines) + b"more"
    pixels, _ = decode_raw(encoding, rows, width, row_bytes + padding, padded)
    assert pixels.shape == (rows, width, 3)
    np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "says"),
    [
        ("bgr8", 0, 4, 12, 0, "bgr8 image of 4 x 0 pixels"),
        ("bgr8", 4, 0, 0, 0, "bgr8 image of 0 x 4 pixels"),
        ("bgr8", 4, 4, 11, 99, "step 11: a row of 4 pixels takes 12 bytes"),
        ("mono8", 4, 4, 3, 99, "step 3: a row of 4 pixels takes 4 bytes"),
        ("bgr8", 4, 4, 12, 47, "4 rows of step 12 are 48 bytes, the message has 47"),
        ("bgr8", 4, 4, 12, 0, "the message has 0"),
        ("rgba8", 4, 4, 20, 79, "4 rows of step 20 are 80 bytes, the message has 79"),
        ("yuyv", 4, 5, 10, 40, "odd width 5"),
        ("nv12", 4, 5, 5, 40, "odd width 5"),
        ("nv12", 5, 4, 4, 40, "odd height 5"),
        ("nv12", 4, 4, 5, 29, "6 rows of step 5 are 30 bytes, the message has 29"),
        ("bayer_rggb8", 2, 8, 8, 16, "at least 3 x 3"),
        ("16UC1", 4, 4, 8, 32, "'16UC1' is not supported; allowed: bgr8, rgb8"),
        ("", 4, 4, 8, 32, "'' is not supported"),
    ],
)
def test_what_is_no_image_is_refused_with_numbers(encoding, height, width, step, size, says):
    with pytest.raises(FrameError, match=says):
        decode_raw(encoding, height, width, step, bytes(size))


@pytest.mark.parametrize("data", [[1, 2, 3] * 16, None, "x" * 48, np.zeros((8, 12))[:, ::2]])
def test_data_that_is_no_buffer_is_refused(data):
    with pytest.raises(FrameError, match="not a contiguous buffer of bytes"):
        decode_raw("bgr8", 4, 4, 12, data)


@pytest.mark.parametrize("format", ["jpeg", "bgr8; jpeg compressed bgr8", "jpg", ""])
def test_jpeg_is_known_by_what_it_begins_with(format: str):
    image = gradient(64, 64)
    pixels = decode_compressed(format, array.array("B", jpeg(image)))
    assert np.abs(pixels.astype(int) - image).mean() < 6


@pytest.mark.parametrize("format", ["png", "rgb8; png compressed "])
def test_png_is_exact_and_grey_becomes_three_channels(format: str):
    image = picture(9)
    np.testing.assert_array_equal(decode_compressed(format, png(image)), image)
    grey = decode_compressed(format, png(image[..., 0]))
    np.testing.assert_array_equal(grey, image[..., :1].repeat(3, axis=2))


JPEG, PNG = jpeg(picture(1)), png(picture(1))


@given(st.sampled_from([JPEG, PNG]), st.data())
def test_a_truncated_file_is_refused_wherever_it_was_cut(whole: bytes, data):
    cut = data.draw(st.integers(0, len(whole) - 2))
    with pytest.raises(FrameError):
        decode_compressed("", whole[:cut])


def test_a_jpeg_with_a_thumbnail_is_refused_when_only_the_thumbnail_is_whole():
    thumbnail = jpeg(picture(2, 8, 8))
    exif = b"Exif\0\0" + thumbnail
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    whole = JPEG[:2] + segment + JPEG[2:]
    assert decode_compressed("jpeg", whole).shape == (48, 64, 3)
    with pytest.raises(FrameError, match="truncated"):
        decode_compressed("jpeg", whole[:-200])


def test_bytes_after_the_end_do_not_matter():
    np.testing.assert_array_equal(
        decode_compressed("jpeg", JPEG + bytes(100)), decode_compressed("jpeg", JPEG)
    )


@given(st.sampled_from([JPEG, PNG]), st.integers(0, 5000), st.binary(min_size=1, max_size=40))
def test_damage_gives_an_image_or_a_reason(whole: bytes, place: int, junk: bytes):
    place %= len(whole)
    damaged = whole[:place] + junk + whole[place + len(junk) :]
    try:
        pixels = decode_compressed("", damaged)
    except FrameError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("format", "data", "says"),
    [
        ("16UC1; compressedDepth png", PNG, "depth image"),
        ("h264", b"\0\0\0\1gB", "'h264' holds neither JPEG nor PNG: 6 bytes, beginning with 00"),
        ("jpeg", b"", "0 bytes, beginning with nothing"),
        ("png", png(np.zeros((4, 4), np.uint16)), "16 bits per channel"),
    ],
)
def test_what_is_neither_jpeg_nor_png_is_refused(format: str, data: bytes, says: str):
    with pytest.raises(FrameError, match=says):
        decode_compressed(format, data)


def test_a_file_is_named_when_it_cannot_be_used(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(JPEG[:500])
    with pytest.raises(FrameError, match=r"cut\.jpg is truncated: 500 bytes"):
        read_image(tmp_path / "cut.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")


def header(sec: int = 12, nanosec: int = 34):
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="front")


def test_a_message_that_is_no_image_is_refused():
    with pytest.raises(FrameError, match="SimpleNamespace is not an image"):
        frame_from_message(SimpleNamespace(header=header()))
    compressed = SimpleNamespace(header=header(), format="png", data=png(picture(1)))
    with pytest.raises(FrameError, match=r"not an image; allowed: sensor_msgs/Image$"):
        raw_from_message(compressed)


def test_a_raw_image_is_what_the_message_holds_and_decodes_to_its_frame():
    data = array.array("B", np.pad(picture(7).reshape(48, 192), ((0, 2), (0, 3))).tobytes())
    message = SimpleNamespace(
        header=header(), encoding="rgb8", height=48, width=64, step=195, data=data
    )
    raw = raw_from_message(message, "k")
    assert (raw.encoding, raw.height, raw.width, raw.step) == ("rgb8", 48, 64, 195)
    assert (raw.stamp_ns, raw.frame_id, raw.key) == (12_000_000_034, "front", "k")
    # What follows the last row is no part of it.
    np.testing.assert_array_equal(raw.data, np.frombuffer(data, np.uint8)[: 48 * 195])
    assert np.shares_memory(raw.data, np.frombuffer(data, np.uint8))
    frame, other = raw.decode(), frame_from_message(message, "k")
    np.testing.assert_array_equal(frame.pixels, picture(7))
    np.testing.assert_array_equal(frame.pixels, other.pixels)
    assert [getattr(frame, name) for name in ("color", "stamp_ns", "frame_id", "key")] == [
        getattr(other, name) for name in ("color", "stamp_ns", "frame_id", "key")
    ]


@pytest.mark.parametrize(
    ("encoding", "step", "size", "says"),
    [
        ("bgr8", 12, 47, "truncated"),
        ("bgr8", 11, 99, "step 11"),
        ("16UC1", 12, 48, "'16UC1' is not supported"),
        ("nv12", 4, 23, "6 rows of step 4 are 24 bytes"),
    ],
)
def test_a_raw_image_that_is_none_cannot_be_made(encoding, step, size, says):
    with pytest.raises(FrameError, match=says):
        RawImage(encoding, 4, 4, step, np.zeros(size, np.uint8))


def test_frames_from_real_ros_messages_are_views():
    messages = pytest.importorskip("sensor_msgs.msg", reason="needs ROS 2 (sensor_msgs)")
    image = picture(4)
    message = messages.Image(height=48, width=64, encoding="rgb8", step=192)
    message.data = array.array("B", image.tobytes())
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 34
    message.header.frame_id = "front"
    frame = frame_from_message(message, "k")
    assert (frame.color, frame.stamp_ns, frame.frame_id, frame.key) == (
        "rgb",
        12_000_000_034,
        "front",
        "k",
    )
    np.testing.assert_array_equal(frame.pixels, image)
    assert np.shares_memory(frame.pixels, np.frombuffer(message.data, np.uint8))

    compressed = messages.CompressedImage(format="png", data=array.array("B", png(image)))
    np.testing.assert_array_equal(frame_from_message(compressed).pixels, image)


def test_content_hash_is_of_what_the_image_shows():
    image = picture(6)
    padded = np.zeros((48, 70, 3), np.uint8)
    padded[:, :64] = image
    same = [
        ImageFrame(image),
        ImageFrame(np.ascontiguousarray(image[..., ::-1]), "rgb", stamp_ns=5, key="other"),
        ImageFrame(padded[:, :64]),
    ]
    assert len({content_sha256(frame) for frame in same}) == 1
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    others = [ImageFrame(changed), ImageFrame(image, "rgb"), ImageFrame(image.reshape(64, 48, 3))]
    assert len({content_sha256(frame) for frame in [same[0], *others]}) == 4


def test_opencv_and_ros_disagree_on_bayer_names():
    # Guards the table against a well-meant "correction": the alias of OpenCV says it as ROS does.
    assert getattr(cv2, "COLOR_BayerRGGB2BGR", cv2.COLOR_BayerBG2BGR) == cv2.COLOR_BayerBG2BGR
