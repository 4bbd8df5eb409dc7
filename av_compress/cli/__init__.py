# SPDX-License-Identifier: Apache-2.0
"""Command line: thin verbs over the floors below."""
