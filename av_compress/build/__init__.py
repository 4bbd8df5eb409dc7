# SPDX-License-Identifier: Apache-2.0
"""From recipe to candidates, gates and bundle."""
