# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS domain that no other process which asks here has."""

from __future__ import annotations

import socket
from collections.abc import Iterable

# 0 to 101 are safe on every system; 0 is what everybody else has.
DOMAINS = range(1, 102)
# The last of the ports that DDS gives to a domain (RTPS 2.5, 9.6.2.3: from 7400 + 250 d on), that
# of the 120th participant on a machine: whoever holds it has the domain.
_BASE, _GAIN, _LAST = 7400, 250, 249


def claim_domain(domains: Iterable[int]) -> tuple[int, socket.socket]:
    """Take the first domain that is free.

    Returns:
        domain, and what holds it until it is closed or the process ends.

    Raises:
        RuntimeError: all are taken.

    """
    for domain in domains:
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind(("127.0.0.1", _BASE + _GAIN * domain + _LAST))
        except OSError:
            holder.close()
            continue
        return domain, holder
    raise RuntimeError("every ROS domain is taken by a run of tests on this machine")


def from_on(number: int) -> list[int]:
    """Return all domains in turn, beginning at one that a number picks."""
    start = number % len(DOMAINS)
    return [*DOMAINS[start:], *DOMAINS[:start]]
