# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Test runs on one machine have ROS domains of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_domain import DOMAINS, claim_domain, from_on

ASK = """
import sys
from helpers_domain import claim_domain
domain, holder = claim_domain(map(int, sys.argv[1:]))
print(domain, flush=True)
sys.stdin.read()
"""


def ask(*domains: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASK, *map(str, domains)]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=here, stdin=pipe, stdout=pipe, text=True)


def test_every_domain_is_tried_once():
    for number in (0, 1, 100, 4711):
        assert sorted(from_on(number)) == list(DOMAINS)
    assert from_on(3)[0] != from_on(4)[0]


def test_a_domain_is_taken_until_its_process_ends():
    domain, held = claim_domain(DOMAINS)
    held.close()
    with ask(domain) as first:
        assert first.stdout.readline() == f"{domain}\n"
        with pytest.raises(RuntimeError, match="every ROS domain is taken"):
            claim_domain([domain])
        with ask(*from_on(domain - 1)) as second:
            assert int(second.stdout.readline()) != domain
            second.stdin.close()
        first.stdin.close()
    again, held = claim_domain([domain])
    held.close()
    assert again == domain


def test_this_process_holds_its_own():
    with pytest.raises(RuntimeError, match="every ROS domain is taken"):
        claim_domain([int(os.environ["ROS_DOMAIN_ID"])])
