# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Loaded models that run tensors, and the bundles they come from."""
