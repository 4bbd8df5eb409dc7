# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo world: a synthetic drive, its camera images, LiDAR sweeps and labels."""
