# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Graph passes, observers, thresholds, Q/DQ placement, FP16 cast."""
