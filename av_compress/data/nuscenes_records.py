# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Records of nuScenes' tables in columns: a hundred to two hundred bytes each, not a thousand.

The whole data set has more than a million annotations. A record becomes an object when it is asked
for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from av_compress.data.json_tables import Row
from av_compress.data.transforms import Transform
from av_compress.errors import DataError

_NS_PER_US = 1000
_NONE = -1


@dataclass(frozen=True, slots=True)
class Sweep:
    """A record of sample_data: one sweep of the LiDAR.

    Attributes:
        number: of the sweep in its table.
        sample: token of the sample that it is of, or the nearest to.
        file: of the points, relative to the data set's folder.
        frame_id: name of the sensor's frame, which is its channel.
        stamp_us: in microseconds since the epoch.
        mounting: from the sensor to the vehicle.
        pose: from the vehicle to the world.

    """

    number: int
    sample: str
    file: str
    frame_id: str
    stamp_us: int
    mounting: Transform
    pose: Transform

    @property
    def stamp_ns(self) -> int:
        """In nanoseconds since the epoch."""
        return self.stamp_us * _NS_PER_US


@dataclass(frozen=True, slots=True)
class Annotation:
    """A record of sample_annotation: an object in one sample, in the world.

    Attributes:
        number: of the annotation in its table.
        where: file and record, for messages.
        sample: token of the sample.
        category: such as `vehicle.car`.
        place: of the object, whose x axis is its heading.
        size: width, length and height in metres.
        seen: whether a LiDAR or a radar has a point in it.

    """

    number: int
    where: str
    sample: str
    category: str
    place: Transform
    size: Sequence[float]
    seen: bool


class Texts:
    """Texts one behind the other: what each takes is its length and 8 bytes."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Hold `texts`."""
        self._bytes, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one."""
        self._bytes += text.encode(errors="surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        """Count them."""
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        """Return one."""
        begin, end = self._ends[number : number + 2]
        return self._bytes[begin:end].decode(errors="surrogatepass")


class Links:
    """Tokens that records have and name; each is held once, whoever names it."""

    def __init__(self) -> None:
        """Begin without records."""
        self._numbers: dict[str, int] = {"": 0}
        self._records = array("i", [_NONE])
        self._own = array("i")
        self._texts = Texts()

    def number(self, token: str) -> int:
        """Return the number by which a token is known from now on; 0 is that of none."""
        found = self._numbers.setdefault(token, len(self._numbers))
        if found == len(self._records):
            self._records.append(_NONE)
        return found

    def add(self, row: Row) -> None:
        """Remember that the next record is that of `row`.

        Raises:
            DataError: there was one with that token.

        """
        number = self.number(row.text("token"))
        if self._records[number] != _NONE:
            raise DataError(f"{row.where} is there twice")
        self._records[number] = len(self._own)
        self._own.append(number)

    def seal(self) -> None:
        """Take no more records: from now on tokens cannot be looked up, but their numbers."""
        self._texts = Texts(self._numbers)
        self._numbers.clear()

    def record(self, number: int) -> int | None:
        """Return the record with the token of that number; None where there is none."""
        found = self._records[number]
        return None if found == _NONE else found

    def token(self, number: int) -> str:
        """Return the token of that number."""
        return self._texts[number]

    def own(self, record: int) -> str:
        """Return a record's token."""
        return self._texts[self._own[record]]


class Places:
    """Transforms in 56 bytes each."""

    def __init__(self) -> None:
        """Begin without one."""
        self._values = array("d")

    def __len__(self) -> int:
        """Count them."""
        return len(self._values) // 7

    def arranged(self, order: Sequence[int]) -> Places:
        """Return those of these numbers, in that order."""
        made = Places()
        for number in order:
            made._values.extend(self._values[7 * number : 7 * number + 7])
        return made

    def append(self, place: Transform) -> None:
        """Add one."""
        self._values.extend((*place.rotation, *place.translation))

    def __getitem__(self, number: int) -> Transform:
        """Return one, with the bits that it had."""
        values = np.array(self._values[7 * number : 7 * number + 7])
        return Transform(values[:4], values[4:])


class SweepTable:
    """The sweeps of one LiDAR."""

    def __init__(self, path: Path, channel: str, samples: Mapping[str, int]) -> None:
        """Begin without records.

        Args:
            path: of the table, for messages.
            channel: of the LiDAR.
            samples: token of a sample -> its number, in order.

        """
        self._path, self._channel = path, channel
        self._samples, self._numbers = tuple(samples), samples
        self._links, self._files = Links(), Texts()
        self._sample, self._previous = array("i"), array("i")
        self._stamps, self._keys = array("q"), array("b")
        self._mounting, self._pose = array("i"), array("i")
        self._mountings: Sequence[Transform] = ()
        self._poses = Places()

    def add(self, row: Row, mounting: int, pose: int) -> None:
        """Add a record; mounting and pose are told later, by these numbers.

        Raises:
            DataError: a value is missing or wrong.

        """
        self._links.add(row)
        self._sample.append(self._numbers[row.text("sample_token")])
        self._previous.append(self._links.number(row.text("prev")))
        self._files.append(row.text("filename"))
        self._stamps.append(row.stamp("timestamp"))
        self._keys.append(row.flag("is_key_frame"))
        self._mounting.append(mounting)
        self._pose.append(pose)

    def seal(self, mountings: Sequence[Transform], poses: Places) -> None:
        """Take no more records."""
        self._mountings, self._poses = mountings, poses
        self._links.seal()

    def __getitem__(self, number: int) -> Sweep:
        """Return a sweep."""
        return Sweep(
            number,
            self._samples[self._sample[number]],
            self._files[number],
            self._channel,
            self._stamps[number],
            self._mountings[self._mounting[number]],
            self._poses[self._pose[number]],
        )

    def key_frames(self, scenes: Mapping[str, str]) -> list[int]:
        """Return the numbers of labelled sweeps, scene after scene, each in the order of time.

        Args:
            scenes: token of a sample -> name of its scene.

        """

        def place(number: int) -> tuple[str, int]:
            return scenes[self._samples[self._sample[number]]], self._stamps[number]

        return sorted((n for n, is_key in enumerate(self._keys) if is_key), key=place)

    def before(self, sweep: Sweep) -> Iterator[Sweep]:
        """Yield the sweeps before one, the newest first, up to the scene's first.

        Raises:
            DataError: one is not in the table, or is not older.

        """
        while previous := self._previous[sweep.number]:
            number = self._links.record(previous)
            if number is None or self._stamps[number] >= sweep.stamp_us:
                fault = "is not in the table" if number is None else "is not older"
                token = self._links.token(previous)
                raise DataError(f"{self._path}: the sweep before {sweep.file}, {token!r}, {fault}")
            sweep = self[number]
            yield sweep


class AnnotationTable:
    """Objects, by sample."""

    def __init__(self, path: Path, categories: Sequence[str], samples: Mapping[str, int]) -> None:
        """Begin without records.

        Args:
            path: of the table, for messages.
            categories: that there are.
            samples: token of a sample -> its number, in order.

        """
        self._path, self._categories = path, categories
        self._samples, self._numbers = tuple(samples), samples
        self._links = Links()
        self._sample, self._category, self._seen = array("i"), array("h"), array("b")
        self._places, self._sizes = Places(), array("d")
        self._previous, self._next = array("i"), array("i")
        self._order: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._begins: npt.NDArray[np.int64] = np.zeros(1, np.int64)

    def add(self, row: Row, category: str) -> None:
        """Add a record.

        Raises:
            DataError: a value is missing or wrong.

        """
        size = row.numbers("size", 3)
        if min(size) <= 0:
            raise DataError(f"{row.where} has a size of {size}; metres over 0 are needed")
        self._links.add(row)
        self._sample.append(self._numbers[row.text("sample_token")])
        self._category.append(self._categories.index(category))
        self._places.append(row.transform())
        self._sizes.extend(size)
        self._seen.append(row.whole("num_lidar_pts") + row.whole("num_radar_pts") > 0)
        self._previous.append(self._links.number(row.text("prev")))
        self._next.append(self._links.number(row.text("next")))

    def seal(self) -> None:
        """Take no more records."""
        self._links.seal()
        samples = np.array(self._sample, np.int64)
        self._order = np.argsort(samples, kind="stable")
        self._begins = np.searchsorted(samples[self._order], np.arange(len(self._samples) + 1))

    def of_sample(self, token: str) -> list[Annotation]:
        """Return the annotations of a sample, in the table's order."""
        number = self._numbers[token]
        begin, end = self._begins[number : number + 2]
        return [self[int(one)] for one in self._order[begin:end]]

    def __getitem__(self, number: int) -> Annotation:
        """Return an annotation."""
        return Annotation(
            number,
            f"{self._path}: record {self._links.own(number)}",
            self._samples[self._sample[number]],
            self._categories[self._category[number]],
            self._places[number],
            tuple(self._sizes[3 * number : 3 * number + 3]),
            bool(self._seen[number]),
        )

    def neighbours(self, annotation: Annotation) -> list[Annotation | None]:
        """Return the same object's annotations before and after; None where there is none.

        Raises:
            DataError: one is named that the table lacks.

        """
        return [self._linked(annotation, column) for column in (self._previous, self._next)]

    def _linked(self, annotation: Annotation, column: Sequence[int]) -> Annotation | None:
        link = column[annotation.number]
        if not link:
            return None
        number = self._links.record(link)
        if number is None:
            token = self._links.token(link)
            raise DataError(
                f"{annotation.where} names {token!r} as its neighbour, which the table lacks"
            )
        return self[number]
