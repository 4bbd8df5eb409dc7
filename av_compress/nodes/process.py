# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The process around a serving node: starts it, spins it, and ends within a second when told."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from av_compress.errors import AvCompressError
from av_compress.nodes.ros import require_rclpy

if TYPE_CHECKING:
    from av_compress.nodes.runtime import Role

# Of glibc's malloc.h. 32 MiB is the most that it takes for a threshold.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 32 << 20
_KEPT_FREE = 128 << 20


def run_node(role: Role, argv: Sequence[str] | None = None) -> int:
    """Run a serving node until SIGINT or SIGTERM.

    Args:
        role: what kind of detector it is.
        argv: arguments with ROS's own among them; the process's by default.

    Returns:
        0 when it was told to stop; the error's exit code when it could not start.

    """
    try:
        require_rclpy()
        _keep_freed_memory()
        return _spin(role, argv)
    except AvCompressError as error:
        print(f"{role.name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code


def _spin(role: Role, argv: Sequence[str] | None) -> int:
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    from av_compress.nodes.runtime import ServingNode

    try:
        rclpy.init(args=None if argv is None else list(argv))
        node = ServingNode(role)
        try:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            executor.spin()
        finally:
            _end(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0


def _end(node: Any) -> None:
    # A launch and a terminal both send SIGINT: the second must not break into the tidying up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        node.release()
    except AvCompressError as error:
        node.get_logger().warning(f"left without waiting: {error}")
    node.destroy_node()
    if threading.active_count() > 1:
        # A model is still at work in its thread, and nothing can stop it: leave without the
        # interpreter's tidying up, which would take the ground from under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _keep_freed_memory() -> None:
    """Let the allocator keep the memory of one image for the next one.

    glibc maps blocks of an image's size anew for each of the five copies that one makes on its
    way, and gives them back after it; the kernel then has to clear every page again, which costs
    more than the copies themselves.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # Not glibc: nothing to set.
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)
