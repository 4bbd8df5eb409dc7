# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from bags, folders, COCO files and the demo world."""
