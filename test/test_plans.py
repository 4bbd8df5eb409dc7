# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a builder's log says of a plan, and what is counted of it."""

from __future__ import annotations

import pytest

from av_compress.engines.plans.account import AskedNode, account_for, frames_listed
from av_compress.engines.plans.layers import PlanLayer, PlanTensor, parse_layers
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.errors import AvCompressError, EngineError, UsageError
from av_compress.fileio import sha256_bytes


def described(name: str, extents: str, dtype: str) -> str:
    return (
        f"{{ Name: {name}, Dimensions: [{extents}], Strides: [8,1,4,2], StrideOrder: [3,0,2,1], "
        f"Datatype: {dtype}, Format: (NHWC) Channel major format }}"
    )


CONVOLUTION = (
    f"Name: conv, 1_myl0_4, LayerType: correlation, "
    f"Inputs: [ {described('x, [odd]::1', '1,4,10,10', 'Int8')}], "
    f"Constants: [ {described('w', '16,4,3,3', 'Int8')}, {described('s', '1,16,1,1', 'Float')}], "
    f"Outputs: [ {described('y', '1,16,10,10', 'Half')}], TacticName: __stub, StreamId: 0, "
    "Metadata: [ONNX Layer: conv, 1]\x1f[ONNX Layer: a]b]\x1f[ONNX Layer: conv, 1]"
)
SIGNAL = (
    "Name: __mye1, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , "
    "StreamId: 0, EventId: 1, Metadata: "
)


def test_layers_are_read_from_the_log():
    (layer,) = parse_layers(["Engine Layer Information:\n" + CONVOLUTION, "noise", SIGNAL])
    assert (layer.name, layer.kind, layer.tactic) == ("conv, 1_myl0_4", "correlation", "__stub")
    assert layer.nodes == ("conv, 1", "a]b")
    assert layer.inputs == (PlanTensor("x, [odd]::1", (1, 4, 10, 10), "Int8", (8, 1, 4, 2)),)
    assert [tensor.dtype for tensor in layer.constants] == ["Int8", "Float"]
    assert layer.activation_bytes == 400 + 2 * 1600
    assert layer.constant_bytes == 576 + 64


def test_an_open_batch_counts_as_one_frame():
    assert PlanTensor("t", (-1, 4, 10), "Half").bytes == 80


def tensor(count: int, dtype: str) -> PlanTensor:
    return PlanTensor("t", (1, count), dtype)


def layer(name: str, kind: str, read: str, made: str, *nodes: str, weights: int = 0) -> PlanLayer:
    constants = (tensor(weights, read),) if weights else ()
    outputs = (tensor(10, made),)
    return PlanLayer(name, kind, (tensor(20, read),), constants, outputs, "", nodes)


def test_what_was_asked_is_held_against_what_was_made():
    layers = [
        layer("__myl_Cast_0", "kgen", "Float", "Half", "x_cast"),
        layer("__myl_MulRoun_1", "kgen", "Half", "Int8", "first", "first_q"),
        layer("first_myl0_2", "correlation", "Int8", "Float", "first", "first_dq", weights=64),
        layer("second_myl0_3", "runtime_fusion", "Half", "Half", "second", "third", weights=9),
        layer("__myl_Quan_4", "kgen", "Float", "Int8", "x_q", "x_dq"),
    ]
    asked = [
        AskedNode("first", "int8", 16),
        AskedNode("second", "int8", 9),
        AskedNode("third", "fp16", 9),
        AskedNode("fourth", "fp16", 5),
    ]
    operators = {
        **dict.fromkeys(("first", "second", "third", "fourth"), "Conv"),
        **{"first_q": "QuantizeLinear", "first_dq": "DequantizeLinear", "x_cast": "Cast"},
        **{"x_q": "QuantizeLinear", "x_dq": "DequantizeLinear"},
    }
    account = account_for(layers, asked, operators)
    assert [node.achieved for node in account.nodes] == ["int8", "fp16", "fp16", "absent"]
    assert [node.node for node in account.differing] == ["second"]
    assert account.nodes[0].padding == 4.0
    assert account.nodes[0].writes == "fp32"
    # Its own kernel alone: 20 read, 10 written in FP32, 64 weights.
    assert [node.bytes for node in account.nodes] == [20 + 40 + 64, 40 + 20 + 18, 78, 0]
    # One kernel does two nodes.
    assert account.convolutions == {"fp16 x fp16 -> fp16": 1, "int8 x int8 -> fp32": 1}
    assert account.kernels == 5
    assert account.conversions == 2
    reads, writes = 20 * (4 + 2 + 1 + 2 + 4), 10 * (2 + 1 + 4 + 2 + 1)
    assert account.activation_bytes == reads + writes
    assert account.constant_bytes == 64 + 18
    assert account.bytes_moved == account.activation_bytes + account.constant_bytes


def test_the_bytes_of_a_batch_are_shared_by_its_frames():
    def of(batch: int) -> PlanLayer:
        read, made = (PlanTensor("t", (batch, 3, 5), kind) for kind in ("Int8", "Float"))
        weights = (PlanTensor("w", (7,), "Int8"),)
        return PlanLayer("a_0", "correlation", (read,), weights, (made,), "", ("a",))

    asked = [AskedNode("a", "int8", 7)]
    account = account_for([of(8)], asked, {"a": "Conv"}, batch=8)
    # 15 read and 60 written for each frame; 7 of weights once for all eight.
    assert account.activation_bytes == 75
    assert account.constant_bytes == 1
    assert account.nodes[0].bytes == 76
    assert (account.kernels, account.batch) == (1, 8)
    assert account.nodes[0].padding == 1.0
    assert frames_listed([of(8)], 8) == 8
    # An open batch is counted for one frame already.
    assert frames_listed([of(8), of(-1)], 8) == 1
    assert account_for([of(-1)], asked, {"a": "Conv"}).activation_bytes == 75


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"capabilities": ("89",)}, "'89' is not of the form 8.9"),
        ({"workspace": 0}, "workspace 0"),
        ({"workspace": 2**63}, "more than any device's memory"),
        ({"optimization_level": 6}, "6 is not 0 to 5"),
        ({"dla_core": -1}, "DLA core -1"),
        ({"batch": (1, 4, 2)}, "ascend"),
        ({"batch": (0, 1, 1)}, "ascend"),
    ],
)
def test_options_out_of_range_are_refused(wrong, words):
    with pytest.raises(UsageError, match=words):
        CompileOptions(**wrong)


def record_of(data: bytes, **options) -> PlanRecord:
    target = PlanTarget.of("tensorrt", "0" * 64, "tensorrt_rtx", "1.7", CompileOptions(**options))
    return PlanRecord(target, sha256_bytes(data), len(data), 1.5, ("a",), {"kernels": 3})


def test_a_kept_plan_is_found_again(tmp_path):
    store, record = PlanStore.of(tmp_path), record_of(b"plan", capabilities=("8.9",))
    assert store.find(record.target) is None
    assert store.records() == []
    store.keep(record, b"plan")
    assert store.find(record.target) == record
    assert store.records() == [record]
    assert store.read(record) == b"plan"
    assert record_of(b"", capabilities=("8.6",)).target.key != record.target.key


def test_a_damaged_plan_is_none(tmp_path):
    store, record = PlanStore.of(tmp_path), record_of(b"plan")
    path = store.keep(record, b"plan")
    path.write_bytes(b"pla")
    assert store.find(record.target) is None
    with pytest.raises(EngineError, match="changed or damaged; compile it again"):
        store.read(record)
    path.unlink()
    assert store.find(record.target) is None
    with pytest.raises(EngineError, match="cannot be read"):
        store.read(record)
    (tmp_path / "plans" / f"{record.target.key}.json").write_text("{}")
    with pytest.raises(EngineError, match="compile again"):
        store.record(record.target.key)
    assert store.records() == []
    assert "compile again" in store.survey().unreadable[record.target.key].reason


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "plans").write_text("a file")
    store, record = PlanStore.of(tmp_path), record_of(b"plan")
    with pytest.raises(AvCompressError, match="cannot write"), store.compiling(record.target):
        pass
    with pytest.raises(AvCompressError, match="cannot write"):
        store.keep(record, b"plan")
