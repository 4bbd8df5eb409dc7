# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Training scripts; the only floor that imports torch."""
