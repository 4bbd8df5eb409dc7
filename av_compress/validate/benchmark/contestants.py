# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is timed: a bundle's models on each backend, the same without Q/DQ, and others' models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx

from av_compress.compress.emit.strip import strip
from av_compress.compress.optimize.prepare import load_model
from av_compress.compress.states import weighted_nodes
from av_compress.engines.base import Engine
from av_compress.engines.bundle import Bundle, load_bundle
from av_compress.engines.cuda import Device
from av_compress.engines.forms import BACKENDS, FORMS, ONNXRUNTIME
from av_compress.engines.layer_times import LayerTime
from av_compress.engines.machine import find_card
from av_compress.engines.onnxruntime import CUDA, OnnxRuntimeEngine, OrtOptions
from av_compress.engines.onnxruntime_profile import profile_model
from av_compress.engines.plans.store import PlanRecord
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.engines.tensorrt.open import open_plan, plan_for
from av_compress.errors import AvCompressError, EngineError, UsageError
from av_compress.fileio import sha256_bytes
from av_compress.metrics.benchmark import LeftOut
from av_compress.tensors import Tensors

# Frames on the card at once: one's copies beside another's execution.
_IN_FLIGHT = 2
_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})

# Inputs and how many runs -> time of each layer.
Profile = Callable[[Tensors, int], tuple[LayerTime, ...]]


@dataclass(frozen=True)
class Wanted:
    """What is to be timed.

    Attributes:
        backends: those that are demanded; empty: ONNX Runtime, and what else has a plan that fits.
        emitters: forms that ONNX Runtime runs; empty: those that are made for its provider.
        against: other bundles and ONNX files.
        device: index or UUID of the card.
        ort: how ONNX Runtime runs models.

    """

    backends: tuple[str, ...] = ()
    emitters: tuple[str, ...] = ()
    against: tuple[Path, ...] = ()
    device: int | str = 0
    ort: OrtOptions = field(default_factory=OrtOptions)

    def __post_init__(self) -> None:
        """Refuse what does not go together (UsageError)."""
        if self.emitters and self.backends and ONNXRUNTIME not in self.backends:
            raise UsageError("--emitter goes with --backend onnxruntime; a plan has its own form")

    @property
    def on_gpu(self) -> bool:
        """Whether ONNX Runtime is to run on a card."""
        return CUDA in self.ort.providers


@dataclass(frozen=True)
class Contestant:
    """A loaded model that is to be timed.

    Attributes:
        name: see `TimedModel`.
        sha256: see `TimedModel`.
        precision: see `TimedModel`.
        engine: owned by this thread.
        most: largest batch that it takes; None: not known.
        profile: times its layers.
        bundle: where it is from; None for an ONNX file.
        plan: the record of the plan that it is; None for an ONNX model.

    """

    name: str
    sha256: str
    precision: str
    engine: Engine
    most: int | None
    profile: Profile
    bundle: Bundle | None = None
    plan: PlanRecord | None = None

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that it does not take.

        Raises:
            EngineError: says what it takes, and how to get more.

        """
        fixed = [spec.shape[0] for spec in self.engine.inputs if spec.shape]
        if None not in fixed:
            wrong, taken = fixed != [batch] * len(fixed), f"exactly {fixed[0] if fixed else 1}"
        else:
            wrong, taken = self.most is not None and batch > self.most, f"at most {self.most}"
        if wrong:
            raise EngineError(
                f"{self.name} takes {taken} frames at once, not {batch}; build with optimize: "
                f"{{max_batch: {batch}}}, and compile with --batch"
            )


@dataclass(frozen=True)
class Lineup:
    """What can be timed, in the order in which it was asked for, and what cannot."""

    contestants: tuple[Contestant, ...]
    left_out: tuple[LeftOut, ...]


def open_all(bundle: Bundle, wanted: Wanted, batch: int, stack: ExitStack) -> Lineup:
    """Load everything that is to be timed.

    Args:
        bundle: verified.
        wanted: what is to be timed.
        batch: frames in each run.
        stack: closes what was loaded.

    Raises:
        UsageError: there is no such card.
        AvCompressError: what was demanded cannot be run, or nothing can; says why.

    """
    found: list[Contestant] = []
    left_out: list[LeftOut] = []
    for name, demanded, load in _loaders(bundle, wanted):
        try:
            for one in load():
                stack.callback(one.engine.close)
                one.check_batch(batch)
                found.append(one)
        except UsageError:
            raise
        except AvCompressError as error:
            if demanded:
                raise
            left_out.append(LeftOut(name, str(error)))
    if not found:
        raise EngineError("; ".join(f"{one.name}: {one.reason}" for one in left_out))
    return Lineup(tuple(found), tuple(left_out))


Loader = Callable[[], Iterator[Contestant]]


def _loaders(bundle: Bundle, wanted: Wanted) -> Iterator[tuple[str, bool, Loader]]:
    """Yield what to load: what it is called, whether it must be there, and how."""
    backends = wanted.backends or BACKENDS
    for backend in backends:
        demanded = bool(wanted.backends) or backend == ONNXRUNTIME
        yield from _of_bundle(bundle, backend, wanted, demanded)
    for path in wanted.against:
        if not path.is_dir():
            yield path.name, True, partial(_file, path, bundle, wanted.ort)
            continue
        other = load_bundle(path)
        for backend in backends:
            demanded = bool(wanted.backends) or backend == ONNXRUNTIME
            yield from _of_bundle(other, backend, replace(wanted, emitters=()), demanded)


def _of_bundle(
    bundle: Bundle, backend: str, wanted: Wanted, demanded: bool
) -> Iterator[tuple[str, bool, Loader]]:
    name = bundle.root.resolve().name
    if backend != ONNXRUNTIME:
        load = partial(_plan, bundle, backend, wanted.device)
        yield f"{name} with {backend}", demanded, load
        return
    for emitter in wanted.emitters or _forms(bundle, wanted):
        named = demanded and (bool(wanted.emitters) or emitter == _default(bundle, wanted))
        yield f"{name}/{emitter}", named, partial(_artefact, bundle, emitter, wanted)


def _default(bundle: Bundle, wanted: Wanted) -> str:
    return bundle.default_emitter(wanted.ort)


def _forms(bundle: Bundle, wanted: Wanted) -> list[str]:
    """Name the forms that are made for ONNX Runtime's provider, the one that it serves first."""
    first = _default(bundle, wanted)
    others = sorted(set(bundle.manifest.artefacts) - {first})
    return [first, *(one for one in others if not FORMS[one].simulated or wanted.on_gpu)]


def _artefact(bundle: Bundle, emitter: str, wanted: Wanted) -> Iterator[Contestant]:
    """Load an artefact, and the same without its Q/DQ pairs: what it was before."""
    name = f"{bundle.root.resolve().name}/{emitter}"
    options = bundle.runtime_options(emitter, wanted.ort)
    bundle.require_accepted(emitter)
    model = bundle.read_artefact(emitter)
    as_written = options.exact_quantization and not wanted.ort.exact_quantization
    label = f"{name}, every pair computed as written" if as_written else name
    most = bundle.manifest.max_batch
    yield _model(label, model, options, most, bundle)
    graph = onnx.load_model_from_string(model)
    if any(node.op_type in _PAIR for node in graph.graph.node):
        twin = strip(graph).SerializeToString()
        yield _model(f"{name} without Q/DQ", twin, wanted.ort, most, bundle)


def _file(path: Path, bundle: Bundle, options: OrtOptions) -> Iterator[Contestant]:
    if not path.is_file():
        raise UsageError(f"--against {path} is neither a bundle's folder nor an ONNX file")
    original = sha256_bytes(path.read_bytes()) == bundle.manifest.source.sha256
    name = f"{path.name}, the original" if original else path.name
    yield _model(name, load_model(path).SerializeToString(), options, None, None)


def _model(
    name: str, model: bytes, options: OrtOptions, most: int | None, bundle: Bundle | None
) -> Contestant:
    return Contestant(
        name=name,
        sha256=sha256_bytes(model),
        precision=_shares(model),
        engine=OnnxRuntimeEngine(model, options),
        most=most,
        profile=partial(profile_model, model, options),
        bundle=bundle,
    )


def _plan(bundle: Bundle, backend: str, device: int | str) -> Iterator[Contestant]:
    engine = open_plan(bundle, backend, device, slots=_IN_FLIGHT)
    record = plan_for(bundle, backend, engine.cuda.device)
    form = f"{bundle.root.resolve().name}/{record.target.emitter}"
    yield Contestant(
        name=f"{form}, plan {record.target.key}",
        sha256=record.sha256,
        precision=_counts(record),
        engine=engine,
        most=engine.max_batch,
        profile=engine.profile,
        bundle=bundle,
        plan=record,
    )


def _shares(model: bytes) -> str:
    """Say what a model computes in, by multiply-accumulates: `int8 94 %, fp32 6 %`."""
    macs: Counter[str] = Counter()
    for node in weighted_nodes(onnx.load_model_from_string(model)).values():
        macs[node.precision] += node.macs
    total = sum(macs.values())
    shares = [(kind, 100 * count / total) for kind, count in macs.most_common() if count]
    return ", ".join(f"{kind} {share:.0f} %" for kind, share in shares)


def _counts(record: PlanRecord) -> str:
    """Say what a plan's kernels compute in, by weighted nodes: `int8 12, fp16 2`."""
    kinds = Counter(node["achieved"] for node in record.account["nodes"])
    return ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())


def card_of(contestants: tuple[Contestant, ...], device: int | str) -> Device | None:
    """Return the card that plans run on; where there is none of these, what this machine has."""
    for one in contestants:
        if isinstance(one.engine, TensorRTEngine):
            return one.engine.cuda.device
    return find_card(device)
