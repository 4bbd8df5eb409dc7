# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The loop in which the demo's networks are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

Rows = npt.NDArray[np.intp]
NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)

_LARGEST_NORM = 10.0


def fit(
    network: NetworkT,
    samples: int,
    loss_of: Callable[[Rows, np.random.Generator], Any],
    epochs: int,
    batch: int,
) -> NetworkT:
    """Train with AdamW and one cycle of the learning rate, the same way each time.

    Args:
        network: with its first weights; is changed.
        samples: how many there are.
        loss_of: computes the loss of a batch, whose samples it is given by number; varies them by
            the generator.
        epochs: how often all samples are seen.
        batch: samples of a step; the rest of an epoch is left out.

    Returns:
        the network, ready to be used.

    """
    steps = epochs * (samples // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        order = rng.permutation(samples)
        total = 0.0
        for start in range(0, samples - batch + 1, batch):
            optimizer.zero_grad()
            loss = loss_of(order[start : start + batch], rng)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_NORM)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}/{epochs}: loss {total / (samples // batch):.3f}", flush=True)
    network.eval()
    return network
