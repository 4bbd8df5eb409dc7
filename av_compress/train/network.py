# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo detector's network: a small convolutional pyramid with a YOLOX-like head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)


class Unit(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inside: int, outside: int, size: int = 3, stride: int = 1) -> None:
        """Make one with `same` padding."""
        super().__init__(
            nn.Conv2d(inside, outside, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outside, momentum=0.03),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """A bottleneck around which the input is added."""

    def __init__(self, channels: int) -> None:
        """Halve the channels inside."""
        super().__init__()
        self.inner = nn.Sequential(Unit(channels, channels // 2, 1), Unit(channels // 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x)."""
        out: Tensor = x + self.inner(x)
        return out


class DemoDetector(nn.Module):
    """Image [n, 3, h, w] in 0..1 -> rows [n, cells, 5 + classes].

    A row is x, y offsets from its cell and log width, height, all in strides; then objectness and
    class scores as probabilities (Ge et al., YOLOX, 2021).
    """

    def __init__(self, classes: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        self.stem = nn.Sequential(Unit(3, 16, stride=2), Unit(16, 24, stride=2))
        self.down8 = nn.Sequential(Unit(24, 48, stride=2), Residual(48), Residual(48))
        self.down16 = nn.Sequential(Unit(48, 80, stride=2), Residual(80), Residual(80))
        self.down32 = nn.Sequential(Unit(80, 96, stride=2), Residual(96))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.join16 = Unit(80 + 96, 64, 1)
        self.join8 = Unit(48 + 64, 48, 1)
        widths = (48, 64, 96)
        self.heads = nn.ModuleList(
            nn.Sequential(Unit(width, 48), nn.Conv2d(48, 5 + classes, 1)) for width in widths
        )
        for head in self.heads:
            # Objects are rare: scores start low.
            nn.init.constant_(head[1].bias[4:], -4.0)

    def raw(self, images: Tensor) -> Tensor:
        """Return the rows with scores as logits."""
        at8 = self.down8(self.stem(images))
        at16 = self.down16(at8)
        at32 = self.down32(at16)
        at16 = self.join16(torch.cat([at16, self.up(at32)], 1))
        at8 = self.join8(torch.cat([at8, self.up(at16)], 1))
        maps = [head(x) for head, x in zip(self.heads, (at8, at16, at32))]
        return torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the rows with scores as probabilities."""
        rows = self.raw(images)
        return torch.cat([rows[..., :4], rows[..., 4:].sigmoid()], 2)


def cell_grid(width: int, height: int) -> Tensor:
    """Return column, row and stride of every cell, float32 [cells, 3]."""
    parts = []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        parts.append(
            torch.stack([x.flatten(), y.flatten(), torch.full_like(x.flatten(), stride)], 1)
        )
    return torch.cat(parts).float()
