# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From recipe to candidates, gates and bundle."""
