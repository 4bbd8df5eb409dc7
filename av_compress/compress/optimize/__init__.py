# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Preparation: passes over a model's graph, each proven to keep its numbers."""
