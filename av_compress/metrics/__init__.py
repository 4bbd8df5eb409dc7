# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pure functions of results and labels: average precision, agreement."""
