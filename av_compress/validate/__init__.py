# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Replay of bags and comparison with a reference."""
