# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs out of bags: as merge_clouds makes them, and as matrices say."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_data import frames
from helpers_lidar_node import TASK, cell_detector, write_cell_bundle
from helpers_rig import (
    FRONT,
    REAR,
    ROOF,
    held,
    in_base,
    recorded,
    seen,
    write_held,
    write_rig,
)
from helpers_sweeps import (
    KIND,
    ODOMETRY,
    START_NS,
    age_detector,
    messages,
    stamp,
    write_age_bundle,
)
from helpers_sweeps import TASK as AGE_TASK

from av_compress.build.recipe import load_recipe
from av_compress.build.samples import open_samples
from av_compress.cli.main import main
from av_compress.data.bag_clouds import CloudSource
from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_sources import bring_together
from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds
from av_compress.data.images import stamp_of
from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.points import PointOptions
from av_compress.data.sources import open_source
from av_compress.data.sweeps import SweepMerger
from av_compress.errors import ConfigError, DataError, DataWarning, FrameError
from av_compress.tasks.base import IMAGES, PointCloud, Sweeps
from av_compress.tasks.registry import make_task
from av_compress.validation import load_schema

NEEDS = make_task(AGE_TASK).frame_needs
SINGLE = replace(NEEDS, columns=NEEDS.columns[:4], sweeps=Sweeps())
BASE = MergeOptions("base")
# 10 Hz, for longer than a node remembers transforms; the rear LiDAR comes 30 ms later.
TIMES = [round(0.1 * n, 2) for n in range(110)]
RIG = {"front": TIMES, "rear": [round(one + 0.03, 2) for one in TIMES]}
MOVING = tuple(n / 10 for n in range(112))
SHORT = {name: times[:8] for name, times in RIG.items()}


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


def merged(path: Path, *together: dict[str, int], merge: MergeOptions = BASE) -> list[PointCloud]:
    """Return what merge_clouds makes of clouds that are named: topic -> number."""
    clouds, transforms = recorded(path)
    return [
        merge_clouds({t: clouds[t][i] for t, i in one.items()}, merge, transforms).cloud
        for one in together
    ]


def both(count: int) -> list[dict[str, int]]:
    return [{FRONT: index, REAR: index} for index in range(count)]


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
        "no ego motion from 'odom' (fixed_frame) to 'base'",
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
            f"the place of {REAR} ('rear') in 'base' (frame) is not known",
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
        f"none of the 3 clouds of {REAR} goes with one of {FRONT} within 0.1 s (max_apart_s)",
        "the closest two are 1.600 s apart",
        "clocks synchronised?",
    ):
        assert words in str(caught.value)
    with pytest.warns(DataWarning, match="of 5 clouds 1 hold 2, 4 hold 1"):
        opened(path, merge=replace(BASE, max_apart_s=1.6)).close()


def source_config(**more: object) -> dict[str, object]:
    config = {"type": "bag", "path": "bag", "topics": [FRONT, REAR], "frame": "base", **more}
    return {key: value for key, value in config.items() if value is not None}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"frame": None}, r"source\.frame: is missing: .* such as base_link"),
        ({"topics": [FRONT]}, r"source: topics: \[.*\] is not allowed; allowed: .* 2 items"),
        ({"topics": [FRONT, FRONT]}, r"source: topics: .* allowed: items that differ"),
        ({"topics": None}, r"source\.frame: goes with .* several LiDARs \(topics\)"),
        ({"topics": None, "frame": None, "max_apart_s": 1}, r"source\.max_apart_s: goes with"),
        ({"topic": FRONT}, r"source\.topic: goes with one topic"),
        ({"max_apart_s": -0.1}, r"source: max_apart_s: -0\.1 is not allowed"),
        ({"topics": None, "frame": None, "odometry": ODOMETRY}, r"point clouds of one$"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path: Path, more, says):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(ConfigError, match=says):
        open_source(source_config(**more), tmp_path, SINGLE)


def test_defaults_are_the_nodes():
    variants = load_schema("source")["allOf"]
    (bag,) = (
        one["then"]["properties"] for one in variants if "topics" in one["then"]["properties"]
    )
    node = load_schema("lidar_detector")["$defs"]["parameters"]["properties"]
    apart_ms = node["merge"]["properties"]["max_apart_ms"]["default"]
    assert bag["max_apart_s"]["default"] == BASE.max_apart_s == apart_ms / 1000
    fixed = node["motion"]["properties"]["fixed_frame"]["default"]
    assert (
        bag["fixed_frame"]["default"] == BASE.fixed_frame == MotionOptions().fixed_frame == fixed
    )


def test_what_does_not_go_with_the_task_is_refused(tmp_path: Path):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(ConfigError, match=r"source\.topics: .*, the task takes images"):
        open_source(source_config(), tmp_path, IMAGES)
    with pytest.raises(ConfigError, match=r"source\.fixed_frame: is empty, .* 3 sweeps together"):
        open_source(source_config(fixed_frame=""), tmp_path, NEEDS)
    open_source(source_config(fixed_frame=""), tmp_path, SINGLE).close()


def test_topics_that_are_no_clouds_are_refused_by_name(tmp_path: Path):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(DataError, match=rf"has no topic /side; it has: {FRONT} .*{REAR} "):
        open_source(source_config(topics=[FRONT, "/side"]), tmp_path, SINGLE)
    with pytest.raises(DataError, match=r"topic /tf of bag .* is no point cloud"):
        open_source(source_config(topics=[FRONT, "/tf"]), tmp_path, SINGLE)
    with pytest.raises(DataError, match=r"no messages of type nav_msgs/Odometry on /odom"):
        open_source(source_config(odometry="/odom"), tmp_path, SINGLE)
    with BagWriter(tmp_path / "pictures") as writer:
        writer.write_image("/camera", frames(1)[0])
    with pytest.raises(DataError, match=rf"has no topic {FRONT}"):
        open_source(source_config(path="pictures"), tmp_path, SINGLE)


@pytest.mark.parametrize("task", [TASK, AGE_TASK], ids=["one sweep", "three sweeps"])
def test_a_build_calibrates_on_what_is_served(tmp_path: Path, task):
    path = write_rig(tmp_path / "bag", RIG, moving=MOVING, odometry=True)
    (tmp_path / "model.onnx").write_bytes(cell_detector() if task is TASK else age_detector())
    source = source_config(odometry=ODOMETRY, max_apart_s=0.05)
    calibration = {"source": source, "samples": 6}
    content = {"model": "model.onnx", "task": task, "calibration": calibration, "gate": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    needs = make_task(task).frame_needs
    _, transforms = recorded(path)
    want = merged(path, *both(len(TIMES)))
    if needs.sweeps.several:
        merger = SweepMerger(needs.sweeps, transforms)
        want = [merger.merge(one).cloud for one in want]
    with ExitStack() as stack:
        samples = open_samples(load_recipe(tmp_path / "recipe.yaml"), needs, stack).calibration
        found = list(samples.frames("test"))
        assert len(found) == 6
        for index, frame in zip(samples.indices, found):
            columns = frame.points.shape[1]
            np.testing.assert_array_equal(frame.points, want[index].points[:, :columns])


# In the vehicle's frame, in the middles of cells of 1 m.
THINGS = {"front": (8.5, 2.5, 0.0), "rear": (3.5, -4.5, 0.0)}


def write_things(path: Path) -> Path:
    """Write a drive past things that each LiDAR sees one of; both see a third.

    They are where they are at the time of the newest cloud, which is the rear LiDAR's; its fourth
    is lost.
    """

    def cloud(writer: BagWriter, name: str, index: int, second: float) -> None:
        alone = name == "front" and index == 3
        newest = second + 0.03 * (name == "front" and not alone)
        points = np.zeros(126, KIND)
        for place, part in zip((THINGS[name], (12.5, 0.5, 0.0)), np.split(points, 2)):
            part["x"], part["y"], part["z"] = seen(name, place, second, newest)
        writer.write_cloud(f"/{name}/points", points, stamp(second), name)

    rear = [one for one in SHORT["rear"] if one != 0.33]
    return write_rig(path, {"front": SHORT["front"], "rear": rear}, cloud=cloud, odometry=True)


def test_a_replay_detects_in_the_vehicles_frame_what_any_lidar_sees(tmp_path: Path, capsys):
    path = write_things(tmp_path / "bag")
    bundle = write_cell_bundle(tmp_path / "bundle")
    command = ["replay", str(path), "--bundle", str(bundle), "--output", str(tmp_path / "out")]
    command += ["--reference", str(bundle), "--topic", FRONT, "--topic", REAR, "--frame", "base"]
    assert main([*command, "--odometry", ODOMETRY, "--max-apart-s", "0.05"]) == 0
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("av-compress replay: warning: bag bag")
    assert "of 8 clouds 7 hold 2, 1 hold 1 of 2 LiDARs" in told
    found = [one for topic, one in messages(tmp_path / "out") if topic == f"{FRONT}/detections"]
    assert len(found) == 8
    # The recorder writes messages a millisecond apart: the later of two is the rear LiDAR's.
    for index, one in enumerate(found):
        assert one.header.frame_id == "base"
        second = 0.1 * index + (0.0 if index == 3 else 0.03)
        assert stamp_of(one.header) == stamp(second)
        centers = {
            (round(hit.bbox.center.position.x, 4), round(hit.bbox.center.position.y, 4))
            for hit in one.detections
        }
        # The front LiDAR's clouds that are alone see what it sees.
        want = {THINGS["front"][:2], (12.5, 0.5)} | ({THINGS["rear"][:2]} if index != 3 else set())
        assert centers == want
    times = bag_times(tmp_path / "out", f"{FRONT}/detections")
    rears = bag_times(path, REAR)
    assert [one for index, one in enumerate(times) if index != 3] == rears
    assert times[3] == bag_times(path, FRONT)[3]
    assert min(times) > START_NS


def bag_times(path: Path, topic: str) -> list[int]:
    from av_compress.data.ros_types import rosbags

    with rosbags("rosbag2").Reader(path) as reader:
        return [time for one, time, _ in reader.messages() if one.topic == topic]


def test_a_replay_brings_merged_clouds_together_over_time(tmp_path: Path, capsys):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = write_age_bundle(tmp_path / "bundle")
    command = ["replay", str(path), "--bundle", str(bundle), "--output", str(tmp_path / "out")]
    assert main([*command, "--topic", FRONT, "--topic", REAR, "--frame", "base"]) == 0
    assert capsys.readouterr().err == ""
    _, transforms = recorded(path)
    merger = SweepMerger(NEEDS.sweeps, transforms)
    made = [merger.merge(one).cloud for one in merged(path, *both(8))]
    found = [one for topic, one in messages(tmp_path / "out") if topic == f"{FRONT}/detections"]
    for one, cloud in zip(found, made, strict=True):
        inside = (np.abs(cloud.points[:, :2]) < 32).all(1) & (np.abs(cloud.points[:, 2]) < 4)
        oldest: dict[tuple[float, float], float] = {}
        for x, y, _, _, age in cloud.points[inside]:
            cell = (np.floor(x) + 0.5, np.floor(y) + 0.5)
            oldest[cell] = max(oldest.get(cell, 0.0), age)
        scores = {
            (hit.bbox.center.position.x, hit.bbox.center.position.y): (
                hit.results[0].hypothesis.score
            )
            for hit in one.detections
        }
        assert scores == pytest.approx({cell: age for cell, age in oldest.items() if age > 0.05})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--topic", FRONT, "--topic", REAR], "source.frame: is missing"),
        (["--topic", FRONT, "--topic", FRONT, "--frame", "base"], f"twice: {FRONT}, {FRONT}"),
        (["--topic", FRONT, "--frame", "base"], "source.frame: goes with"),
        (["--topic", FRONT, "--topic", "/side", "--frame", "base"], "has no topic /side"),
        (
            ["--topic", FRONT, "--topic", REAR, "--frame", "base", "--max-apart-s", "nan"],
            "max_apart_s is nan; allowed",
        ),
        (["--topic", FRONT, "--topic", REAR, "--frame", "map"], f"the place of {FRONT} ('front')"),
    ],
)
def test_a_replay_refuses_in_one_line(tmp_path: Path, capsys, options, says):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = write_cell_bundle(tmp_path / "bundle")
    assert main(["replay", str(path), "--bundle", str(bundle), *options]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_other_verbs_read_merged_clouds_of_bags_alone(tmp_path: Path, capsys):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = str(write_cell_bundle(tmp_path / "bundle"))
    merge = ["--topic", FRONT, "--topic", REAR, "--frame", "base"]
    command = ["benchmark", bundle, "--iterations", "2", "--seconds", "0", "--data"]
    assert main([*command, str(path), *merge]) == 0
    capsys.readouterr()
    for option, value in (("--frame", "base"), ("--max-apart-s", "0.1")):
        assert main([*command, str(tmp_path / "bundle"), option, value]) == 2
        assert f"{option} goes with a bag (--data BAG)" in capsys.readouterr().err
