# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Damaged folders in nuScenes' layout: every fault by file, record and key."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from pathlib import Path

import pytest
from helpers_nuscenes import VERSION, change, drive, write_nuscenes
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data import json_tables
from av_compress.data.nuscenes import CATEGORIES, NuscenesFolder
from av_compress.data.nuscenes_tables import any_sweep, read_tables
from av_compress.errors import DataError, FrameError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenes = {"scene-0002": drive(3), "scene-0001": drive(2)}
    return write_nuscenes(tmp_path / "sets", scenes)


@pytest.mark.parametrize(
    ("previous", "words"), [("gone", "'gone', is not in"), ("scene-0002 2 lidar key", "not older")]
)
def test_a_chain_of_sweeps_that_breaks_is_told(folder, previous, words):
    change(folder, "sample_data", "scene-0002 2 lidar sweep", prev=previous)
    tables = read_tables(folder / VERSION, "LIDAR_TOP", tuple(CATEGORIES), None, any_sweep)
    with pytest.raises(DataError, match=f"sample_data.json: the sweep before .*{words}"):
        list(tables.sweeps.before(tables.sweeps[tables.key_frames()[-1]]))


def test_a_version_is_named_where_there_are_several(folder):
    shutil.copytree(folder / VERSION, folder / "v1.0-trainval")
    with pytest.raises(DataError, match=r"several versions: v1.0-mini, v1.0-trainval; name one"):
        NuscenesFolder(folder)
    assert len(NuscenesFolder(folder, "v1.0-trainval")) == 5
    with pytest.raises(DataError, match=r"v2/scene.json cannot be read: No such file"):
        NuscenesFolder(folder, "v2")


def test_another_folder_is_none_of_nuscenes(tmp_path):
    with pytest.raises(DataError, match=r"is not a nuScenes folder: no folder .* sample.json"):
        NuscenesFolder(tmp_path)


def test_another_channel_is_refused_with_those_that_are_there(folder):
    with pytest.raises(DataError, match="no channel 'LIDAR'; it has CAM_FRONT, LIDAR_TOP"):
        NuscenesFolder(folder, channel="LIDAR")


@pytest.mark.parametrize(
    "table",
    [
        "scene",
        "sample",
        "sample_data",
        "calibrated_sensor",
        "sensor",
        "ego_pose",
        "sample_annotation",
        "instance",
        "category",
    ],
)
def test_a_missing_or_broken_table_is_named(folder, table):
    path = folder / VERSION / f"{table}.json"
    whole = path.read_text()
    for content, words in (
        ("", r"is no list in JSON: Expecting '\['"),
        ("{}", r"is no list in JSON: Expecting '\['"),
        ("[1]", "record #1 is no object"),
        ("[{}]", "record #1 lacks"),
        (whole[:-2], "is no list in JSON: Unterminated|is no list in JSON: Expecting"),
        (whole.replace("},", "}", 1), "is no list in JSON: Expecting ',' delimiter"),
        (whole + "[]", "is no list in JSON: Extra data"),
        (whole.replace('"token"', "token", 1), "is no list in JSON: Expecting property name"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=rf"{table}\.json:? {words}"):
            NuscenesFolder(folder)
    path.write_bytes(b"[\xff]")
    with pytest.raises(DataError, match=rf"table .*{table}\.json is no list in JSON: .*utf-8"):
        NuscenesFolder(folder)
    path.unlink()
    # Without samples it is none at all.
    missing = "no folder" if table == "sample" else rf"{table}\.json cannot be read: No such"
    with pytest.raises(DataError, match=missing):
        NuscenesFolder(folder)


@pytest.mark.parametrize(
    ("table", "token", "key"),
    [
        ("scene", "token of scene-0001", "name"),
        ("sample", "scene-0001 1", "scene_token"),
        ("sample", "scene-0001 1", "timestamp"),
        ("sensor", "camera", "channel"),
        ("calibrated_sensor", "lidar set", "rotation"),
        ("calibrated_sensor", "lidar set", "sensor_token"),
        ("sample_data", "scene-0001 0 camera key", "calibrated_sensor_token"),
        ("sample_data", "scene-0001 0 lidar key", "sample_token"),
        ("sample_data", "scene-0001 0 lidar key", "ego_pose_token"),
        ("sample_data", "scene-0001 0 lidar key", "is_key_frame"),
        ("sample_data", "scene-0001 0 lidar key", "filename"),
        ("sample_data", "scene-0001 0 lidar key", "timestamp"),
        ("sample_data", "scene-0001 0 lidar key", "prev"),
        ("ego_pose", "pose of scene-0001 0 lidar key", "translation"),
        ("category", "kind animal", "name"),
        ("instance", "scene-0001 moving", "category_token"),
        ("sample_annotation", "scene-0001 1: moving", "instance_token"),
        ("sample_annotation", "scene-0001 1: moving", "sample_token"),
        ("sample_annotation", "scene-0001 1: moving", "size"),
        ("sample_annotation", "scene-0001 1: moving", "rotation"),
        ("sample_annotation", "scene-0001 1: moving", "num_radar_pts"),
        ("sample_annotation", "scene-0001 1: moving", "next"),
    ],
)
def test_a_key_that_is_missing_or_no_such_value_is_named(folder, table, token, key):
    change(folder, table, token, **{key: ...})
    with pytest.raises(DataError, match=rf"{table}\.json: record {token} lacks '{key}'"):
        NuscenesFolder(folder)
    path = folder / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row.setdefault(key, [None])
    path.write_text(json.dumps(rows))
    with pytest.raises(
        DataError, match=rf"{table}\.json: record {token} has {key} \[None\]; .* is needed"
    ):
        NuscenesFolder(folder)


@pytest.mark.parametrize(
    ("table", "token", "key", "other"),
    [
        ("sample", "scene-0001 1", "scene_token", "scene"),
        ("calibrated_sensor", "camera set", "sensor_token", "sensor"),
        ("sample_data", "scene-0001 0 camera key", "calibrated_sensor_token", "calibrated_sensor"),
        ("sample_data", "scene-0001 0 lidar key", "sample_token", "sample"),
        ("sample_data", "scene-0001 0 lidar key", "ego_pose_token", "ego_pose"),
        ("instance", "scene-0001 moving", "category_token", "category"),
        ("sample_annotation", "scene-0001 1: dog", "instance_token", "instance"),
        ("sample_annotation", "scene-0001 1: dog", "sample_token", "sample"),
    ],
)
def test_a_token_that_leads_nowhere_is_named(folder, table, token, key, other):
    change(folder, table, token, **{key: "gone"})
    words = rf"{table}\.json: record {token} has {key} 'gone', which is not in {other}\.json"
    with pytest.raises(DataError, match=words):
        NuscenesFolder(folder)


@pytest.mark.parametrize(
    ("table", "token", "changes", "words"),
    [
        ("ego_pose", "pose of scene-0001 0 lidar key", {"rotation": [0, 0, 0, 0]}, "other than 0"),
        ("ego_pose", "pose of scene-0001 0 lidar key", {"rotation": [1, 0, 0]}, "of 4 finite"),
        ("calibrated_sensor", "lidar set", {"translation": [0, 0, math.nan]}, "of 3 finite"),
        ("calibrated_sensor", "lidar set", {"translation": [0, 0, 10**400]}, "of 3 finite"),
        ("calibrated_sensor", "lidar set", {"translation": [0, True, 0]}, "of 3 finite"),
        ("sample_data", "scene-0001 0 lidar key", {"timestamp": 1 << 63}, "a time is needed"),
        ("sample_annotation", "scene-0001 1: moving", {"size": [2, 0, 1]}, "metres over 0"),
        ("sample_annotation", "scene-0001 1: moving", {"num_lidar_pts": -1}, "whole number"),
        ("sample_annotation", "scene-0001 1: moving", {"num_lidar_pts": True}, "whole number"),
    ],
)
def test_a_record_that_cannot_be_is_named(folder, table, token, changes, words):
    change(folder, table, token, **changes)
    with pytest.raises(DataError, match=rf"{table}\.json: record {token} has .*{words}"):
        NuscenesFolder(folder)


@pytest.mark.parametrize("table", ["sample_data", "sample_annotation"])
def test_a_token_that_two_records_have_is_named(folder, table):
    path = folder / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, rows[1]]))
    with pytest.raises(DataError, match=rf"{table}\.json: record .* is there twice"):
        NuscenesFolder(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"next": "gone"}, "names 'gone' as its neighbour"),
        ({"prev": "scene-0002 2: moving"}, "does not lie between"),
        ({"next": "scene-0002 1: moving"}, "does not lie between"),
    ],
)
def test_a_neighbour_that_is_none_is_named(folder, changes, words):
    change(folder, "sample_annotation", "scene-0002 1: moving", **changes)
    source = NuscenesFolder(folder)
    with pytest.raises(DataError, match=rf"sample_annotation\.json: record .*1: moving {words}"):
        source.labels(3)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=5),
    st.sampled_from([None, 0, 3]),
    st.text(" \n", max_size=4),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_table_is_read_piece_by_piece(records, indent, spaces, chunk, ascii_only):
    text = spaces + json.dumps(records, indent=indent, ensure_ascii=ascii_only) + spaces
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_tables, "_CHUNK", chunk)
        folder = Path(temporary)
        (folder / "t.json").write_text(text, encoding="utf-8")
        rows = list(json_tables.read_table(folder, "t"))
        assert [row.content for row in rows] == records
        assert [row.number for row in rows] == list(range(1, len(records) + 1))
        whole = text.rstrip()
        for broken in (whole + "1", whole[:-1], whole.replace("[", "", 1), whole[:-1] + ",]"):
            (folder / "t.json").write_text(broken, encoding="utf-8")
            with pytest.raises(DataError, match=r"is no list in JSON|is no object"):
                list(json_tables.read_table(folder, "t"))


def test_a_damaged_place_is_told(folder):
    path = folder / VERSION / "sample.json"
    text = '[{"token": "' + "x" * 3_000_000 + '"}, {"token" 1}]'
    path.write_text(text)
    with pytest.raises(DataError, match=rf"Expecting ':' .* \(character {text.index('1}')}\)"):
        list(json_tables.read_table(path.parent, "sample"))


def test_a_folder_without_key_frames_is_refused(folder):
    path = folder / VERSION / "sample_data.json"
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(DataError, match=r"v1.0-mini has no key frame of the channel LIDAR_TOP"):
        NuscenesFolder(folder)
    path.write_text(" [ ] ")
    with pytest.raises(DataError, match="has no key frame"):
        NuscenesFolder(folder)


def test_clouds_that_are_not_there_or_damaged_are_named(folder):
    source = NuscenesFolder(folder)
    path = folder / source.key(1)
    path.write_bytes(b"\0" * 33)
    with pytest.raises(FrameError, match=r"0001-1.pcd.bin is damaged: 33 bytes .* 20 bytes"):
        source.read(1)
    path.unlink()
    with pytest.raises(
        DataError, match="1 of 5 clouds are not there: samples/LIDAR_TOP/scene-0001-1"
    ):
        NuscenesFolder(folder)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        source.read(1)
