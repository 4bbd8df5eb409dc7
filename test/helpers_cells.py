# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every layout of outputs that is decoded cell by cell, with its rows written out apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from helpers_task import make

from av_compress.tensors import TensorSpec

CLASSES = 3
ANCHORS = [[[10, 13], [16, 30]], [[30, 61], [62, 45], [9, 20]], [[59, 119]]]
CELLS = [(12, 8), (6, 4), (3, 2)]
TOTAL = sum(columns * rows for columns, rows in CELLS)
BOXES = 37


@dataclass(frozen=True)
class Layout:
    """A head, the shapes of its outputs, and which cell each value belongs to.

    `rows` turns one image's outputs into every cell's row, [cells, channels].
    """

    name: str
    head: dict
    shapes: dict[str, tuple[int, ...]]
    rows: Callable[[dict[str, np.ndarray]], np.ndarray]

    def task(self, **changes):
        multi_label = changes.pop("multi_label", False)
        return make({**self.head, "multi_label": multi_label}, **changes)

    def specs(self, dtype=np.float32, batch: int | None = 1):
        return [
            TensorSpec(name, (batch, *shape[1:]) if shape[0] == 1 else shape, np.dtype(dtype))
            for name, shape in self.shapes.items()
        ]


def flat_maps(outputs):
    """[1, channels, h, w] each, one after the other, as [cells, channels]."""
    return np.concatenate([array[0].reshape(array.shape[1], -1).T for array in outputs.values()])


def anchored_maps(outputs):
    parts = []
    for anchors, array in zip(ANCHORS, outputs.values()):
        split = np.split(array[0], len(anchors))
        parts += [part.reshape(len(part), -1).T for part in split]
    return np.concatenate(parts)


def grids(outputs):
    return np.concatenate([array.reshape(-1, 5 + CLASSES) for array in outputs.values()])


def shared_first(outputs):
    """Regressions and objectness of each anchor, with the classes of its place."""
    parts = []
    for anchors, array in zip(ANCHORS[1:], outputs.values()):
        flat, count = array[0].reshape(array.shape[1], -1), len(anchors)
        for anchor in range(count):
            own = flat[4 * anchor : 4 * anchor + 4], flat[4 * count + anchor][None]
            parts.append(np.concatenate([*own, flat[5 * count :]]).T)
    return np.concatenate(parts)


def shared_last(outputs):
    return shared_first({name: np.moveaxis(a, -1, 1) for name, a in outputs.items()})


def scales(outputs):
    arrays = [array[0] for array in outputs.values()]
    half = len(arrays) // 2
    return np.concatenate(
        [np.concatenate(pair, axis=1) for pair in zip(arrays[:half], arrays[half:])]
    )


def only(outputs):
    (array,) = outputs.values()
    return array[0]


def beside(outputs):
    return np.concatenate([a.reshape(-1, a.shape[-1]) for a in outputs.values()], axis=1)


def map_shapes(channels, cells=CELLS, last=False):
    return {
        f"p{index}": (1, rows, columns, c) if last else (1, c, rows, columns)
        for index, ((columns, rows), c) in enumerate(zip(cells, channels))
    }


def layouts():
    for activation in ("none", "sigmoid"):
        raw = {"activation": activation}
        maps = {"map_activation": activation}
        yield Layout(
            f"yolox {activation}", {"type": "yolox", **raw}, {"o": (1, TOTAL, 5 + CLASSES)}, only
        )
        anchored = {"type": "yolov5", "anchors": ANCHORS, **maps}
        channels = [len(own) * (5 + CLASSES) for own in ANCHORS]
        yield Layout(f"yolov5 maps {activation}", anchored, map_shapes(channels), anchored_maps)
        shapes = {
            f"p{index}": (1, len(own), rows, columns, 5 + CLASSES)
            for index, ((columns, rows), own) in enumerate(zip(CELLS, ANCHORS))
        }
        yield Layout(f"yolov5 grids {activation}", anchored, shapes, grids)
        yield Layout(
            f"yolov8 maps {activation}",
            {"type": "yolov8", **maps},
            map_shapes([64 + CLASSES] * 3),
            flat_maps,
        )
        nanodet = {"type": "nanodet", **raw}
        yield Layout(f"nanodet rows {activation}", nanodet, {"o": (1, TOTAL, CLASSES + 32)}, only)
        sizes = [columns * rows for columns, rows in CELLS]
        shapes = {f"c{index}": (1, size, CLASSES) for index, size in enumerate(sizes)}
        shapes |= {f"d{index}": (1, size, 32) for index, size in enumerate(sizes)}
        yield Layout(f"nanodet scales {activation}", nanodet, shapes, scales)
        for offset in (0, 1):
            head = {"type": "decoded", "label_offset": offset, **raw, "outputs": {"scores": "s"}}
            columns = CLASSES + offset
            for batch in ((1,), ()):
                shapes = {"b": (*batch, BOXES, 4), "s": (*batch, BOXES, columns)}
                name = f"decoded matrix {activation} {offset} {len(batch)}"
                yield Layout(name, head, shapes, beside)
    yield Layout("yolov5 rows", {"type": "yolov5"}, {"o": (1, BOXES, 5 + CLASSES)}, only)
    channels = [5 * len(own) + CLASSES for own in ANCHORS[1:]]
    head = {"type": "yolo_fastestv2", "anchors": ANCHORS[1:]}
    for last in (False, True):
        yield Layout(
            f"yolo_fastestv2 {'last' if last else 'first'}",
            head,
            map_shapes(channels, CELLS[1:], last),
            shared_last if last else shared_first,
        )
    yield Layout("yolov8 columns", {"type": "yolov8"}, {"o": (1, 4 + CLASSES, TOTAL)}, flat_maps)
    yield Layout("yolov8 rows", {"type": "yolov8"}, {"o": (1, TOTAL, 4 + CLASSES)}, only)
    for power in (0.6, 1.0, 0.05):
        yield Layout(
            f"fastestdet {power}",
            {"type": "fastestdet", "objectness_power": power},
            {"o": (1, 5 + CLASSES, 4, 6)},
            flat_maps,
        )


LAYOUTS = {layout.name: layout for layout in layouts()}


def edge_values(threshold: float) -> np.ndarray:
    """Numbers around which a rule may go wrong: limits of the threshold, and what is no number."""
    with np.errstate(all="ignore"):
        raw = np.log(threshold / (1.0 - np.float64(threshold)))
        middle = [threshold, raw, np.sqrt(threshold), threshold**2, 1.0]
        around = np.array([m * (1.0 + k * 2.0**-23) for m in middle for k in range(-6, 7)])
        return np.concatenate(
            [around, raw + np.linspace(-2e-3, 2e-3, 9), [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38]]
        )


def fill(layout: Layout, seed: int, threshold: float, edges: float, dtype, batch: int = 1):
    """Outputs in 0..1.2 or of a normal distribution, a share `edges` of them on the edge."""
    rng = np.random.default_rng([seed, 1])
    raw = "sigmoid" in layout.name
    outputs = {}
    for name, own in layout.shapes.items():
        shape = (batch, *own[1:]) if own[0] == 1 else own
        array = rng.normal(-1.0, 3.0, shape) if raw else rng.uniform(0.0, 1.2, shape)
        chosen = rng.uniform(size=shape) < edges
        array[chosen] = rng.choice(edge_values(threshold), int(chosen.sum()))
        with np.errstate(all="ignore"):
            outputs[name] = array.astype(dtype)
    return outputs


def same_bits(first, second) -> bool:
    """Compare candidates or detections bit by bit."""
    return all(
        getattr(first, name).dtype == getattr(second, name).dtype
        and getattr(first, name).tobytes() == getattr(second, name).tobytes()
        for name in ("boxes", "scores", "labels")
    )
