# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Timing a bundle's models on this machine, side by side."""
