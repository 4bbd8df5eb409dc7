# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a model's outputs plays which role: by configured name, else by unambiguous shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from av_compress.errors import ModelError
from av_compress.tensors import TensorSpec


@dataclass(frozen=True)
class Wanted:
    """One output that a head needs.

    Attributes:
        role: what it is to the head, e.g. `classes`; `classes[1]` for the second scale.
        shape: extents; None where any extent will do.
        kind: `float`, `integer`, or `number` where either will do.

    """

    role: str
    shape: tuple[int | None, ...]
    kind: Literal["float", "integer", "number"] = "float"

    def fits(self, spec: TensorSpec) -> bool:
        """Tell whether a tensor can play this role; a dynamic extent fits everything."""
        return (
            self._kind_fits(spec)
            and len(spec.shape) == len(self.shape)
            and all(
                want is None or have is None or want == have
                for want, have in zip(self.shape, spec.shape)
            )
        )

    def extents(self, spec: TensorSpec) -> tuple[int, ...] | None:
        """Return the extents of a tensor that fits, for one image; None where one is not known."""
        pairs = zip(self.shape, spec.shape)
        known = (want if have is None else have for want, have in pairs)
        return TensorSpec(spec.name, tuple(known), spec.dtype).static_shape

    def _kind_fits(self, spec: TensorSpec) -> bool:
        if self.kind == "float":
            return np.issubdtype(spec.dtype, np.floating)
        if self.kind == "integer":
            return np.issubdtype(spec.dtype, np.integer)
        return np.issubdtype(spec.dtype, np.number)

    def __str__(self) -> str:
        """Format as `role[1,?,4] float`."""
        extents = ",".join("?" if extent is None else str(extent) for extent in self.shape)
        return f"{self.role} [{extents}] {self.kind}"


@dataclass(frozen=True)
class Form:
    """One way in which models of a head family lay out their outputs."""

    name: str
    wanted: tuple[Wanted, ...]

    def __str__(self) -> str:
        """Format as `name: role shape, role shape`."""
        return f"{self.name}: " + ", ".join(map(str, self.wanted))


@dataclass(frozen=True)
class Bound:
    """A form and the tensor that plays each of its roles."""

    form: str
    tensors: Mapping[str, str]


class _NoFitError(Exception):
    """A form does not fit; the message says why."""


def bind(
    specs: Sequence[TensorSpec], forms: Sequence[Form], names: Mapping[str, str], head: str
) -> Bound:
    """Find the tensor for every role of the first form that fits.

    Args:
        specs: the model's outputs.
        forms: the layouts the head understands, the most specific first.
        names: role -> tensor name, as configured; roles that are absent are found by shape.
        head: what the head is, to begin the message with.

    Raises:
        ModelError: no form fits, or a role could be played by several outputs.

    """
    reasons = []
    for form in forms:
        try:
            return Bound(form.name, _bind_form(specs, form, names))
        except _NoFitError as reason:
            reasons.append(f"{form} ({reason})")
    found = ", ".join(map(str, specs)) or "none"
    raise ModelError(
        f"the model's outputs do not fit {head}; found: {found}; "
        f"wanted: {' or '.join(reasons)}; check task.class_names, task.input and task.head, "
        "or name the tensors under task.head.outputs"
    )


def _bind_form(
    specs: Sequence[TensorSpec], form: Form, names: Mapping[str, str]
) -> dict[str, str]:
    roles = {wanted.role for wanted in form.wanted}
    foreign = sorted(set(names) - roles)
    if foreign:
        raise _NoFitError(f"has no {', '.join(foreign)}, which task.head.outputs names")
    candidates = {
        wanted.role: _candidates(specs, wanted, names.get(wanted.role)) for wanted in form.wanted
    }
    return _assign(candidates)


def _candidates(specs: Sequence[TensorSpec], wanted: Wanted, name: str | None) -> list[str]:
    if name is None:
        fitting = [spec.name for spec in specs if wanted.fits(spec)]
        if not fitting:
            raise _NoFitError(f"no output fits {wanted.role}")
        return fitting
    named = [spec for spec in specs if spec.name == name]
    if not named:
        raise _NoFitError(f"there is no output '{name}'")
    if not wanted.fits(named[0]):
        raise _NoFitError(f"{named[0]} does not fit {wanted.role}")
    return [name]


def _assign(candidates: dict[str, list[str]]) -> dict[str, str]:
    """Settle roles that have one candidate, strike it from the others, and repeat."""
    open_roles, assigned = dict(candidates), dict[str, str]()
    while open_roles:
        settled = next((role for role, found in open_roles.items() if len(found) == 1), None)
        if settled is None:
            role, found = next(iter(open_roles.items()))
            if not found:
                raise _NoFitError(f"no output is left for {role}")
            raise _NoFitError(f"{role} could be {' or '.join(found)}: name it")
        (tensor,) = open_roles.pop(settled)
        assigned[settled] = tensor
        open_roles = {
            role: [name for name in found if name != tensor] for role, found in open_roles.items()
        }
        starved = next((role for role, found in open_roles.items() if not found), None)
        if starved is not None:
            raise _NoFitError(f"no output is left for {starved}")
    return assigned
