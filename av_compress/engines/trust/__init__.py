# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whether what a bundle holds may be used: who signed it, and who else could have changed it."""
