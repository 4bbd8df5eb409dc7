# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs out of bags: as merge_clouds makes them, and as matrices say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_rig import (
    BASE,
    FRONT,
    MOVING,
    REAR,
    RIG,
    ROOF,
    SHORT,
    TIMES,
    both,
    held,
    in_base,
    merged,
    recorded,
    write_held,
    write_rig,
)
from helpers_sweeps import (
    KIND,
    ODOMETRY,
    stamp,
)

from av_compress.data.bag_clouds import CloudSource
from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_sources import bring_together
from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds
from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.points import PointOptions
from av_compress.data.sweeps import SweepMerger
from av_compress.errors import DataError, DataWarning, FrameError
from av_compress.tasks.base import PointCloud, Sweeps


def opened(
    path: Path,
    sweeps: Sweeps | None = None,
    merge: MergeOptions = BASE,
    topics: Sequence[str] = (FRONT, REAR),
    points: PointOptions | None = None,
    **motion: str,
) -> CloudSource:
    lidars = [BagClouds(path, topic, points) for topic in topics]
    options = MotionOptions(fixed_frame=merge.fixed_frame, **motion)
    return bring_together(path, lidars, sweeps or Sweeps(), options, merge)


@pytest.fixture(scope="module", params=["tf.mcap", "odometry.db3", "odometry"])
def drive(request, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    odometry = request.param.startswith("odometry")
    path = tmp_path_factory.mktemp("drive") / request.param
    write_rig(path, RIG, moving=MOVING, odometry=odometry)
    return path, {"odometry": ODOMETRY} if odometry else {}


def test_any_order_gives_what_merge_clouds_makes_of_the_messages(drive):
    path, motion = drive
    want = merged(path, *both(len(TIMES)))
    random = np.random.default_rng(0).permutation(len(TIMES))[:20]
    with warnings.catch_warnings(), closing(opened(path, **motion)) as source:
        warnings.simplefilter("error")
        assert len(source) == len(TIMES)
        assert source.description.endswith(f"topic {FRONT}, merged with {REAR} in base")
        for index in (*range(len(TIMES)), *range(0, len(TIMES), 7), *random, 7, 7):
            read = source.read(index)
            np.testing.assert_array_equal(read.points, want[index].points)
            assert (read.stamp_ns, read.frame_id) == (stamp(RIG["rear"][index]), "base")
            assert read.key == source.key(index) == f"{FRONT}#{index}"
    with pytest.raises(DataError, match="is closed"):
        source.read(0)
    for index in (-1, len(TIMES)):
        with pytest.raises(IndexError):
            source.read(index)


def test_points_stand_where_matrices_in_double_precision_put_them(drive):
    path, motion = drive
    with closing(opened(path, **motion)) as source:
        for index in (0, 1, 50, len(TIMES) - 1):
            read, begin, newest = source.read(index).points, 0, RIG["rear"][index]
            for name in ("front", "rear"):
                points = held(name, index)
                part = read[begin : begin + len(points)]
                begin += len(points)
                places = np.stack([points[axis] for axis in "xyz"], axis=1)
                want = in_base(name, places, RIG[name][index], newest)
                np.testing.assert_allclose(part[:, :3], want, atol=1e-4)
                np.testing.assert_array_equal(part[:, 3], points["intensity"])
            assert begin == len(read)


def test_times_count_from_the_newest_stamp(tmp_path: Path):
    kind = np.dtype([*KIND.descr[:4], ("time", "<f4")])

    def cloud(writer: BagWriter, name: str, index: int, second: float) -> None:
        points = held(name, index)
        timed = np.zeros(len(points), kind)
        for field in KIND.names[:4]:
            timed[field] = points[field]
        # Seconds after the stamp: ages are the other way round.
        timed["time"] = -0.01
        writer.write_cloud(f"/{name}/points", timed, stamp(second), name)

    path = write_rig(tmp_path / "bag", SHORT, cloud=cloud)
    with closing(opened(path, points=PointOptions(channels=5))) as source:
        times = source.read(3).points[:, 4]
    front = len(held("front", 3))
    np.testing.assert_allclose(times[:front], 0.04, atol=1e-6)
    np.testing.assert_allclose(times[front:], 0.01, atol=1e-6)


@pytest.mark.parametrize("sweeps", [Sweeps(2), Sweeps(4, 0.25), Sweeps(12, 10.0)])
def test_merged_clouds_are_brought_together_over_time(drive, sweeps: Sweeps):
    path, motion = drive
    _, transforms = recorded(path)
    merger = SweepMerger(sweeps, transforms)
    made = [merger.merge(one).cloud for one in merged(path, *both(len(TIMES)))]
    with closing(opened(path, sweeps, **motion)) as source:
        for index in (*range(len(TIMES)), 60, 3, 61, 61):
            read = source.read(index)
            np.testing.assert_array_equal(read.points, made[index].points)
            assert (read.stamp_ns, read.frame_id) == (stamp(RIG["rear"][index]), "base")


@pytest.mark.parametrize("count", [1, 3])
def test_reading_on_decodes_every_message_once(tmp_path: Path, count: int):
    path = write_rig(tmp_path / "bag", SHORT)
    decoded: list[str] = []

    class Counted(BagClouds):
        def _decode(self, index, message):
            decoded.append(self.key(index))
            return super()._decode(index, message)

    lidars = [Counted(path, topic) for topic in (FRONT, REAR)]
    source = bring_together(path, lidars, Sweeps(count), MotionOptions(), BASE)
    assert decoded == []
    for index in range(len(source)):
        source.read(index)
    assert decoded == [f"{topic}#{index}" for index in range(8) for topic in (FRONT, REAR)]
    decoded.clear()
    source.read(4)
    first = 4 - (count - 1)
    assert decoded == [f"{topic}#{i}" for i in range(first, 5) for topic in (FRONT, REAR)]
    source.close()


def test_the_first_lidar_leads_and_what_is_missing_is_told_once(tmp_path: Path):
    """The rear LiDAR lacks its third and fourth cloud, the front one its sixth."""
    rig = {"front": [*TIMES[:5], *TIMES[6:8]], "rear": [0.03, 0.13, 0.43, 0.53, 0.63, 0.73, 2.0]}
    path = write_rig(tmp_path / "bag", rig)
    with pytest.warns(DataWarning) as told:
        source = opened(path, merge=replace(BASE, max_apart_s=0.05))
    assert [str(one.message) for one in told] == [
        f"bag bag, topic {FRONT}, merged with {REAR} in base: of 7 clouds 5 hold 2, 2 hold 1 of 2 "
        f"LiDARs; 2 of {REAR} go with none of {FRONT}"
    ]
    together = [{FRONT: 0, REAR: 0}, {FRONT: 1, REAR: 1}, {FRONT: 2}, {FRONT: 3}]
    together += [{FRONT: 4, REAR: 2}, {FRONT: 5, REAR: 4}, {FRONT: 6, REAR: 5}]
    with closing(source), warnings.catch_warnings():
        warnings.simplefilter("error")
        for index, want in enumerate(merged(path, *together)):
            read = source.read(index)
            np.testing.assert_array_equal(read.points, want.points)
            assert read.stamp_ns == want.stamp_ns
    # Whoever leads decides which are left out.
    near = replace(BASE, max_apart_s=0.05)
    with pytest.warns(DataWarning, match=rf"of 7 clouds 5 hold 2, 2 hold 1 .*; 2 of {FRONT} go"):
        source = opened(path, merge=near, topics=(REAR, FRONT))
    with closing(source):
        assert source.key(3) == f"{REAR}#3"
        (want,) = merged(path, {REAR: 2, FRONT: 4})
        np.testing.assert_array_equal(source.read(2).points, want.points)


def test_three_lidars_in_the_order_of_their_names(tmp_path: Path):
    rig = {**SHORT, "roof": [0.09, 0.19, 0.29]}
    path = write_rig(tmp_path / "bag", rig)
    topics = (ROOF, FRONT, REAR)
    with pytest.warns(DataWarning) as told:
        source = opened(path, topics=topics)
    (warning,) = told
    assert "of 3 clouds 3 hold 3 of 3 LiDARs; 5 of /front/points go with none" in str(
        warning.message
    )
    together = [{ROOF: 0, FRONT: 1, REAR: 1}, {ROOF: 1, FRONT: 2, REAR: 2}]
    with closing(source):
        for index, want in enumerate(merged(path, *together)):
            np.testing.assert_array_equal(source.read(index).points, want.points)


def test_a_damaged_cloud_leaves_the_others_and_is_told(tmp_path: Path):
    def cloud(writer: BagWriter, name: str, index: int, second: float) -> None:
        if (name, index) in {("front", 2), ("rear", 4), ("front", 5), ("rear", 5), ("rear", 6)}:
            short = held(name, index)[["x", "y"]].copy()
            writer.write_cloud(f"/{name}/points", short, stamp(second), name)
        else:
            write_held(writer, name, index, second)

    path = write_rig(tmp_path / "bag", SHORT, cloud=cloud)
    clouds = dict(enumerate(both(8)))
    clouds |= {2: {REAR: 2}, 4: {FRONT: 4}, 6: {FRONT: 6}}
    del clouds[5]
    store: dict[int, PointCloud] = {}
    whole, transforms = recorded(write_rig(tmp_path / "whole", SHORT))
    for index, one in clouds.items():
        parts = {topic: whole[topic][number] for topic, number in one.items()}
        store[index] = merge_clouds(parts, BASE, transforms).cloud
    with closing(opened(path)) as source, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for index in (*range(8), 2, 4):
            if index == 5:
                with pytest.raises(FrameError, match=rf"{FRONT}#5: .* lacks the fields z"):
                    source.read(index)
                continue
            read = source.read(index)
            np.testing.assert_array_equal(read.points, store[index].points)
            assert read.stamp_ns == store[index].stamp_ns
    texts = [str(one.message) for one in told]
    assert len(texts) == 2
    for text, key in zip(texts, (f"{FRONT}#2", f"{REAR}#4")):
        assert f"a cloud of {key[:-2]} is left out" in text
        assert key in text
    # With sweeps: ages count from the stamps of what can be decoded, in whatever order it is read.
    merger = SweepMerger(Sweeps(3), transforms)
    made = {index: merger.merge(one).cloud for index, one in store.items()}
    for order in ((7, 4, *range(5), 6, 7), (6,), (4,)):
        with warnings.catch_warnings(), closing(opened(path, Sweeps(3))) as source:
            warnings.simplefilter("ignore", DataWarning)
            for index in order:
                np.testing.assert_array_equal(source.read(index).points, made[index].points)


def test_times_without_motion_are_merged_as_if_the_vehicle_stood_and_told(tmp_path: Path):
    path = write_rig(tmp_path / "bag", SHORT, moving=[0.0, 0.1, 0.2, 0.3, 0.4])
    with pytest.warns(DataWarning) as told:
        source = opened(path)
    (warning,) = told
    for words in (
        # At 0.43 s the motion is still continued.
        "3 of 8 clouds are merged as if the vehicle had stood still between the LiDARs' stamps",
        "no ego motion from 'odom' (source.fixed_frame) to 'base'",
        "known until 0.130 s before that time only",
        "record /tf",
    ):
        assert words in str(warning.message)
    with closing(source):
        for index, want in enumerate(merged(path, *both(8))):
            np.testing.assert_array_equal(source.read(index).points, want.points)
    # Who does not know the motion says so, and is not told.
    still = replace(BASE, fixed_frame="")
    with warnings.catch_warnings(), closing(opened(path, merge=still)) as source:
        warnings.simplefilter("error")
        for index, want in enumerate(merged(path, *both(8), merge=still)):
            np.testing.assert_array_equal(source.read(index).points, want.points)


def test_places_that_are_known_at_some_times_only_are_told(tmp_path: Path):
    """The rear LiDAR changes its frame to one that nothing tells of."""

    def cloud(writer: BagWriter, name: str, index: int, second: float) -> None:
        frame = "trailer" if (name, index >= 6) == ("rear", True) else name
        writer.write_cloud(f"/{name}/points", held(name, index), stamp(second), frame)

    path = write_rig(tmp_path / "bag", SHORT, cloud=cloud)
    with pytest.warns(DataWarning) as told:
        source = opened(path)
    (warning,) = told
    assert "of 8 clouds 6 hold 2, 2 hold 1 of 2 LiDARs; 2 of /rear/points have no place" in str(
        warning.message
    )
    assert "no transform connects 'trailer' with 'base'" in str(warning.message)
    with closing(source):
        for index, want in enumerate(merged(path, *both(8))):
            np.testing.assert_array_equal(source.read(index).points, want.points)
        assert len(source.read(7)) == len(held("front", 7))


def test_a_lidar_without_a_place_is_refused_with_what_to_record(tmp_path: Path):
    path = write_rig(tmp_path / "bag", SHORT, mounted=["front"])
    for topics in ((FRONT, REAR), (REAR, FRONT)):
        with pytest.raises(DataError) as caught:
            opened(path, topics=topics)
        for words in (
            f"the place of {REAR} ('rear') in 'base' (source.frame) is not known",
            "no transform connects 'rear' with 'base'",
            "record /tf_static",
        ):
            assert words in str(caught.value)


def test_clouds_that_are_never_near_are_refused(tmp_path: Path):
    rig = {"front": TIMES[:5], "rear": [2.0, 2.5, 3.0]}
    path = write_rig(tmp_path / "bag", rig)
    with pytest.raises(DataError) as caught:
        opened(path)
    for words in (
        f"none of the 3 clouds of {REAR} goes with one of {FRONT} within 0.1 s ",
        "(source.max_apart_s)",
        "the closest two are 1.600 s apart",
        "clocks synchronised?",
    ):
        assert words in str(caught.value)
    with pytest.warns(DataWarning, match="of 5 clouds 1 hold 2, 4 hold 1"):
        opened(path, merge=replace(BASE, max_apart_s=1.6)).close()
