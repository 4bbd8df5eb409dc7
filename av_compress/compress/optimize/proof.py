# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Proof that two models compute the same: both are run, on random and on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from av_compress.compress.graph import GraphIndex, nested_nodes
from av_compress.compress.optimize.nms import detach, suppression_of
from av_compress.compress.optimize.passes import copy_of, infer_shapes
from av_compress.errors import ModelError
from av_compress.tensors import Array, Tensors

# Domains whose operators ONNX Runtime knows, or may know.
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Extents for a dynamic first axis and for other dynamic axes, tried until the model runs. Two
# frames first: what is right for one may be wrong for more.
_EXTENTS = ((2, 64), (1, 64), (1, 224), (1, 640), (1, 32), (1, 1))
_NAMED = 3
_BEFORE_SUPPRESSION = ("proof_boxes", "proof_scores")


class Proof:
    """Runs models on the same inputs and measures how far their outputs are apart."""

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Sequence[Tensors] = (),
        shapes: Mapping[str, Sequence[int]] | None = None,
        examples: Sequence[Tensors] = (),
    ) -> None:
        """Run the model that the others must equal.

        Args:
            model: the reference.
            samples: real inputs, beside random ones.
            shapes: input name -> extents to run it with; others are tried where absent.
            examples: made inputs, in place of random ones, of a model that those mean nothing to.

        """
        self._feeds: list[dict[str, Any]] = []
        self._source: list[dict[str, Any]] = []
        self.obstacle = ""
        try:
            session = _session(runnable(model))
            made = map(dict, examples) if examples else _random_feeds(session, shapes or {})
            self._feeds = [*made, *map(dict, samples)]
            self._source = [_run(session, feeds) for feeds in self._feeds]
        except ModelError as error:
            self.obstacle = str(error)
        self._accepted = self._tried = self._source

    @property
    def possible(self) -> bool:
        """Whether the reference runs; `obstacle` says why where it does not."""
        return not self.obstacle

    @property
    def total(self) -> float:
        """The largest difference of the model accepted last from the source."""
        return _largest_difference(self._source, self._accepted)

    def attempt(self, model: onnx.ModelProto) -> float:
        """Return the largest difference of a model's outputs from the last accepted one's.

        Relative to the largest magnitude of each output; infinite where shapes or the places of
        NaN and infinity differ.

        Raises:
            ModelError: the model does not run.

        """
        session = _session(runnable(model))
        self._tried = [_run(session, feeds) for feeds in self._feeds]
        return _largest_difference(self._accepted, self._tried)

    def accept(self) -> None:
        """Let the model tried last be what the next one is compared with."""
        self._accepted = self._tried


def compare(
    first: onnx.ModelProto, second: onnx.ModelProto, samples: Sequence[Tensors] = ()
) -> float:
    """Return the largest difference of two models' outputs; see `Proof.attempt`.

    Float inputs of rank 4 are drawn from the pixel range 0..255 and from a standard normal
    distribution, in turn; others from the latter.

    Raises:
        ModelError: a model does not run.

    """
    proof = Proof(first, samples)
    if not proof.possible:
        raise ModelError(proof.obstacle)
    return proof.attempt(second)


def difference_on(
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    feeds: Sequence[tuple[Tensors, Tensors]],
) -> float:
    """Return the largest difference of two models' outputs; see `Proof.attempt`.

    Args:
        first: the reference.
        second: the other.
        feeds: what each of the two gets, for every comparison.

    Raises:
        ModelError: a model does not run.

    """
    sessions = [_session(runnable(model)) for model in (first, second)]
    outputs = [[_run(session, feed) for session, feed in zip(sessions, pair)] for pair in feeds]
    return _largest_difference([pair[0] for pair in outputs], [pair[1] for pair in outputs])


def run_model(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Run a model on inputs (name -> array), one after the other.

    Raises:
        ModelError: it does not run.

    """
    session = _session(model)
    return [_run(session, one) for one in feeds]


def foreign_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that only some other runtime knows, such as TensorRT's plugins."""
    return [n for n in model.graph.node if n.domain not in _KNOWN_DOMAINS]


def refuse_foreign(model: onnx.ModelProto) -> None:
    """Check that no operator of another runtime keeps ONNX Runtime from running a model.

    Raises:
        ModelError: one does; node, domain and operator are named, and what to do.

    """
    inner = [n for node in model.graph.node for n in nested_nodes(node)]
    foreign = [*foreign_nodes(model), *(n for n in inner if n.domain not in _KNOWN_DOMAINS)]
    if not foreign:
        return
    named = ", ".join(
        f"{node.name or next(iter(node.output), '')!r} is {node.op_type} of domain {node.domain}"
        for node in foreign[:_NAMED]
    )
    more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
    suppression = suppression_of(model)
    cut = "cut it off"
    if suppression is not None and foreign == [suppression.node]:
        cut = "cut it off by optimize.detach_nms"
    raise ModelError(
        f"ONNX Runtime cannot run the model: node {named}{more}, which it does not know, and "
        f"libraries of operators are not loaded here; {cut}, or export the model with standard "
        "operators"
    )


def runnable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what of a model can be run and compared.

    A suppression is cut off with all behind it: what it picks may change with the last digit.
    Foreign nodes are cut out: what they read becomes outputs, what they make becomes inputs. The
    whole model where there are none.

    Raises:
        ModelError: what a foreign node makes is read by others, and its type or shape is unknown.

    """
    foreign, suppression = foreign_nodes(model), suppression_of(model)
    if not foreign:
        return model if suppression is None else detach(model, suppression, _BEFORE_SUPPRESSION)
    index = GraphIndex(infer_shapes(model))
    cut = copy_of(model)
    graph = cut.graph
    made = {name for node in foreign for name in node.output if name}
    kept = [node for node in model.graph.node if node.domain in _KNOWN_DOMAINS]
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    graph.input.extend(_border(index, name, foreign) for name in sorted(made & read))
    outputs = [value for value in graph.output if value.name not in made]
    del graph.output[:]
    graph.output.extend(outputs)
    for number, node in enumerate(foreign):
        for position, name in enumerate(node.input):
            if name in index.types and name not in made:
                # Named by the place of the node: tensors get other names on the way.
                output = f"foreign_{number}_{position}"
                graph.node.append(helper.make_node("Identity", [name], [output]))
                kind = index.types[name].elem_type
                graph.output.append(helper.make_tensor_value_info(output, kind, None))
    return cut


def _border(index: GraphIndex, name: str, foreign: list[onnx.NodeProto]) -> onnx.ValueInfoProto:
    kind = index.types.get(name)
    if kind is None or not kind.elem_type or None in (index.shape(name) or (None,)):
        maker = next(node for node in foreign if name in node.output)
        raise ModelError(
            f"ONNX Runtime does not know {maker.op_type} of domain {maker.domain} (node "
            f"{maker.name!r}), and nothing tells the shape of {name!r} that it makes"
        )
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.CopyFrom(kind)
    return value


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"ONNX Runtime cannot load the model: {_short(error)}") from error


def _run(session: Any, feeds: Mapping[str, Any]) -> dict[str, Any]:
    names = [node.name for node in session.get_outputs()]
    wanted = {node.name for node in session.get_inputs()} & set(feeds)
    try:
        values = session.run(names, {name: feeds[name] for name in wanted})
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"ONNX Runtime cannot run the model: {_short(error)}") from error
    return dict(zip(names, values))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _random_feeds(session: Any, shapes: Mapping[str, Sequence[int]]) -> Iterator[dict[str, Any]]:
    """Yield random inputs: pixels and a normal distribution, at extents with which it runs."""
    inputs = session.get_inputs()
    extents = _EXTENTS if any(_is_dynamic(node, shapes) for node in inputs) else _EXTENTS[:1]
    for last, (first_axis, others) in enumerate(extents, start=1):
        feeds = [
            {node.name: _random(node, _extents(node, shapes, first_axis, others), pixels)}
            for node in inputs
            for pixels in (True, False)
        ]
        pixels, normal = _joined(feeds[::2]), _joined(feeds[1::2])
        try:
            _run(session, pixels)
        except ModelError:
            if last == len(extents):
                raise
            continue
        yield pixels
        if any(np.any(pixels[name] != normal[name]) for name in pixels):
            yield normal
        return


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _is_dynamic(node: Any, shapes: Mapping[str, Sequence[int]]) -> bool:
    return node.name not in shapes and any(not isinstance(e, int) for e in node.shape)


def _extents(
    node: Any, shapes: Mapping[str, Sequence[int]], first_axis: int, others: int
) -> list[int]:
    if node.name in shapes and len(shapes[node.name]) == len(node.shape):
        return list(shapes[node.name])
    return [
        extent if isinstance(extent, int) else others if axis else first_axis
        for axis, extent in enumerate(node.shape)
    ]


def _random(node: Any, shape: Sequence[int], pixels: bool) -> Array:
    rng = np.random.default_rng(0)
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype)
    if "float" not in dtype:
        return np.zeros(shape, dtype)
    drawn = rng.uniform(0, 255, shape) if pixels and len(shape) == 4 else rng.normal(size=shape)
    return drawn.astype(dtype)


def _largest_difference(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> float:
    pairs = zip(before, after)
    return max((_difference(b[name], a[name]) for b, a in pairs for name in b), default=0.0)


def _difference(left: Any, right: Any) -> float:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.shape != right.shape:
        return float("inf")
    known = np.isfinite(left)
    if not np.array_equal(known, np.isfinite(right)):
        return float("inf")
    left, right = left[known], right[known]
    if left.size == 0:
        return 0.0
    scale = max(float(np.abs(left).max()), 1e-12)
    return float(np.abs(left - right).max()) / scale
