# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a user writes, validated, with defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from av_compress.build.source_model import SourceModel, source_model
from av_compress.errors import ConfigError
from av_compress.fileio import canonical_json, sha256_bytes
from av_compress.validation import validate
from av_compress.yamlfile import load_yaml

# What may be tried for a form, the cheapest first.
CANDIDATES = ("int8", "mixed", "fp16", "fp32")


# The precision rules of a recipe that leaves to a search what hurts.
EVERYTHING: Mapping[str, Any] = {
    "first": True,
    "prediction": True,
    "migrate": True,
    "gemv": True,
    "min_channels": 1,
}


@dataclass(frozen=True)
class SampleConfig:
    """Which recorded frames to take.

    Attributes:
        sources: configurations of frame sources, see `data.sources.open_source`; frames are
            divided evenly among them.
        samples: how many frames.
        sampling: `stride` or `coverage`.

    """

    sources: tuple[Mapping[str, Any], ...]
    samples: int
    sampling: str


@dataclass(frozen=True)
class ThresholdConfig:
    """How activation thresholds are chosen: the method, and the percentile it may need."""

    method: str
    percentile: float


@dataclass(frozen=True)
class SpeedConfig:
    """How candidates are timed against the next higher precision, and what is asked of them.

    Attributes:
        min_speedup: smallest factor that passes; None where the speed is only reported.
        rounds: how often each of the two runs.
        threads: inside an operator; 0: one for each core.

    """

    min_speedup: float | None = None
    rounds: int = 30
    threads: int = 1


@dataclass(frozen=True)
class SizeConfig:
    """How large a candidate may be: in bytes, and as a share of the source model."""

    max_bytes: int | None = None
    max_share: float | None = None

    def limit(self, source: int) -> int | None:
        """Return the limit in bytes for a source model of so many; None where there is none."""
        limits = [] if self.max_bytes is None else [self.max_bytes]
        if self.max_share is not None:
            limits.append(int(self.max_share * source))
        return min(limits, default=None)


@dataclass(frozen=True)
class GateConfig:
    """What a candidate must pass.

    Attributes:
        samples: the frames it is judged on, never those of the calibration.
        metric: `ap50`, `ap` (against labels), `agreement_ap50` or `agreement_ap` (against the
            FP32 model's own detections); boxes in space are matched by their footprints.
        max_loss: largest loss against FP32 that passes, in points (AP times 100).
        max_loss_per_class: the same for each class; None where classes are not looked at.
        min_truths: classes with fewer true objects are not looked at.
        speed: how fast it must be.
        size: how large it may be.

    """

    samples: SampleConfig
    metric: str
    max_loss: float
    max_loss_per_class: float | None = None
    min_truths: int = 10
    speed: SpeedConfig = SpeedConfig()
    size: SizeConfig = SizeConfig()


@dataclass(frozen=True)
class SearchConfig:
    """How a precision plan is searched.

    Attributes:
        evaluations: how many plans may be evaluated for each form, in all of its searches.
        frames: on how many frames each node's sensitivity is measured.
        min_int8_share: share of multiply-accumulates that stays in INT8, 0..1.

    """

    evaluations: int = 40
    frames: int = 8
    min_int8_share: float = 0.0


@dataclass(frozen=True)
class CompileConfig:
    """How the `tensorrt` form is chosen by what a compiler makes of it.

    Attributes:
        backend: `tensorrt_rtx` or `tensorrt`.
        capabilities: compute capabilities to compile for; empty for the backend's default.
        choose_by: `bytes_moved` or `kernels`; the other one decides between equals.
        trials: how many plans may be compiled to find the nodes of the mixed variant.

    """

    backend: str = "tensorrt_rtx"
    capabilities: tuple[str, ...] = ()
    choose_by: str = "bytes_moved"
    trials: int = 128

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> CompileConfig:
        """Make it from the recipe's validated `compile` section."""
        given = tuple(config.get("capabilities", ()))
        return CompileConfig(**{**config, "capabilities": given})


@dataclass(frozen=True)
class OptimizeConfig:
    """What may be done to the graph before it is quantised.

    Attributes:
        static_shapes: fix dynamic extents of the input to what the task feeds.
        detach_nms: cut a suppression inside the model off.
        fold_normalization: let the first layers normalise the pixels, as far as that is exact.
        skip: names of passes that are left out.
        pad_voxels: make an open number of voxels the task's `max_voxels`.
        max_batch: most frames that the model takes at once; from 2 on its batch axis is open.

    """

    static_shapes: bool = True
    detach_nms: bool = False
    fold_normalization: bool = False
    pad_voxels: bool = False
    skip: tuple[str, ...] = ()
    max_batch: int = 1

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> OptimizeConfig:
        """Make it from the recipe's validated `optimize` section."""
        return OptimizeConfig(**{**config, "skip": tuple(config.get("skip", ()))})


@dataclass(frozen=True)
class Recipe:
    """A validated recipe.

    Attributes:
        name: the bundle's name.
        folder: what relative paths are relative to.
        model: the ONNX file, or the two that are joined.
        task: task configuration.
        optimize: what may be done to the graph.
        calibration: the calibration samples.
        threshold: how thresholds are chosen.
        gate: what candidates must pass, None where the user asked for nothing.
        precision: precision rules, see `compress.plan.precision.PrecisionRules`.
        search: how the plan of the mixed candidate is searched; None where there is no such
            candidate.
        emitters: which forms to write.
        candidates: what is tried for each form, in order; see `CANDIDATES`.
        compile: how the `tensorrt` form is chosen; None where nothing is compiled.
        content: the whole recipe as JSON values, defaults filled in.

    """

    name: str
    folder: Path
    model: SourceModel
    task: Mapping[str, Any]
    optimize: OptimizeConfig
    calibration: SampleConfig
    threshold: ThresholdConfig
    gate: GateConfig | None
    precision: Mapping[str, Any]
    search: SearchConfig | None
    emitters: tuple[str, ...]
    candidates: tuple[str, ...]
    compile: CompileConfig | None
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of the recipe's meaning: comments and key order do not count."""
        return sha256_bytes(canonical_json(self.content).encode())


def load_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: a key breaks the schema; key, value and what is allowed are named.

    """
    content = load_yaml(path)
    if isinstance(content, dict) and isinstance(content.get("task"), str):
        # A task may stand in a file of its own, shared between recipes.
        content = {**content, "task": load_yaml(path.parent / content["task"])}
    if isinstance(content, dict) and isinstance(content.get("precision"), str):
        # So may the precision: a plan that was found and edited.
        content = {**content, "precision": load_yaml(path.parent / content["precision"])}
    validate(content, "recipe", str(path))
    return _recipe(_with_defaults(content, path.stem), path.parent)


def _with_defaults(content: Mapping[str, Any], stem: str) -> dict[str, Any]:
    calibration = {
        "samples": 64,
        "sampling": "coverage",
        "threshold": "mse",
        "percentile": 99.99,
        **content["calibration"],
    }
    filled = {
        "name": stem,
        "optimize": {},
        "precision": {},
        "emitters": ["tensorrt", "cpu"],
        "candidates": list(CANDIDATES),
        **content,
        "calibration": calibration,
        "trust": {"allow_host_code": False, **content.get("trust", {})},
    }
    if filled.get("search") is not None:
        filled["precision"] = {**EVERYTHING, **filled["precision"]}
    if "cpu_dynamic" in filled["emitters"] and filled["optimize"].get("max_batch", 1) > 1:
        raise ConfigError(
            "optimize.max_batch: not with the form cpu_dynamic, whose ranges are found over all "
            "frames of a batch: what a frame gives would depend on the others"
        )
    if filled.get("gate") is not None:
        filled["gate"] = _gate_with_defaults(filled["gate"], calibration)
    return {
        **filled,
        "search": _search_with_defaults(filled),
        "compile": _compile_with_defaults(filled),
    }


def _gate_with_defaults(gate: Mapping[str, Any], calibration: Mapping[str, Any]) -> dict[str, Any]:
    filled = {
        "source": calibration["source"],
        "samples": calibration["samples"],
        "sampling": calibration["sampling"],
        "metric": "agreement_ap50",
        "max_loss": 1.0,
        "max_loss_per_class": None,
        "min_truths": 10,
        "speed": None,
        "size": None,
        **gate,
    }
    if filled["speed"] is not None:
        filled["speed"] = {"min_speedup": 1.0, "rounds": 30, "threads": 1, **filled["speed"]}
    return filled


def _search_with_defaults(filled: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the search may spend; None where nothing is searched."""
    candidates, search = filled["candidates"], filled.get("search")
    if candidates != [kind for kind in CANDIDATES if kind in candidates]:
        raise ConfigError(
            f"candidates: [{', '.join(candidates)}] is not allowed; allowed: some of "
            f"{', '.join(CANDIDATES)}, in this order"
        )
    if filled.get("gate") is None:
        wanted = "search" if search is not None else "candidates: mixed"
        if search is not None or candidates[0] == "mixed":
            raise ConfigError(f"{wanted}: needs a gate, whose metric and limit it searches for")
        return None
    if "mixed" in candidates:
        return {**asdict(SearchConfig()), **(search or {})}
    if search is not None:
        raise ConfigError("search: finds the mixed candidate, which candidates does not list")
    return None


def _compile_with_defaults(filled: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the `tensorrt` form is compiled; None where it is not."""
    wanted = filled.get("compile")
    if wanted is None:
        return None
    if "tensorrt" not in filled["emitters"]:
        raise ConfigError("compile: chooses the form tensorrt, which emitters does not list")
    return {**asdict(CompileConfig()), "capabilities": [], **wanted}


def _recipe(content: dict[str, Any], folder: Path) -> Recipe:
    calibration, search = content["calibration"], content["search"]
    compiling = content["compile"]
    return Recipe(
        name=content["name"],
        folder=folder,
        model=source_model(content["model"], folder),
        task=content["task"],
        optimize=OptimizeConfig.from_config(content["optimize"]),
        calibration=_samples(calibration),
        threshold=ThresholdConfig(calibration["threshold"], calibration["percentile"]),
        gate=None if content["gate"] is None else _gate(content["gate"]),
        precision=content["precision"],
        search=None if search is None else SearchConfig(**search),
        emitters=tuple(content["emitters"]),
        candidates=tuple(content["candidates"]),
        compile=None if compiling is None else CompileConfig.from_config(compiling),
        content=content,
    )


def _gate(section: Mapping[str, Any]) -> GateConfig:
    return GateConfig(
        samples=_samples(section),
        metric=section["metric"],
        max_loss=section["max_loss"],
        max_loss_per_class=section["max_loss_per_class"],
        min_truths=section["min_truths"],
        speed=SpeedConfig(**(section["speed"] or {})),
        size=SizeConfig(**(section["size"] or {})),
    )


def _samples(section: Mapping[str, Any]) -> SampleConfig:
    source = section["source"]
    sources = tuple(source) if isinstance(source, list) else (source,)
    return SampleConfig(sources, section["samples"], section["sampling"])
