# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the demo detector: assignment and losses by hand, export against the network."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

import onnxruntime as ort

from av_compress.train.demo_detector import export
from av_compress.train.losses import assign, decode, detection_loss, overlap
from av_compress.train.network import DemoDetector, cell_grid


def test_cells_near_the_centre_of_their_size_answer():
    grid = cell_grid(64, 64)
    cells, owner = assign(torch.tensor([[18.0, 18.0, 30.0, 30.0]]), grid)
    # 12 pixels: stride 8; centre 24,24; cells whose centre is within 12 pixels of it.
    assert set(grid[cells, 2].tolist()) == {8.0}
    assert sorted(map(tuple, grid[cells, :2].int().tolist())) == [
        (x, y) for x in (2, 3) for y in (2, 3)
    ]
    assert owner.tolist() == [0] * 4


def test_overlap_by_hand():
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    second = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]])
    iou, giou = overlap(first, second)
    torch.testing.assert_close(iou, torch.tensor([2 / 6, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([2 / 6, -1 / 3]))


def test_a_right_answer_costs_less_than_a_wrong_one():
    grid = cell_grid(64, 64)
    box = torch.tensor([[18.0, 18.0, 30.0, 30.0]])
    cells, _ = assign(box, grid)
    right = torch.zeros(1, len(grid), 6)
    right[..., 4] = -8
    right[0, cells, :2] = 24 / 8 - grid[cells, :2]
    right[0, cells, 2:4] = float(np.log(12 / 8))
    right[0, cells, 4:] = 8.0
    torch.testing.assert_close(decode(right[0, cells], grid[cells]), box.expand(len(cells), 4))
    wrong = right.clone()
    wrong[0, cells, 0] += 1
    label = [torch.tensor([0])]
    assert detection_loss(right, [box], label, grid) < 0.1
    assert detection_loss(wrong, [box], label, grid) > 1.0


def test_the_export_computes_what_the_network_does(tmp_path: Path):
    torch.manual_seed(0)
    network = DemoDetector(4).eval()
    export(network, 64, 96, tmp_path / "net.onnx")
    image = torch.rand(1, 3, 64, 96)
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": image.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(got, network(image).numpy(), rtol=1e-3, atol=1e-5)
