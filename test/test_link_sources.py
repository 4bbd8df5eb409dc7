# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whose word on a frame counts: that of the source that told it first, until it is silent."""

from __future__ import annotations

import math
from types import SimpleNamespace as Message

import pytest

from av_compress.data.motion_messages import MotionMessages
from av_compress.data.transforms import NoTransformError, Transforms

S = 1_000_000_000
ODOMETRY = "/wheels/odometry"


def header(parent: str, second: float) -> Message:
    sec, nanosec = divmod(round(second * S), S)
    return Message(frame_id=parent, stamp=Message(sec=sec, nanosec=nanosec))


TURN = Message(x=0.0, y=0.0, z=0.0, w=1.0)


class Heard:
    """Messages of tf and odometry that tell of `base` along x, and what is made of them."""

    def __init__(self) -> None:
        self.tree, self.told = Transforms(), []
        self.messages = MotionMessages(self.tree, ODOMETRY, self.told.append, self.told.append)

    def tf(self, second: float, x: float, parent: str = "odom", child: str = "base") -> None:
        self.messages.tf(self._transform(second, x, parent, child))

    def static(self, second: float, x: float, parent: str = "odom", child: str = "base") -> None:
        self.messages.tf_static(self._transform(second, x, parent, child))

    def odometry(self, second: float, x: float, parent: str = "odom") -> None:
        pose = Message(position=Message(x=x, y=0.0, z=0.0), orientation=TURN)
        self.messages.odometry(
            Message(header=header(parent, second), child_frame_id="base", pose=Message(pose=pose))
        )

    def x(self, second: float, parent: str = "odom") -> float:
        return float(self.tree.lookup(parent, "base", round(second * S)).translation[0])

    def _transform(self, second: float, x: float, parent: str, child: str) -> Message:
        transform = Message(translation=Message(x=x, y=0.0, z=0.0), rotation=TURN)
        one = Message(header=header(parent, second), child_frame_id=child, transform=transform)
        return Message(transforms=[one])


def test_two_sources_of_one_frame_are_not_mixed():
    heard = Heard()
    for number in range(1, 200):
        second = number / 50
        heard.tf(second, 10 * second)
        heard.odometry(second + 0.005, 10 * second + 3.05)
    for second in (1.0, 1.105, 2.013, 3.98):
        assert heard.x(second) == pytest.approx(10 * second)
    (told,) = heard.told
    assert told == (
        f"frame 'base' is told by /tf in 'odom' and by {ODOMETRY} in 'odom'; the second is left "
        "out until the first has been silent for 1 s: stop one of the two, or remap it"
    )


@pytest.mark.parametrize("odometry", [True, False])
def test_two_parents_of_one_frame_do_not_void_each_other(odometry: bool):
    """Be it by two topics or by two nodes on /tf."""
    heard = Heard()
    for number in range(1, 200):
        second = number / 50
        (heard.odometry if odometry else heard.tf)(second, 10 * second)
        heard.tf(second, 5 * second, parent="map")
        heard.tf(second, second, parent="base", child="wheel")
    assert [heard.x(second) for second in (0.5, 2.0)] == [5.0, 20.0]
    with pytest.raises(NoTransformError):
        heard.x(1.0, "map")
    (told,) = heard.told
    first = ODOMETRY if odometry else "/tf"
    assert f"by {first} in 'odom' and by /tf in 'map'; the second is left out" in told


def test_a_silent_source_is_followed_by_the_other_and_nothing_lies_between():
    heard = Heard()
    for number in range(1, 101):
        heard.tf(number / 50, number / 5)
        heard.odometry(number / 50, 100 + number / 5)
    # The last of /tf was at 2 s.
    for second in (2.5, 3.0):
        heard.odometry(second, 100 + 10 * second)
        with pytest.raises(NoTransformError):
            heard.x(second)
    assert heard.x(1.99) == pytest.approx(19.9)
    for second in (3.01, 3.5):
        heard.odometry(second, 100 + 10 * second)
    assert heard.x(3.25) == pytest.approx(132.5)
    with pytest.raises(NoTransformError):
        heard.x(2.5)
    # Now it is the other's, and the first is the one that is left out.
    heard.tf(3.5, 35)
    assert heard.x(3.5) == pytest.approx(135)
    assert len(heard.told) == 2
    assert f"by {ODOMETRY} in 'odom' and by /tf in 'odom'" in heard.told[1]


def test_silence_is_measured_where_time_began_anew_too():
    heard = Heard()
    heard.tf(100.0, 1)
    for number in range(51):
        heard.odometry(number / 50, 5)
        with pytest.raises(NoTransformError):
            heard.x(number / 50)
    heard.odometry(1.02, 5)
    assert heard.x(1.02) == 5


def test_clocks_that_are_apart_silence_nobody():
    heard = Heard()
    for number in range(500):
        heard.tf(100 + number / 50, 1)
        heard.odometry(number / 50, 5)
    assert heard.x(109.98) == 1
    assert len(heard.told) == 1


def test_what_is_static_does_not_move():
    heard = Heard()
    heard.static(0.0, 2)
    for second in (1.0, 2.0, 9.0):
        heard.tf(second, second)
    assert heard.x(5.0) == 2
    (told,) = heard.told
    assert told == (
        "frame 'base' is told by /tf_static in 'odom' and by /tf in 'odom'; the second is left "
        "out: stop one of the two, or remap it"
    )
    # The same source may say it anew.
    heard.static(3.0, 4)
    assert heard.x(5.0) == 4
    heard.static(3.0, 8, parent="map")
    assert heard.x(5.0) == 4
    assert "by /tf_static in 'odom' and by /tf_static in 'map'" in heard.told[1]


def test_what_moves_is_not_static_while_it_moves():
    heard = Heard()
    heard.tf(1.0, 1)
    heard.static(1.5, 7)
    heard.tf(2.0, 2)
    assert heard.x(1.5) == 1.5
    assert "by /tf in 'odom' and by /tf_static in 'odom'" in heard.told[0]
    heard.static(3.1, 7)
    assert [heard.x(second) for second in (1.5, 9.0)] == [7, 7]


def test_a_transform_that_is_none_makes_no_source():
    heard = Heard()
    heard.tf(1.0, math.nan)
    heard.odometry(1.0, 5)
    assert heard.x(1.0) == 5
    assert len(heard.told) == 1


def test_who_forgets_hears_whoever_comes_first():
    heard = Heard()
    heard.tf(1.0, 1)
    heard.odometry(1.0, 5)
    heard.tree.clear()
    heard.messages.forget()
    heard.odometry(1.0, 5)
    heard.tf(1.0, 1)
    assert heard.x(1.0) == 5
    assert len(heard.told) == 2
