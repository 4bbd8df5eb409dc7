# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Rules about operators and shapes; columns as in `rule.Row`."""

from __future__ import annotations

from av_compress.compress.lint.checks import operators
from av_compress.compress.lint.rule import ADVICE, ERROR, TRAP, Subject, make_rules
from av_compress.compress.lint.targets import CPU, TENSORRT

OPERATORS_RULES = make_rules(
    Subject.OPERATORS,
    (
        (
            "integer-operator",
            TENSORRT,
            ERROR,
            "operator of integer arithmetic",
            operators.integer_operator,
            "the parser refuses the node",
            "quantise the float model by pairs of QuantizeLinear and DequantizeLinear",
        ),
        (
            "unsupported-operator",
            TENSORRT,
            ERROR,
            "operator that the target does not read",
            operators.unsupported,
            "the parser refuses the node",
            "export the model without it, or cut it off and compute it outside",
        ),
        (
            "custom-operator",
            TENSORRT,
            ERROR,
            "operator that nobody here defines",
            operators.custom,
            "refused, unless a plugin of that name is registered",
            "load the plugin's library with the engine, or export without the operator",
        ),
        (
            "custom-operator-cpu",
            CPU,
            ERROR,
            "operator that nobody here defines",
            operators.custom_on_cpu,
            "refused, unless a library with it is registered",
            "register the operator's library, or export without it",
        ),
        (
            "domain-ignored",
            TENSORRT,
            TRAP,
            "operator of another domain with a standard name",
            operators.domain_ignored,
            "the parser looks at the name alone and builds the standard operator",
            "check that both mean the same; export the standard one",
        ),
        (
            "operator-form",
            TENSORRT,
            ERROR,
            "operator in a form that the target does not read",
            operators.form,
            "the parser refuses the node",
            "export another form",
        ),
        (
            "control-flow",
            TENSORRT,
            ADVICE,
            "condition or loop",
            operators.control_flow,
            "built; kernels are not fused across it, and nothing in it is quantised",
            "export with fixed sizes, so that it unrolls",
        ),
        (
            "dynamic-shape",
            TENSORRT,
            ADVICE,
            "input without fixed shape",
            operators.dynamic_shape,
            "the builder wants an optimisation profile, and tunes for one shape of it",
            "fix the shape, or give a profile",
        ),
    ),
)
