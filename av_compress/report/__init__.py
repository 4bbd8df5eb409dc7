# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables, plots and pages out of results."""
