# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One range for what a concatenation joins and makes."""

from __future__ import annotations

import numpy as np
from helpers_models import EVERYTHING, Network, prepared, samples
from onnx import numpy_helper

from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.observe.unify import unify_concats
from av_compress.compress.plan.precision import make_plan


def joined(tmp_path):
    """Two branches, joined; one of them read by another convolution too; joined once more."""
    net = Network(0, channels=4, side=8)
    first, second = net.relu(net.conv("image", 8)), net.relu(net.conv("image", 8))
    alone = net.conv(first, 8)
    both = net.add("Concat", [first, second], 16, 8, axis=1)
    made = net.conv(both, 8)
    again = net.add("Concat", [made, alone], 16, 8, axis=1)
    net.conv(again, 4)
    return prepared(net.model(), tmp_path), (first, second, both, again)


def test_joined_tensors_share_the_widest_range(tmp_path):
    model, (first, second, both, again) = joined(tmp_path)
    ranges = {first: (-1.0, 2.0), both: (0.0, 5.0), again: (-3.0, 3.0), "image": (-9.0, 9.0)}
    unified = unify_concats(model, ranges)
    assert unified[first] == unified[both] == (-1.0, 5.0)
    # What has no range of its own gets none; what is not joined keeps its own.
    assert second not in unified
    assert (unified[again], unified["image"]) == ((-3.0, 3.0), (-9.0, 9.0))
    assert ranges[first] == (-1.0, 2.0)
    assert unify_concats(model, {first: (-1.0, 2.0)}) == {first: (-1.0, 2.0)}


def test_concatenations_that_share_a_tensor_share_one_range(tmp_path):
    net = Network(0, channels=4, side=8)
    one = net.relu(net.conv("image", 8))
    two = net.add("Concat", [one, "image"], 12, 8, axis=1)
    three = net.add("Concat", [two, one], 20, 8, axis=1)
    net.conv(three, 4)
    unified = unify_concats(net.model(), {one: (0.0, 1.0), two: (0.0, 2.0), three: (-1.0, 1.0)})
    assert unified == dict.fromkeys((one, two, three), (-1.0, 2.0))


def test_the_form_has_one_scale_for_them(tmp_path):
    model, (first, _, both, _) = joined(tmp_path)
    plan = make_plan(model, EVERYTHING)
    calibrator = Calibrator(model, tensors_to_observe(model, plan, "tensorrt"))
    for feeds in samples(model):
        calibrator.observe(feeds)
    ranges = {name: (o.min, o.max) for name, o in calibrator.observers.items()}
    emitted = quantize(model, plan, unify_concats(model, ranges), {}, "tensorrt")
    scales = {t.name: numpy_helper.to_array(t) for t in emitted.graph.initializer}
    inputs = {n.input[0]: n.input[1] for n in emitted.graph.node if n.op_type == "QuantizeLinear"}
    np.testing.assert_array_equal(scales[inputs[first]], scales[inputs[both]])
