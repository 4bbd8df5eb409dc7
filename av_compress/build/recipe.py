# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a user writes, validated, with defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from av_compress.errors import ConfigError, UsageError
from av_compress.fileio import canonical_json, sha256_bytes
from av_compress.validation import validate


@dataclass(frozen=True)
class SampleConfig:
    """Which recorded frames to take.

    Attributes:
        source: a frame source's configuration, see `data.sources.open_source`.
        samples: how many frames.
        sampling: `stride` or `coverage`.

    """

    source: Mapping[str, Any]
    samples: int
    sampling: str


@dataclass(frozen=True)
class ThresholdConfig:
    """How activation thresholds are chosen: the method, and the percentile it may need."""

    method: str
    percentile: float


@dataclass(frozen=True)
class GateConfig:
    """The accuracy condition of a build.

    Attributes:
        samples: the frames it is judged on, never those of the calibration.
        metric: `ap50`, `ap` (against labels), `agreement_ap50` or `agreement_ap` (against the
            FP32 model's own detections).
        max_loss: largest loss against FP32 that passes, in points (AP times 100).

    """

    samples: SampleConfig
    metric: str
    max_loss: float


@dataclass(frozen=True)
class SearchConfig:
    """How a precision plan is searched.

    Attributes:
        evaluations: how many plans may be evaluated for each form.
        frames: on how many frames each node's sensitivity is measured.

    """

    evaluations: int
    frames: int


@dataclass(frozen=True)
class OptimizeConfig:
    """What may be done to the graph before it is quantised.

    Attributes:
        static_shapes: fix dynamic extents of the input to what the task feeds.
        detach_nms: cut a suppression inside the model off.
        fold_normalization: let the first layers normalise the pixels, as far as that is exact.
        skip: names of passes that are left out.

    """

    static_shapes: bool = True
    detach_nms: bool = False
    fold_normalization: bool = False
    skip: tuple[str, ...] = ()

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
        model: the ONNX file.
        task: task configuration.
        optimize: what may be done to the graph.
        calibration: the calibration samples.
        threshold: how thresholds are chosen.
        gate: the accuracy condition, None where the user asked for none.
        precision: precision rules, see `compress.plan.precision.PrecisionRules`.
        search: how the plan is searched, None where the rules alone make it.
        emitters: which forms to write.
        content: the whole recipe as JSON values, defaults filled in.

    """

    name: str
    folder: Path
    model: Path
    task: Mapping[str, Any]
    optimize: OptimizeConfig
    calibration: SampleConfig
    threshold: ThresholdConfig
    gate: GateConfig | None
    precision: Mapping[str, Any]
    search: SearchConfig | None
    emitters: tuple[str, ...]
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of the recipe's meaning: comments and key order do not count."""
        return sha256_bytes(canonical_json(self.content).encode())


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UsageError: the file is absent or is not YAML; the line is named.

    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error


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
        **content,
        "calibration": calibration,
    }
    if filled.get("gate") is not None:
        filled["gate"] = {
            "source": calibration["source"],
            "samples": calibration["samples"],
            "sampling": calibration["sampling"],
            "metric": "agreement_ap50",
            "max_loss": 1.0,
            **filled["gate"],
        }
    if filled.get("search") is not None:
        filled["search"] = {"evaluations": 40, "frames": 8, **filled["search"]}
        if filled.get("gate") is None:
            raise ConfigError("search: needs a gate, whose metric and limit it searches for")
    return filled


def _recipe(content: dict[str, Any], folder: Path) -> Recipe:
    calibration, gate, search = content["calibration"], content["gate"], content.get("search")
    return Recipe(
        name=content["name"],
        folder=folder,
        model=folder / content["model"],
        task=content["task"],
        optimize=OptimizeConfig.from_config(content["optimize"]),
        calibration=_samples(calibration),
        threshold=ThresholdConfig(calibration["threshold"], calibration["percentile"]),
        gate=None
        if gate is None
        else GateConfig(_samples(gate), gate["metric"], gate["max_loss"]),
        precision=content["precision"],
        search=None if search is None else SearchConfig(**search),
        emitters=tuple(content["emitters"]),
        content=content,
    )


def _samples(section: Mapping[str, Any]) -> SampleConfig:
    return SampleConfig(section["source"], section["samples"], section["sampling"])
