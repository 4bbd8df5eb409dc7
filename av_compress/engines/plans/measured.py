# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What plans took on the cards that ran them, kept beside them.

The file of a plan's times (`KEY.times`) is apart from its record: a record may be signed, and what
was measured afterwards must not break that. No signature covers times, and nothing is decided by
them. Each entry names the plan by its hash, so that those of a plan that was compiled anew are
known to be old.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from av_compress.engines.plans.store import PlanRecord, PlanStore
from av_compress.errors import ConfigError, DataError
from av_compress.fileio import canonical_json, write_text
from av_compress.validation import validate

SUFFIX = ".times"


@dataclass(frozen=True)
class PlanTimes:
    """What a plan took on a card.

    Attributes:
        plan_sha256: hash of the plan.
        machine: the card and its power mode, see `engines.machine.describe`.
        batch: frames in each run.
        runs: how many were counted.
        latency_ms: `p50`, `p95`, `p99` and `max` of the host latency: copy in, execution, copy
            out.
        stages_ms: median of `h2d`, `execute` and `d2h`.
        drift: how far apart the medians of the turns lay, as a share of their median.
        frames_per_s: runs in flight at once -> frames a second.

    """

    plan_sha256: str
    machine: Mapping[str, str]
    batch: int
    runs: int
    latency_ms: Mapping[str, float]
    stages_ms: Mapping[str, float]
    drift: float
    frames_per_s: Mapping[str, float]


def times_path(store: PlanStore, record: PlanRecord) -> Path:
    """Return where the times of a plan lie."""
    return store.record_path(record.target.key).with_suffix(SUFFIX)


def load_times(store: PlanStore, record: PlanRecord) -> tuple[PlanTimes, ...]:
    """Read what a plan took, as far as it is still this plan; empty where it was never timed.

    Raises:
        DataError: the file is not what a benchmark writes.

    """
    path = times_path(store, record)
    if not path.is_file():
        return ()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        validate(value, "plan_times", str(path))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} cannot be used: {error}; remove it, or measure again") from error
    return tuple(
        PlanTimes(**entry) for entry in value["times"] if entry["plan_sha256"] == record.sha256
    )


def keep_times(store: PlanStore, record: PlanRecord, times: PlanTimes) -> Path:
    """Keep what a plan took; what was measured before on the same machine and batch goes.

    Returns:
        the file.

    Raises:
        DataError: there is a file that a benchmark did not write.
        AvCompressError: it cannot be written.

    """
    same = (times.machine, times.batch)
    others = [one for one in load_times(store, record) if (one.machine, one.batch) != same]
    path = times_path(store, record)
    write_text(path, canonical_json({"times": [asdict(one) for one in (*others, times)]}))
    return path
