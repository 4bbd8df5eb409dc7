# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a compiler made of a form's variants, side by side: the same on terminal and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from av_compress.engines.variants import ChoiceRecord, VariantRecord
from av_compress.report.numbers import NONE, fixed, plural
from av_compress.report.tables import Cell, Table, Tone

_TONES: Mapping[str, Tone] = {"accepted": "good", "refused": "bad", "skipped": "quiet"}
_BY = {"bytes_moved": "bytes moved", "kernels": "kernels"}
_INTEGERS = frozenset({"int8", "mixed"})


def target_words(choice: ChoiceRecord) -> str:
    """Say what compiled, for what, and how many trials it took."""
    made_for = f" for compute capability {', '.join(choice.capabilities)}"
    trials = f"; {plural(choice.trials, 'trial')} for the mixed plan"
    return (
        f"{choice.backend} {choice.version}{made_for * bool(choice.capabilities)}, chosen by "
        f"{_BY[choice.choose_by]}{trials * bool(choice.trials)}"
    )


def choice_words(choice: ChoiceRecord) -> str:
    """Say what was chosen, and what the others would have cost."""
    chosen = choice.chosen
    if chosen is None:
        return "no variant holds every limit"
    others = [one for one in choice.compiled if one is not chosen]
    text = f"{chosen.name}: {_cost(chosen)}"
    if others:
        text += f"; {'; '.join(f'{one.name} {_cost(one)}' for one in others)}"
    return f"INT8 loses. {text}" if int8_loses(choice) else text


def int8_loses(choice: ChoiceRecord) -> bool:
    """Tell whether INT8 was to be had, and costs more than the float that was chosen."""
    chosen = choice.chosen
    integers = [one for one in choice.compiled if one.candidate in _INTEGERS]
    if chosen is None or chosen.candidate in _INTEGERS or not integers:
        return False
    # They stand in the order of their costs; one that was refused for it stands before.
    names = [one.name for one in choice.variants]
    return all(names.index(one.name) > names.index(chosen.name) for one in integers)


def variant_table(choice: ChoiceRecord) -> Table:
    """Tabulate the variants, the cheapest first, those that could not be chosen last."""
    headers = (
        *("variant", "achieved", "verdict", "why", "kernels"),
        *("activations", "weights", "MB moved", "lost"),
    )
    rows: list[list[str | Cell]] = [
        [
            one.name,
            _achieved(one) or NONE,
            Cell(one.verdict, _TONES[one.verdict]),
            one.reason,
            NONE if one.kernels is None else f"{one.kernels}",
            *(_mb(part) for part in (one.activation_bytes, one.constant_bytes, one.bytes_moved)),
            fixed(one.loss).replace("-", "−"),
        ]
        for one in choice.variants
    ]
    return Table(headers, rows, left=4)


def variant_lines(choice: ChoiceRecord) -> Iterator[str]:
    """Yield the variants as lines of text, in the order of `variant_table`."""
    for one in choice.variants:
        figures = f" {_cost(one)} ({_achieved(one)})," if one.kernels is not None else ""
        lost = f", lost {fixed(one.loss)}" if one.loss is not None else ""
        yield f"{one.name}:{figures} {one.verdict}{lost}: {one.reason}"


def convolution_table(choice: ChoiceRecord) -> Table:
    """Tabulate what kernels with weights read and write, each variant in a column."""
    compiled = choice.compiled
    kinds = dict.fromkeys(kind for one in compiled for kind in one.convolutions)
    rows: list[list[str | Cell]] = [
        [kind, *(str(one.convolutions.get(kind, NONE)) for one in compiled)]
        for kind in sorted(kinds)
    ]
    return Table(("kernels with weights", *(one.name for one in compiled)), rows)


def _achieved(one: VariantRecord) -> str:
    counts = sorted(one.achieved.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in counts)


def _cost(one: VariantRecord) -> str:
    return f"{_mb(one.bytes_moved)} MB in {one.kernels} kernels"


def _mb(count: int | None) -> str:
    return NONE if count is None else f"{count / 1e6:.2f}"
