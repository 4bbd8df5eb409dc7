# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Refinements: weights and scales changed so that INT8 hurts less."""
