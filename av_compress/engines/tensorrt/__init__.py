# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT for RTX: compiling plans, and running them."""
