# SPDX-License-Identifier: Apache-2.0
"""Pure functions of results and labels: average precision, agreement."""
