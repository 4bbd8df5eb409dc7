# SPDX-License-Identifier: Apache-2.0
"""Tables, plots and pages out of results."""
