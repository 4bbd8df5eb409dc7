# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""LiDAR detection: from points to 3D boxes."""
