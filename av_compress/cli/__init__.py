# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Command line: thin verbs over the floors below."""
