# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of a target, checked without it: what it refuses, misreads, or runs slowly."""
