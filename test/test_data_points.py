# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds out of messages: every layout against `struct`, and a reason for every refusal."""

from __future__ import annotations

import array
import math
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_points import FORMATS, STAMP_NS, message, packed, xyzi
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.bag_writer import BagWriter
from av_compress.data.points import PointField, PointOptions, cloud_from_message, fields_of
from av_compress.data.ros_types import rosbags
from av_compress.errors import ConfigError, FrameError

PLACE = ("x", "y", "z")


def value_of(draw, datatype: int):
    """Draw a value that a field of this datatype can hold."""
    code = FORMATS[datatype]
    if code in "fd":
        return draw(st.floats(width=32 if code == "f" else 64, allow_subnormal=False))
    size = 8 * struct.calcsize(code)
    low, high = (0, 2**size - 1) if code.isupper() else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    return draw(st.integers(low, high))


@st.composite
def clouds(draw):
    """Draw fields in any order, with gaps between them, and the values of all points."""
    names = [*PLACE, "intensity", "ring", *draw(st.lists(st.sampled_from("abc"), unique=True))]
    fields, end = [], 0
    for name in draw(st.permutations(names)):
        offset = end + draw(st.integers(0, 5))
        datatype = draw(st.sampled_from(sorted(FORMATS)) | st.just(7))
        fields.append(PointField(name, offset, datatype, draw(st.integers(0, 1))))
        end = offset + struct.calcsize(FORMATS[datatype])
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    values = [
        [[value_of(draw, field.datatype) for field in fields] for _ in range(width)]
        for _ in range(height)
    ]
    return fields, values, end + draw(st.integers(0, 9))


@settings(max_examples=200, deadline=None)
@given(clouds(), st.booleans(), st.integers(0, 7))
def test_every_layout_is_read_as_struct_reads_it(cloud, big, padding):
    fields, values, step = cloud
    height, width = len(values), len(values[0])
    row_step = width * step + (padding if height > 1 else 0)
    data = packed(fields, values, step, row_step - width * step, big)
    made = message(
        fields, data, width, height=height, point_step=step, row_step=row_step, is_bigendian=big
    )
    options = PointOptions(channels=6, zeros=("time",))
    have = cloud_from_message(made, options).points
    assert have.shape == (height * width, 6)
    assert have.dtype == np.float32
    by_name = {field.name: field for field in fields}
    for index in range(height * width):
        start = (index // width) * row_step + (index % width) * step
        for column, name in enumerate((*PLACE, "intensity", None, "ring")):
            if name is None:
                assert have[index, column] == 0.0
                continue
            field = by_name[name]
            code = (">" if big else "<") + FORMATS[field.datatype]
            (want,) = struct.unpack_from(code, data, start + field.offset)
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(have[index, column], np.float64(want).astype("f4"))


@pytest.mark.parametrize(
    "hold", [bytes, bytearray, memoryview, lambda d: array.array("B", d), np.frombuffer]
)
def test_data_may_be_held_by_anything(hold):
    fields, values = xyzi()
    data = values.tobytes()
    held = hold(data, np.uint8) if hold is np.frombuffer else hold(data)
    have = cloud_from_message(message(fields, held, len(values)), key="7")
    np.testing.assert_array_equal(have.points, values)
    assert (have.stamp_ns, have.frame_id, have.key) == (STAMP_NS, "lidar", "7")


def test_points_are_a_copy():
    fields, values = xyzi()
    data = bytearray(values.tobytes())
    have = cloud_from_message(message(fields, data, len(values)))
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(have.points, values)
    assert have.points.flags.c_contiguous


def test_a_single_row_needs_no_row_step_and_the_last_row_no_padding():
    fields, values = xyzi(6)
    np.testing.assert_array_equal(
        cloud_from_message(message(fields, values.tobytes(), 6, row_step=0)).points, values
    )
    rows = values.tobytes()[:48] + b"\xff" * 8 + values.tobytes()[48:]
    have = cloud_from_message(message(fields, rows, 3, height=2, row_step=56))
    np.testing.assert_array_equal(have.points, values)


@pytest.mark.parametrize(("height", "width"), [(1, 0), (0, 5), (0, 0)])
@pytest.mark.parametrize("fields", [[], xyzi()[0]])
def test_a_cloud_without_points_is_empty(height, width, fields):
    empty = message(fields, b"", width, height=height, point_step=0)
    have = cloud_from_message(empty, PointOptions(channels=5))
    assert have.points.shape == (0, 5)
    assert have.stamp_ns == STAMP_NS


def test_intensity_may_have_other_names_or_be_zeros():
    fields, values = xyzi()
    other = [*fields[:3], PointField("reflectivity", 12, 7)]
    made = message(other, values.tobytes(), 5)
    with pytest.raises(FrameError, match=r"lacks the fields intensity; it has x, y, z, reflect"):
        cloud_from_message(made)
    named = PointOptions(intensity=("intensity", "i", "reflectivity"))
    np.testing.assert_array_equal(cloud_from_message(made, named).points, values)
    zeros = cloud_from_message(made, PointOptions(zeros=("intensity",))).points
    np.testing.assert_array_equal(zeros, values * np.float32([1, 1, 1, 0]))
    # The first name that is there counts, whatever the fields' order is.
    both = [
        *fields[:2],
        PointField("i", 8, 7),
        PointField("z", 8, 7),
        PointField("intensity", 12, 7),
    ]
    have = cloud_from_message(
        message(both, values.tobytes(), 5), PointOptions(intensity=("i", "intensity"))
    )
    np.testing.assert_array_equal(have.points[:, 3], values[:, 2])


TIMES = [
    # datatype, unit, clock, value of a point 20 ms after the stamp
    (7, None, "stamp", 0.02),
    (8, None, "stamp", 0.02),
    (6, None, "stamp", 20_000_000),
    (5, None, "stamp", 20_000_000),
    (6, "us", "stamp", 20_000),
    (7, "ms", "stamp", 20.0),
    (8, None, "epoch", STAMP_NS / 1e9 + 0.02),
    (8, "ns", "epoch", float(STAMP_NS + 20_000_000)),
]


@pytest.mark.parametrize(("datatype", "unit", "clock", "value"), TIMES)
@pytest.mark.parametrize("name", ["time", "t", "timestamp", "time_stamp"])
def test_times_are_seconds_before_the_stamp(datatype, unit, clock, value, name):
    fields, _ = xyzi()
    fields.append(PointField(name, 16, datatype))
    step = 16 + struct.calcsize(FORMATS[datatype])
    data = packed(fields, [[(1, 2, 3, 4, value)]], step)
    options = PointOptions(channels=5, time_unit=unit, clock=clock)
    have = cloud_from_message(message(fields, data, 1), options).points
    assert have[0, 4] == pytest.approx(-0.02, abs=1e-6)
    np.testing.assert_array_equal(have[0, :4], [1, 2, 3, 4])


@pytest.mark.parametrize("datatype", [7, 8])
@pytest.mark.parametrize("none", [math.nan, math.inf, -math.inf])
def test_a_point_without_a_time_spoils_no_other(datatype, none):
    fields, _ = xyzi()
    fields.append(PointField("t", 16, datatype))
    points = [(1, 2, 3, 4, -0.5), (1, 2, 3, 4, none)]
    step = 16 + struct.calcsize(FORMATS[datatype])
    for rows in ([points], [points[1:]]):
        data = packed(fields, rows, step)
        made = message(fields, data, len(rows[0]))
        have = cloud_from_message(made, PointOptions(channels=5)).points
        assert not math.isfinite(have[-1, 4])
        if len(have) > 1:
            assert have[0, 4] == 0.5


def test_data_beyond_the_points_is_not_read():
    fields, values = xyzi()
    made = message(fields, values.tobytes() + b"\xff" * 100, 3)
    np.testing.assert_array_equal(cloud_from_message(made).points, values[:3])


def test_a_field_that_is_not_read_may_be_anything():
    fields, values = xyzi()
    others = [PointField("rgb", 0, 7, 3), PointField("rgb", 900, 99), PointField("", 2, 0, 0)]
    have = cloud_from_message(message([*others, *fields], values.tobytes(), 5, point_step=16))
    np.testing.assert_array_equal(have.points, values)


@pytest.mark.parametrize(
    ("datatype", "value", "options"),
    [
        (8, STAMP_NS / 1e9, PointOptions(channels=5)),
        (7, 2e7, PointOptions(channels=5)),
        (8, 0.02, PointOptions(channels=5, clock="epoch")),
        (6, 2_000_000, PointOptions(channels=5, time_unit="us", clock="epoch")),
    ],
)
def test_times_of_another_clock_or_unit_are_refused(datatype, value, options):
    fields, _ = xyzi()
    fields.append(PointField("t", 16, datatype))
    data = packed(fields, [[(1, 2, 3, 4, value)]], 16 + struct.calcsize(FORMATS[datatype]))
    with pytest.raises(FrameError, match=r"field t .* s from the stamp; set time_unit or clock"):
        cloud_from_message(message(fields, data, 1), options)


def changed(**changes):
    fields, values = xyzi()
    made = message(fields, values.tobytes(), 5)
    return SimpleNamespace(**{**vars(made), **changes})


def with_fields(*fields):
    return changed(fields=list(fields), point_step=16)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (changed(data=b"\0" * 79), "is truncated: 80 bytes are needed, it has 79"),
        (changed(data=b""), "5 x 1 points of 16 bytes is truncated"),
        (changed(data="text"), "data of type str is not a contiguous buffer"),
        (changed(height=2, width=2, row_step=31), "has rows of 31 bytes; 32 are needed"),
        (changed(height=2), "is truncated: 160 bytes are needed, it has 80"),
        (changed(point_step=15), "field intensity .* ends at byte 16 of a point of 15"),
        (changed(point_step=0), "field x .* ends at byte 4 of a point of 0"),
        (with_fields(), "lacks the fields x, y, z, intensity; it has none"),
        (with_fields(*xyzi()[0][1:3]), "lacks the fields x, intensity; it has y, z"),
        (with_fields(PointField("x", 0, 9)), "field x .* datatype 9; allowed: 1 to 8"),
        (with_fields(PointField("x", 0, 7, 3)), "field x .* is 3 values, not one"),
        (with_fields(PointField("x", 0, 0)), "field x .* datatype 0; allowed: 1 to 8"),
        (with_fields(*xyzi()[0], PointField("y", 0, 7)), "has several fields y; wanted is one"),
        (with_fields(PointField("x", 2**32 - 1, 7)), "field x .* ends at byte 4294967299"),
        (changed(height=0), "5 x 0 points has 80 bytes of data; a single row .* height of 1"),
        (changed(width=0, height=4), "0 x 4 points has 80 bytes of data"),
        (changed(height=2**32 - 1, width=2**32 - 1, row_step=2**32 - 1), "has rows of"),
        (changed(width=2**32 - 1), "is truncated: 68719476720 bytes are needed, it has 80"),
        (object(), "object is not a point cloud; allowed: sensor_msgs/PointCloud2"),
    ],
)
def test_what_is_no_cloud_is_refused(made, says):
    with pytest.raises(FrameError, match=says):
        cloud_from_message(made)


SIZES = st.integers(0, 6) | st.sampled_from([16, 2**16, 2**31, 2**32 - 1])
ANY_FIELDS = st.lists(
    st.builds(
        PointField,
        st.sampled_from([*PLACE, "intensity", "t", ""]),
        st.integers(0, 20) | st.sampled_from([2**31, 2**32 - 1]),
        st.integers(0, 9) | st.just(255),
        st.integers(0, 2) | st.just(2**32 - 1),
    ),
    max_size=9,
)


@settings(max_examples=300)
@given(
    ANY_FIELDS | st.just(xyzi()[0]),
    st.binary(max_size=96),
    st.fixed_dictionaries(
        {"height": SIZES, "width": SIZES, "point_step": SIZES, "row_step": SIZES}
    ),
    st.booleans(),
    st.sampled_from([4, 5]),
)
def test_whatever_comes_is_a_cloud_or_refused(fields, data, sizes, big, channels):
    """A cloud has as many points as the message tells, and nothing is read beyond its data."""
    made = message(fields, data, sizes.pop("width"), is_bigendian=big, **sizes)
    try:
        have = cloud_from_message(made, PointOptions(channels=channels)).points
    except FrameError:
        return
    count = sizes["height"] * made.width
    assert have.shape == (count, channels)
    assert count * sizes["point_step"] <= len(data)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"channels": 2}, "channels is 2; 3 to 6 are allowed"),
        ({"channels": 7}, "channels is 7"),
        ({"time_unit": "min"}, "time_unit is 'min'; allowed: s, ms, us, ns"),
        ({"clock": "wall"}, "clock is 'wall'"),
        ({"ring": (), "channels": 6}, "no field is named for ring, nor is it among the zeros"),
        ({"zeros": ("x", "ring")}, "zeros names x; allowed: intensity, time, ring"),
    ],
)
def test_options_that_mean_nothing_are_refused(values, says):
    with pytest.raises(ConfigError, match=says):
        PointOptions(**values)


OUSTER = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "t", "reflectivity", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u4", "<u2", "<u2"],
        "offsets": [0, 4, 8, 16, 20, 24, 26],
        "itemsize": 48,
    }
)


def test_a_structured_type_is_described_as_it_lies():
    have = [(f.name, f.offset, f.datatype, f.count) for f in fields_of(OUSTER)]
    assert have == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("intensity", 16, 7, 1),
        ("t", 20, 6, 1),
        ("reflectivity", 24, 4, 1),
        ("ring", 26, 4, 1),
    ]


@pytest.mark.parametrize("kind", [OUSTER, OUSTER.newbyteorder(">")])
def test_what_is_written_into_a_bag_is_read_again(tmp_path, kind):
    rng = np.random.default_rng(0)
    points = np.zeros((4, 16), kind)
    for name in ("x", "y", "z", "intensity"):
        points[name] = rng.normal(0, 20, (4, 16))
    points["t"] = rng.integers(0, 10**8, (4, 16))
    points["ring"] = np.arange(4)[:, None]
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_cloud("/points", points, STAMP_NS, "os_sensor")
        writer.write_cloud("/points", points[0, :0], STAMP_NS + 1, "os_sensor")
    with rosbags("highlevel").AnyReader([tmp_path / "bag"]) as reader:
        whole, empty = (reader.deserialize(m[2], m[0].msgtype) for m in reader.messages())
    assert (whole.height, whole.width, whole.point_step, whole.row_step) == (4, 16, 48, 768)
    have = cloud_from_message(whole, PointOptions(channels=6))
    flat = points.reshape(-1)
    for column, name in enumerate(("x", "y", "z", "intensity")):
        np.testing.assert_array_equal(have.points[:, column], flat[name].astype(np.float32))
    np.testing.assert_allclose(have.points[:, 4], flat["t"] / -1e9, atol=1e-8)
    np.testing.assert_array_equal(have.points[:, 5], flat["ring"])
    assert (have.stamp_ns, have.frame_id) == (STAMP_NS, "os_sensor")
    assert len(cloud_from_message(empty)) == 0
