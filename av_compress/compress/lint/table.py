# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The table of all rules."""

from __future__ import annotations

from av_compress.compress.lint.rule import Rule
from av_compress.compress.lint.rules.operators import OPERATORS_RULES
from av_compress.compress.lint.rules.placement import PLACEMENT_RULES
from av_compress.compress.lint.rules.types import TYPES_RULES
from av_compress.compress.lint.rules.values import VALUES_RULES

RULES: tuple[Rule, ...] = (*VALUES_RULES, *PLACEMENT_RULES, *TYPES_RULES, *OPERATORS_RULES)
