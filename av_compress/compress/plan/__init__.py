# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The precision plan: which precision every weighted node gets, and why."""
