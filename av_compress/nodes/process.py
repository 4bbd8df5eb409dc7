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

# Nothing ends the middleware's wait early.
SIGNAL_POLL_S = 0.1


def run_node(role: Role, argv: Sequence[str] | None = None) -> int:
    """Run a serving node until SIGINT or SIGTERM.

    Args:
        role: what kind of detector it is.
        argv: arguments with ROS's own among them; the process's by default.

    Returns:
        0 when it was told to stop; the error's exit code when it could not start; 1 when its
        device was lost.

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
    from rclpy.signals import SignalHandlerOptions

    from av_compress.nodes.runtime import ServingNode

    # rclpy's own handlers may lose a signal: its wait can be woken before its context is shut
    # down, and a KeyboardInterrupt can end in code that swallows it.
    signals = _Signals()
    rclpy.init(
        args=None if argv is None else list(argv), signal_handler_options=SignalHandlerOptions.NO
    )
    try:
        node = ServingNode(role)
        try:
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            while executor.context.ok() and not signals.came() and node.doom is None:
                executor.spin_once(timeout_sec=SIGNAL_POLL_S)
        finally:
            _end(node)
    except ExternalShutdownException:
        return 0
    finally:
        rclpy.try_shutdown()
    return 0 if node.doom is None else 1


class _Signals:
    """Tells whether SIGINT or SIGTERM has come.

    Nothing is raised: a launch and a terminal both send SIGINT, and the second must not break into
    the tidying up. C code writes the number to a pipe within the signal, whichever thread it
    reaches; a Python handler would run only once the main thread happens to look for it.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        for end in (self._read, write):
            os.set_blocking(end, False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def came(self) -> bool:
        try:
            return bool(os.read(self._read, 1))
        except BlockingIOError:
            return False


def _end(node: Any) -> None:
    try:
        node.end()
    except AvCompressError as error:
        node.get_logger().warning(f"left without waiting: {error}")
    node.destroy_node()
    if threading.active_count() > 1:
        # A model is still at work in its thread, and nothing can stop it: leave without the
        # interpreter's tidying up, which would take the ground from under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if node.doom is None else 1)


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
