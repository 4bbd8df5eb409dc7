# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Compiled TensorRT plans: how they are made, and what the compiler made of a model."""
