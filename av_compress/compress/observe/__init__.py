# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Observers of tensors, the runs that feed them, and the thresholds chosen from them."""
