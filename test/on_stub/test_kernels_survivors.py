# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernels choose of a detector's outputs decodes to the same bits as the whole."""

import numpy as np
import pytest
from helpers_cells import ANCHORS, CLASSES, LAYOUTS, fill, same_bits
from helpers_cuda_shim import HostCompiler
from helpers_task import image_context, make
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.engines.cuda import CudaContext, copy_in
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.survivors import SOURCE, Room, make_survivors
from av_compress.errors import EngineError
from av_compress.tensors import TensorSpec

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float16])
ALL = Room(capacity=1 << 20)


class Device:
    """Survivors in a context, and their outputs on the device."""

    def __init__(self, context, task, specs, images=1, room=None):
        self.context, self.task, self.stream = context, task, context.stream()
        module = load_kernels(context, SOURCE, HostCompiler())
        self.survivors = make_survivors(task, specs, module, images, room)
        self.buffers = {}

    def put(self, outputs):
        for name, array in outputs.items():
            if name not in self.buffers:
                self.buffers[name] = self.context.device_buffer(array.nbytes)
            copy_in(self.stream, self.buffers[name], np.ascontiguousarray(array))

    def launch(self, outputs, batch=1):
        self.put(outputs)
        self.survivors.launch(self.buffers, batch, self.stream)

    def find(self, outputs, batch=1):
        self.launch(outputs, batch)
        return self.survivors.collect()


def image_of(layout, outputs, image):
    return {
        name: array[image : image + 1] if layout.shapes[name][0] == 1 else array
        for name, array in outputs.items()
    }


def every_row(layout, outputs):
    return layout.rows({name: array.astype(np.float32) for name, array in outputs.items()})


def check(layout, task, outputs, survived):
    """One image's survivors: their rows are the outputs', and they decode to the same."""
    assert survived.count == len(survived.cells.indices)
    rows = every_row(layout, outputs)
    assert np.array_equal(survived.cells.rows, rows[survived.cells.indices], equal_nan=True)
    assert (np.diff(survived.cells.indices) > 0).all()
    assert same_bits(task.decode_cells(survived.cells), task.decode(outputs))
    # Smaller than the input: the largest numbers stay numbers.
    context = image_context(task, 48, 32)
    result = task.postprocess(outputs, context)
    assert same_bits(task.postprocess_cells(survived.cells, context), result)
    return len(result)


@every_layout
@both_types
def test_each_image_of_a_batch(context, layout, dtype):
    task = layout.task(score_threshold=0.3, multi_label=True)
    batch = 1 if len(next(iter(layout.shapes.values()))) == 2 else 3
    device = Device(context, task, layout.specs(dtype, batch=1 if batch == 1 else None), batch)
    for edges in (0.0, 0.02, 0.7):
        outputs = fill(layout, 3, 0.3, edges, dtype, batch)
        found = device.find(outputs, batch)
        assert len(found) == batch
        images = [image_of(layout, outputs, image) for image in range(batch)]
        count = sum(check(layout, task, *pair) for pair in zip(images, found))
        assert count or edges


@every_layout
def test_no_more_survive_than_the_host_would_choose(context, layout):
    """The kernels' exp and pow are others than numpy's, so a cell on the edge may differ."""
    task = layout.task(score_threshold=0.8)
    device = Device(context, task, layout.specs())
    outputs = fill(layout, 9, 0.8, 0.0, np.float32)
    (survived,) = device.find(outputs)
    found = task.cell_outputs(layout.specs())
    by_role = {role: outputs[name] for role, name in found.tensors.items()}
    indices, _ = found.scoring.find(by_role, 0.8)
    assert survived.cells.indices.tolist() == indices.tolist()
    assert 0 < survived.count < found.scoring.cells


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**32),
    threshold=st.one_of(
        st.sampled_from([1e-300, 1e-8, 0.05, 0.25, 0.5, 0.9999999, 1.0]),
        st.floats(0.0, 1.0, exclude_min=True),
    ),
    edges=st.sampled_from([0.0, 0.1, 0.7, 1.0]),
    dtype=st.sampled_from([np.float32, np.float16]),
    multi_label=st.booleans(),
)
def test_no_cell_that_counts_is_lost(name, seed, threshold, edges, dtype, multi_label):
    layout = LAYOUTS[name]
    task = layout.task(score_threshold=threshold, multi_label=multi_label)
    outputs = fill(layout, seed, threshold, edges, dtype)
    with CudaContext.open() as context:
        (survived,) = Device(context, task, layout.specs(dtype), room=ALL).find(outputs)
    check(layout, task, outputs, survived)


def rows_task():
    return make({"type": "yolov5", "multi_label": True}, score_threshold=0.5)


def rows_specs(cells, dtype=np.float32, batch=1):
    return [TensorSpec("o", (batch, cells, 5 + CLASSES), np.dtype(dtype))]


def rows(*alive, cells=600):
    """For each image, rows of which those in `alive` are over the threshold."""
    array = np.zeros((len(alive), cells, 5 + CLASSES), np.float32)
    for image, indices in enumerate(alive):
        array[image, :, :4] = np.arange(cells)[:, None] + [10, 20, 4, 8]
        array[image, list(indices), 4:] = 0.9
    return {"o": array}


@pytest.mark.parametrize(
    "room", [Room(), Room(prefix=0), Room(600, 7), Room(600, 600), Room(9999)]
)
def test_none_few_and_all_survive(context, room):
    device = Device(context, rows_task(), rows_specs(600, batch=None), 4, room)
    alive = [(), (599,), range(0, 600, 2), range(600)]
    found = device.find(rows(*alive), 4)
    for indices, survived in zip(alive, found):
        assert survived.count == len(indices)
        assert survived.cells.indices.tolist() == list(indices)
        assert survived.cells.indices.dtype == np.intp
        assert survived.cells.rows.shape == (len(indices), 5 + CLASSES)
        assert survived.cells.rows.dtype == np.float32
        assert survived.cells.rows[:, 0].tolist() == [index + 10 for index in indices]


def test_an_image_with_too_many_survivors_says_so_and_the_others_are_whole(context):
    device = Device(context, rows_task(), rows_specs(600, batch=None), 5, Room(20, 6))
    alive = [range(20), range(21), range(3), range(600), range(100, 110)]
    found = device.find(rows(*alive), 5)
    assert [survived.count for survived in found] == [20, 21, 3, 600, 10]
    assert [survived.cells is None for survived in found] == [False, True, False, True, False]
    for image in (0, 2, 4):
        assert found[image].cells.indices.tolist() == list(alive[image])
    # The next run begins anew.
    assert [survived.count for survived in device.find(rows((5,), ()), 2)] == [1, 0]


def test_a_batch_that_is_not_full(context):
    device = Device(context, rows_task(), rows_specs(600, batch=None), 3, Room(50, 4))
    assert [s.count for s in device.find(rows(range(9), range(9), range(9)), 3)] == [9, 9, 9]
    found = device.find(rows((1, 2), range(7)), 2)
    assert [s.cells.indices.tolist() for s in found] == [[1, 2], list(range(7))]


def test_a_result_stays_as_it_is(context):
    device = Device(context, rows_task(), rows_specs(600), room=Room(600, 5))
    (first,) = device.find(rows(range(50)))
    kept = first.cells.rows.copy()
    device.find(rows(range(300, 400)))
    assert first.cells.indices.tolist() == list(range(50))
    assert np.array_equal(first.cells.rows, kept)


def test_every_half_precision_number_is_widened_exactly(context):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    array = np.ones((1, 1 << 14, 5 + CLASSES), np.float16)
    array[0, :, :4] = every.reshape(-1, 4)
    device = Device(context, rows_task(), rows_specs(1 << 14, np.float16), room=ALL)
    (survived,) = device.find({"o": array})
    values, exact = survived.cells.rows[:, :4].ravel(), every.astype(np.float32)
    numbers = ~np.isnan(exact)
    assert np.array_equal(values.view(np.uint32)[numbers], exact.view(np.uint32)[numbers])
    assert np.isnan(values[~numbers]).all()


def test_outputs_of_two_types(context):
    layout = LAYOUTS["nanodet scales none"]
    task = layout.task()
    outputs = fill(layout, 1, 0.3, 0.02, np.float32)
    outputs = {
        name: array.astype(np.float16) if name.startswith("d") else array
        for name, array in outputs.items()
    }
    specs = [TensorSpec(name, array.shape, array.dtype) for name, array in outputs.items()]
    (survived,) = Device(context, task, specs).find(outputs)
    assert check(layout, task, outputs, survived)


def test_one_copy_and_one_wait_where_the_prefix_suffices(stub, context):
    device = Device(context, rows_task(), rows_specs(600, batch=None), 2, Room(100, 10))
    outputs = rows(range(10), range(4))
    device.put(outputs)
    stub.clear()
    device.survivors.launch(device.buffers, 2, device.stream)
    device.survivors.collect()
    assert stub.count("cuMemcpyDtoHAsync_v2") == 1
    assert stub.count("cuEventSynchronize") == 1
    assert stub.count("cuLaunchKernel") == 2
    device.put(rows(range(11), range(50)))
    stub.clear()
    device.survivors.launch(device.buffers, 2, device.stream)
    found = device.survivors.collect()
    assert [survived.count for survived in found] == [11, 50]
    assert stub.count("cuMemcpyDtoHAsync_v2") == 3
    assert stub.count("cuEventSynchronize") == 2


def test_too_many_survivors_are_not_fetched(stub, context):
    device = Device(context, rows_task(), rows_specs(600), room=Room(100, 10))
    device.put(rows(range(101)))
    stub.clear()
    device.survivors.launch(device.buffers, 1, device.stream)
    (survived,) = device.survivors.collect()
    assert (survived.count, survived.cells) == (101, None)
    assert stub.count("cuMemcpyDtoHAsync_v2") == 1


def test_nothing_is_allocated_for_a_frame(stub, context):
    device = Device(context, rows_task(), rows_specs(600), room=Room(300, 10))
    kinds = [rows(()), rows(range(5)), rows(range(200)), rows(range(600))]
    device.find(kinds[0])
    before = stub.all_live()
    stub.clear()
    for outputs in kinds * 5:
        device.find(outputs)
    assert stub.all_live() == before
    made = {"cuMemAlloc_v2", "cuMemHostRegister_v2", "cuMemHostAlloc", "cuStreamCreate"}
    made |= {"cuEventCreate", "cuModuleLoadDataEx", "cuMemFree_v2"}
    assert not made & set(stub.called())


def test_survivors_of_several_frames_are_apart(context):
    """Two of them may be on their way at once, with one module."""
    task, specs = rows_task(), rows_specs(600)
    module = load_kernels(context, SOURCE, HostCompiler())
    devices = [Device(context, task, specs) for _ in range(2)]
    for device in devices:
        device.survivors = make_survivors(task, specs, module)
    devices[0].launch(rows((1, 2)))
    devices[1].launch(rows((3,)))
    found = [device.survivors.collect()[0].cells.indices.tolist() for device in devices]
    assert found == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("head", "shapes", "dtype"),
    [
        ({"type": "centernet"}, {"h": (1, 3, 16, 24), "s": (1, 2, 16, 24)}, np.float32),
        ({"type": "decoded"}, {"d": (1, 9, 6)}, np.float32),
        ({"type": "yolov5"}, {"o": (1, None, 8)}, np.float32),
        ({"type": "yolov5"}, {"o": (1, 0, 8)}, np.float32),
        ({"type": "yolov5"}, {"o": (1, 9, 8)}, np.float64),
        ({"type": "yolov5"}, {"o": (1, 2**28, 8)}, np.float32),
    ],
)
def test_outputs_that_must_be_fetched_as_a_whole(context, head, shapes, dtype):
    specs = [TensorSpec(name, shape, np.dtype(dtype)) for name, shape in shapes.items()]
    module = load_kernels(context, SOURCE, HostCompiler())
    assert make_survivors(make(head), specs, module) is None


def test_what_does_not_fit_is_refused(context):
    device = Device(context, rows_task(), rows_specs(600, batch=None), 2)
    with pytest.raises(EngineError, match="no choice of survivors was launched"):
        device.survivors.collect()
    device.put(rows((), ()))
    survivors, stream = device.survivors, device.stream
    with pytest.raises(EngineError, match="output 'o' is missing; given: other"):
        survivors.launch({"other": device.buffers["o"]}, 1, stream)
    short = context.device_buffer(100)
    with pytest.raises(EngineError, match="output 'o' has 100 bytes; 2 images need 38400"):
        survivors.launch({"o": short}, 2, stream)
    for batch in (0, 3):
        with pytest.raises(EngineError, match=f"survivors of {batch} images .* room for 1 to 2"):
            survivors.launch(device.buffers, batch, stream)
    survivors.launch(device.buffers, 2, stream)
    with pytest.raises(EngineError, match="an earlier run were not collected"):
        survivors.launch(device.buffers, 2, stream)
    assert len(survivors.collect()) == 2


def test_maps_of_several_groups_lie_behind_one_another(context):
    """The same cell as in the host's test: place (3, 5) of the second scale's last anchor."""
    layout = LAYOUTS["yolov5 maps sigmoid"]
    outputs = {name: np.full(shape, -9.0, np.float32) for name, shape in layout.shapes.items()}
    outputs["p1"][0, 16:, 3, 5] = np.arange(8)
    (survived,) = Device(context, layout.task(), layout.specs()).find(outputs)
    assert len(ANCHORS[1]) == 3
    assert survived.cells.indices.tolist() == [2 * 96 + 2 * 24 + 3 * 6 + 5]
    assert survived.cells.rows.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
