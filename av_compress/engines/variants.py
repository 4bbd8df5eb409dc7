# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Records of a form that was chosen by what a compiler made of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VariantRecord:
    """One variant of a form, what the compiler made of it, and what became of it.

    Attributes:
        name: unique among the form's variants, e.g. `int8` or `mixed, one scale a weight`.
        candidate: `int8`, `mixed`, `fp16` or `fp32`.
        weight_scales: of its INT8 weights: `channel` or `tensor`.
        sha256: hash of its file, as in `attempts`; None where it was not made.
        kernels: how many the plan starts for a frame; None, as all that follows, where nothing was
            compiled.
        activation_bytes: bytes of activations that they read and write for a frame.
        constant_bytes: bytes of weights that they read for a frame.
        achieved: precision -> weighted nodes that the plan computes in it; `absent` for those that
            no kernel names.
        convolutions: "input x weight -> output" in types -> kernels with weights.
        loss: points lost in the gate's metric; None where it was not judged.
        verdict: `accepted`, `refused` (by the compiler, or by a condition) or `skipped`.
        reason: why, in words.

    """

    name: str
    candidate: str
    weight_scales: str
    sha256: str | None
    kernels: int | None
    activation_bytes: int | None
    constant_bytes: int | None
    achieved: Mapping[str, int]
    convolutions: Mapping[str, int]
    loss: float | None
    verdict: str
    reason: str

    @property
    def bytes_moved(self) -> int | None:
        """All bytes that kernels read and write for a frame; None where nothing was compiled."""
        if self.activation_bytes is None or self.constant_bytes is None:
            return None
        return self.activation_bytes + self.constant_bytes


@dataclass(frozen=True)
class ChoiceRecord:
    """How a form was chosen among its variants.

    Attributes:
        backend: what compiled them: `tensorrt_rtx` or `tensorrt`.
        version: of its package.
        capabilities: compute capabilities that it compiled for; empty for its default.
        choose_by: `bytes_moved` or `kernels`; the other one decides between equals.
        trials: how many plans were compiled to find the nodes of the mixed variant.
        variants: the cheapest first, those that could not be chosen last.

    """

    backend: str
    version: str
    capabilities: tuple[str, ...]
    choose_by: str
    trials: int
    variants: tuple[VariantRecord, ...]

    @property
    def chosen(self) -> VariantRecord | None:
        """The variant that was accepted; None where none was."""
        return next((one for one in self.variants if one.verdict == "accepted"), None)

    @property
    def compiled(self) -> tuple[VariantRecord, ...]:
        """The variants of which there is an account."""
        return tuple(one for one in self.variants if one.kernels is not None)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ChoiceRecord:
        """Restore what a manifest holds."""
        variants = tuple(VariantRecord(**entry) for entry in value["variants"])
        capabilities = tuple(value["capabilities"])
        return ChoiceRecord(**{**value, "capabilities": capabilities, "variants": variants})
