# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m av_compress` is `av-compress`."""

import sys

from av_compress.cli.main import main

sys.exit(main())
