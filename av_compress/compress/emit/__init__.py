# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Emitters: a model, a plan and ranges in, a model with explicit Q/DQ or casts out."""
