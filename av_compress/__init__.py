# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed inference for autonomous-driving stacks: build, serve and prove INT8 models."""

__version__ = "0.1.0"
