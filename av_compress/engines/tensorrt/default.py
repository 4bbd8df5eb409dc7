# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which backend a bundle is compiled with where none is named, and what runs plans here."""

from __future__ import annotations

from dataclasses import dataclass

from av_compress.engines.cuda import CudaError
from av_compress.engines.machine import card_name, find_card
from av_compress.engines.manifest import Manifest
from av_compress.engines.plans.choose import Runner
from av_compress.engines.tensorrt.module import BACKENDS, load_module
from av_compress.errors import EngineError, MissingExtraError


@dataclass(frozen=True)
class DefaultBackend:
    """A backend that nobody named, and why it is this one."""

    backend: str
    why: str


def default_backend(manifest: Manifest) -> DefaultBackend:
    """Return the backend that a bundle is compiled with where none is named.

    That is the one by whose account the bundle's form was chosen, or else the one that is
    installed. A bundle that was chosen on another machine may come to one that has the other
    backend alone: then it is this one.
    """
    choices = [record.choice for record in manifest.artefacts.values()]
    wanted = next((choice.backend for choice in choices if choice is not None), None)
    if wanted is not None and is_installed(wanted):
        return DefaultBackend(wanted, "the bundle was chosen for it")
    # The first of those that are there.
    here = next((backend for backend in BACKENDS if is_installed(backend)), None)
    if here is None:
        return DefaultBackend(wanted or "tensorrt", "neither backend is installed")
    if wanted is not None:
        return DefaultBackend(here, f"the bundle was chosen for {wanted}, which is not installed")
    return DefaultBackend(here, "it is installed")


def is_installed(backend: str) -> bool:
    """Tell whether a backend's package is there; it may still not load."""
    try:
        load_module(backend)
    except MissingExtraError:
        return False
    except EngineError:
        return True
    return True


def runner_here(backend: str) -> tuple[Runner, tuple[str, ...]]:
    """Return what would run a backend's plans on this machine, as far as that is known.

    Returns:
        the runner, and of each part that is not known why.

    """
    unknown = []
    version = ""
    try:
        version = str(load_module(backend, "its version").__version__)
    except MissingExtraError:
        unknown.append(f"{backend} is not installed")
    except EngineError as error:
        unknown.append(str(error))
    card = None
    try:
        card = find_card()
        if card is None:
            unknown.append("no card is seen here")
    except CudaError as error:
        unknown.append(str(error))
    if card is None:
        return Runner(backend, version, "", ""), tuple(unknown)
    return Runner(backend, version, card_name(card), card.capability, card.index), tuple(unknown)
