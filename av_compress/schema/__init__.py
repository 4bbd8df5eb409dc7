# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Published JSON schemas of recipes, manifests and node parameters."""
