# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Spans, latency windows and deadlines, free of ROS."""
