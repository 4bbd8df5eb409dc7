# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The search for a precision plan by measurement."""
