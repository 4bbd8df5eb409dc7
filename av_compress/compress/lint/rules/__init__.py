# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The rules, one entry each.

Consequences were seen in the real builder of TensorRT for RTX 1.7.1 where nothing else is said;
`tensorrt` proper has the same parser by its sources, and may compile otherwise.
"""
