# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a model means: frame -> tensors, tensors -> result."""
