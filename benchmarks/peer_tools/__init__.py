# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Other quantisers, each in an environment of its own, and what their graphs are measured by."""
