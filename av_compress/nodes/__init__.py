# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 lifecycle nodes: message <-> frame/result, QoS, parameters, publishing."""
