# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels of our own: CUDA sources, compiled for the device at hand once and kept."""
