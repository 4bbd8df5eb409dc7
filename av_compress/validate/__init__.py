# SPDX-License-Identifier: Apache-2.0
"""Replay of bags and comparison with a reference."""
