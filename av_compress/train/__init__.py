# SPDX-License-Identifier: Apache-2.0
"""Training scripts; the only floor that imports torch."""
