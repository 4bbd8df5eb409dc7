# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a plan's own host code may run: TensorRT's `engine_host_code_allowed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from av_compress.engines.trust.keys import TrustedKeys
from av_compress.engines.trust.signatures import verify_file
from av_compress.errors import BundleError
from av_compress.fileio import sha256_bytes

if TYPE_CHECKING:
    from av_compress.engines.bundle import Bundle


def host_code_allowed(bundle: Bundle, trusted_keys: TrustedKeys | None) -> bool:
    """Tell whether the plans of a bundle may bring code for the host.

    Version-compatible plans hold a copy of TensorRT's lean runtime, which is loaded as a shared
    library. That is allowed only where the recipe's author asked for it (`trust.allow_host_code`)
    and a trusted key signed the manifest that says so; the plan itself must then be signed too,
    which `Bundle.plans` sees to.

    Args:
        bundle: loaded.
        trusted_keys: those whose signature counts; None: nobody is trusted.

    """
    if trusted_keys is None or not bundle.manifest.allows_host_code:
        return False
    try:
        data = bundle.manifest_path.read_bytes()
        # What was parsed must be what is signed.
        return sha256_bytes(data) == bundle.sha256 and bool(
            verify_file("manifest", bundle.manifest_path, data, trusted_keys)
        )
    except (OSError, BundleError):
        return False
