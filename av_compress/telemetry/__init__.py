# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where a frame's time goes: spans, percentile windows, drops, deadlines. Knows nothing of ROS."""
