# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What finds the places where rules are broken: functions of a model's view and a target."""
