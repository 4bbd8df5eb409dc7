# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: real data, and a ROS environment of this test process's own."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from helpers_domain import claim_domain, from_on

# Test processes run side by side; each keeps to a thread or two.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent

# Before rclpy is imported anywhere: discovery stays on this machine, and processes that run tests
# at the same time do not hear each other. Set whatever was set before: the workers of one run
# inherit their controller's environment.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
_domain, _holder = claim_domain(from_on(os.getpid()))
atexit.register(_holder.close)
os.environ["ROS_DOMAIN_ID"] = str(_domain)
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds_shm_profile.xml")

# These run in processes of their own, over a stub of the CUDA driver: see test_on_stub.py.
collect_ignore = [] if "AV_COMPRESS_ON_STUB" in os.environ else ["on_stub"]

import pytest
from helpers_gpu import why_no_card
from hypothesis import settings

# How long an example takes says nothing on a machine that is busy with other tests.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_card = [item for item in items if item.get_closest_marker("gpu")]
    # Asked where there is something to run: it starts the driver in this process.
    reason = why_no_card() if on_card else ""
    for item in on_card if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep tests apart from what the user has built, and the user from what tests build."""
    os.environ["AV_COMPRESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real models and recordings; skip where it is absent."""
    folder = Path(os.environ.get("AV_COMPRESS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real models and data are absent: {folder} (set AV_COMPRESS_DATA)")
    return folder
