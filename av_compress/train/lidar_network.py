# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo LiDAR detector's network: small PointPillars with a centre head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from av_compress.train.network import Unit

# Outputs beside the heatmap and how many channels each has, as the task's centre head has them.
BOX_MAPS = {"reg": 2, "height": 1, "dim": 3, "rot": 2}
# In cells of the input's grid.
STRIDE = 2


class Pillars(nn.Module):
    """Describes each pillar by the largest of what is learnt of its points.

    Source: Lang et al., PointPillars, 2019, section 2.1.
    """

    def __init__(self, features: int, channels: int) -> None:
        """Make a linear layer with batch normalisation."""
        super().__init__()
        self.linear = nn.Linear(features, channels, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(channels, momentum=0.03)

    def forward(self, voxels: Tensor) -> Tensor:
        """Map points [voxels, points, features] to [voxels, channels]."""
        count, depth, features = voxels.shape
        learnt = torch.relu(self.norm(self.linear(voxels.reshape(-1, features))))
        return learnt.reshape(count, depth, -1).amax(1)

    def fuse(self) -> None:
        """Put the normalisation into the linear layer; for a network that learns no more."""
        if isinstance(self.norm, nn.BatchNorm1d):
            self.linear = fuse_linear_bn_eval(self.linear, self.norm)
            self.norm = nn.Identity()


class DemoLidarDetector(nn.Module):
    """Pillars of one cloud -> maps of half the grid's rows and columns.

    Voxels [v, points, features] and linear indices int64 [v] give heatmap logits
    [1, classes, h, w] and the maps of `BOX_MAPS`.
    """

    def __init__(self, classes: int, features: int, cells: tuple[int, int]) -> None:
        """Make the network with random weights.

        Args:
            classes: how many.
            features: of a point.
            cells: rows and columns of the input's grid, multiples of 4.

        """
        super().__init__()
        self.cells, self.channels = cells, 32
        self.pillars = Pillars(features, self.channels)
        self.down2 = nn.Sequential(Unit(32, 32, stride=2), Unit(32, 32), Unit(32, 32))
        self.down4 = nn.Sequential(Unit(32, 64, stride=2), Unit(64, 64), Unit(64, 64))
        # Its normalisation would stay beside it in the exported graph.
        self.up = nn.Sequential(nn.ConvTranspose2d(64, 32, 2, 2), nn.ReLU(inplace=True))
        self.join = Unit(64, 32)
        self.heat = nn.Sequential(Unit(32, 32), nn.Conv2d(32, classes, 1))
        self.place = Unit(32, 32)
        self.boxes = nn.ModuleDict({n: nn.Conv2d(32, c, 1) for n, c in BOX_MAPS.items()})
        # Objects are rare: scores start low.
        nn.init.constant_(self.heat[1].bias, -4.0)

    def maps(self, voxels: Tensor, places: Tensor, clouds: int) -> dict[str, Tensor]:
        """Return the maps of several clouds.

        Args:
            voxels: of all clouds, [v, points, features].
            places: int64 [v], linear indices, those of cloud n moved by n * rows * columns.
            clouds: how many.

        """
        rows, columns = self.cells
        canvas = torch.zeros(clouds * rows * columns, self.channels)
        canvas = canvas.index_put((places,), self.pillars(voxels))
        above = canvas.reshape(clouds, rows, columns, self.channels).permute(0, 3, 1, 2)
        at2 = self.down2(above)
        shared = self.join(torch.cat([at2, self.up(self.down4(at2))], 1))
        place = self.place(shared)
        found = {name: layer(place) for name, layer in self.boxes.items()}
        return {"heatmap": self.heat(shared), **found}

    def forward(self, voxels: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
        """Return heatmap logits and the maps of `BOX_MAPS` of one cloud."""
        return tuple(self.maps(voxels, indices, 1).values())
