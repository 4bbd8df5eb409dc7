# SPDX-License-Identifier: Apache-2.0
"""Published JSON schemas of recipes, manifests and node parameters."""
