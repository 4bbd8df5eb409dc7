# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""IExecutionContext: shapes, addresses, and runs that go onto a stream."""

from __future__ import annotations

import weakref
from typing import Any

from trt_stand_in.execute import bytes_of, read_memory, write_memory
from trt_stand_in.world import Behaviour


class Context(Behaviour):
    """Runs an engine. It keeps the engine alive; nothing but itself keeps it alive."""

    kind = "IExecutionContext"

    def __init__(self, engine: Any, own_memory: bool) -> None:
        super().__init__(engine.world, engine.logger)
        self.engine = engine
        self.error_recorder = engine.error_recorder
        self.name = ""
        self.active_optimization_profile = 0
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self._input_shapes = _fixed_shapes(engine)
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self.scratch = 0 if not own_memory else -1
        self.profiler: Any = None
        self.enqueue_emits_profile, self.debug_sync = True, False
        self.nvtx_verbosity = engine.profiling_verbosity
        self.persistent_cache_limit = 0
        self.temporary_allocator: Any = None
        self.event = 0
        # Streams of runs that were enqueued and have not begun; theirs run in other threads.
        self.waiting: list[int] = []
        self.unfused_tensors_debug_state = False

    @staticmethod
    def made(engine: Any, own_memory: bool) -> Context | None:
        """Return a context; None where it does not fit into the card's memory."""
        limit = engine.world.control.memory_limit
        if own_memory and limit is not None and engine.header.scratch > limit:
            engine.error(
                f"Error Code 2: OutOfMemory (Requested size was {engine.header.scratch} bytes.)",
                "FAILED_ALLOCATION",
            )
            return None
        return Context(engine, own_memory)

    @property
    def device_memory(self) -> int:
        return self.scratch

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        self.scratch = address

    def set_device_memory(self, address: int, size: int) -> None:
        if size < self.engine.header.scratch:
            self.error(f"IExecutionContext::setDeviceMemoryV2: {size} bytes are too few")
            return
        self.scratch = address

    def update_device_memory_size_for_shapes(self) -> int:
        return self.engine.header.scratch

    # Shapes

    def _profile(self) -> dict[str, Any]:
        return self.engine.header.profiles[self.active_optimization_profile]

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if not 0 <= index < len(self.engine.header.profiles):
            return self.refuse(
                f"IExecutionContext::setOptimizationProfileAsync: no profile {index}"
            )
        self.active_optimization_profile = index
        self._input_shapes, self._shapes = _fixed_shapes(self.engine), None
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        what = "IExecutionContext::setInputShape"
        shape = tuple(int(extent) for extent in shape)
        entry = self.engine.tensors.get(name)
        if entry is None or entry["mode"] != "INPUT":
            return self.refuse(f"{what}: there is no input {name!r}")
        least, _, most = self._profile().get(name) or [entry["shape"]] * 3
        if len(shape) != len(least) or not all(
            low <= extent <= high for low, extent, high in zip(least, shape, most)
        ):
            return self.refuse(
                f"{what}: {name!r} of {list(shape)} is not within the profile's {least} to {most}"
            )
        self._input_shapes[name] = shape
        self._shapes = None
        return True

    def _inputs(self) -> list[str]:
        return [t["name"] for t in self.engine.header.tensors if t["mode"] == "INPUT"]

    @property
    def all_binding_shapes_specified(self) -> bool:
        return not self._unspecified()

    @property
    def all_shape_inputs_specified(self) -> bool:
        return True

    def _unspecified(self) -> list[str]:
        return [name for name in self._inputs() if name not in self._input_shapes]

    def infer_shapes(self) -> list[str]:
        return self._unspecified()

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        entry = self.engine.tensor(name, "getTensorShape")
        if entry is None:
            return ()
        if entry["mode"] == "INPUT":
            return self._input_shapes.get(name, tuple(entry["shape"]))
        if self._unspecified():
            return tuple(entry["shape"])
        if self._shapes is None:
            self._shapes = self.engine.program.shapes(self._input_shapes)
        return self._shapes.get(name, tuple(entry["shape"]))

    def get_tensor_strides(self, name: str) -> tuple[int, ...]:
        shape = self.get_tensor_shape(name)
        strides = [1] * len(shape)
        for axis in reversed(range(len(shape) - 1)):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        return tuple(strides)

    def get_max_output_size(self, name: str) -> int:
        inputs = {key: tuple(shapes[2]) for key, shapes in self._profile().items()}
        shape = self.engine.program.shapes(inputs).get(name, ())
        return bytes_of(tuple(abs(e) for e in shape), self.engine.tensors[name]["dtype"])

    # Addresses

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.engine.tensor(name, "setTensorAddress") is None:
            return False
        self.addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self.addresses.get(name, 0)

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        entry = self.engine.tensors.get(name)
        if entry is None or entry["mode"] != "OUTPUT":
            return self.refuse(f"IExecutionContext::setOutputAllocator: no output {name!r}")
        self.allocators[name] = allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self.allocators.get(name)

    def set_input_consumed_event(self, event: int) -> bool:
        self.event = event
        return True

    def get_input_consumed_event(self) -> int:
        return self.event

    def set_aux_streams(self, streams: list[int]) -> None:
        return None

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    # Runs

    def execute_async_v3(self, stream: int) -> bool:
        return self._enqueue(stream, dict(self.addresses), "enqueueV3")

    def execute_async_v2(self, bindings: list[int], stream: int, _event: Any = None) -> bool:
        addresses = dict(zip(self.engine.tensors, bindings))
        return self._enqueue(stream, addresses, "enqueueV2")

    def execute_v2(self, bindings: list[int]) -> bool:
        if len(bindings) != len(self.engine.tensors):
            return self.refuse(f"IExecutionContext::executeV2: {len(bindings)} bindings")
        run = self._prepare(dict(zip(self.engine.tensors, bindings)), "executeV2")
        if run is None:
            return False
        failed = _failure(self.world.control)
        if failed:
            return self.refuse(f"IExecutionContext::executeV2: {failed}", "FAILED_EXECUTION")
        run.go()
        self._tell_profiler()
        return True

    def _enqueue(self, stream: int, addresses: dict[str, int], member: str) -> bool:
        run = self._prepare(addresses, member)
        if run is None:
            return False
        if any(other != stream for other in self.waiting):
            run.fault("one context runs on two streams at once")
        run.stream = stream
        self.waiting.append(stream)
        self.world.launch(stream, run.work)
        if self.enqueue_emits_profile:
            self._tell_profiler()
        return True

    def report_to_profiler(self) -> bool:
        self._tell_profiler()
        return self.profiler is not None

    def _tell_profiler(self) -> None:
        # Nothing here is a measurement: every layer takes no time.
        for layer in self.engine.header.layers if self.profiler is not None else ():
            self.profiler.report_layer_time(layer["name"], 0.0)

    def _prepare(self, addresses: dict[str, int], member: str) -> Run | None:
        what = f"IExecutionContext::{member}"
        missing = self._unspecified()
        if missing:
            self.error(f"{what}: the shape of {missing[0]!r} is not set")
            return None
        if self.scratch == 0:
            self.error(f"{what}: the context has no device memory")
            return None
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.tensors}
        for name in self.engine.tensors:
            if not addresses.get(name) and name not in self.allocators:
                self.error(f"{what}: the address of {name!r} is not set")
                return None
            if -1 in shapes[name] and name not in self.allocators:
                self.error(f"{what}: {name!r} has extents that data decides: set an allocator")
                return None
        return Run(self, addresses, shapes)

    # Of 8.6

    def set_binding_shape(self, binding: int, shape: tuple[int, ...]) -> bool:
        return self.set_input_shape(self.engine.get_tensor_name(binding), shape)

    def get_binding_shape(self, binding: int) -> tuple[int, ...]:
        return self.get_tensor_shape(self.engine.get_tensor_name(binding))


def _fixed_shapes(engine: Any) -> dict[str, tuple[int, ...]]:
    inputs = (one for one in engine.header.tensors if one["mode"] == "INPUT")
    return {one["name"]: tuple(one["shape"]) for one in inputs if -1 not in one["shape"]}


def _failure(control: Any) -> str:
    return control.failures_of_work.pop(0) if control.failures_of_work else ""


def _reallocate(allocator: Any, name: str, address: int, size: int, stream: int) -> int:
    """Ask for memory. From 10 on the asynchronous form is asked first."""
    if hasattr(allocator, "reallocate_output_async"):
        return allocator.reallocate_output_async(name, address, size, 256, stream)
    return allocator.reallocate_output(name, address, size, 256)


class Run:
    """One run, as it was when it was enqueued. The context is not kept alive by it."""

    def __init__(self, context: Context, addresses: dict[str, int], shapes: dict) -> None:
        self.control = context.world.control
        self.tensors, self.program = context.engine.tensors, context.engine.program
        self.context = weakref.ref(context)
        self.addresses, self.shapes, self.stream = addresses, shapes, 0
        self.allocators = dict(context.allocators)
        self._check_memory("at enqueuing")

    def fault(self, text: str) -> None:
        self.control.faults.append(text)

    def _check_memory(self, when: str) -> bool:
        if self.control.is_memory is None:
            return True
        whole = True
        for name, entry in self.tensors.items():
            address, size = self.addresses.get(name, 0), self._bytes(name, entry)
            if name not in self.allocators and not self.control.is_memory(address, size):
                self.fault(f"{name!r} at {address:#x}, {size} bytes, is no memory {when}")
                whole = False
        return whole

    def _bytes(self, name: str, entry: dict[str, Any]) -> int:
        return bytes_of(self.shapes[name], entry["dtype"])

    def work(self) -> None:
        """Run on the stream: what goes wrong is noted, as nothing can be raised there."""
        context = self.context()
        if context is None:
            self.fault("a context was freed while its run was on a stream")
            return
        # Of a graph it runs again and again, and was enqueued once.
        if self.stream in context.waiting:
            context.waiting.remove(self.stream)
        failed = _failure(self.control)
        if failed:
            self.fault(failed)
            return
        if not self._check_memory("when the run begins"):
            return
        try:
            self.go()
        except Exception as error:
            self.fault(f"the run failed: {error}")

    def go(self) -> None:
        """Read the inputs, compute, write the outputs."""
        feeds = {
            name: read_memory(self.addresses[name], self.shapes[name], entry["dtype"])
            for name, entry in self.tensors.items()
            if entry["mode"] == "INPUT"
        }
        made = self.program.run(feeds)
        for name, entry in self.tensors.items():
            if entry["mode"] == "OUTPUT":
                self._write(name, entry["dtype"], made[name])

    def _write(self, name: str, dtype: str, value: Any) -> None:
        from trt_stand_in.execute import DTYPES

        value = value.astype(DTYPES[dtype], copy=False)
        address = self.addresses.get(name, 0)
        allocator = self.allocators.get(name)
        if allocator is not None:
            address = _reallocate(allocator, name, address, value.nbytes, self.stream)
            allocator.notify_shape(name, value.shape)
        elif value.shape != self.shapes[name]:
            raise ValueError(f"{name!r} has the shape {value.shape}, not {self.shapes[name]}")
        write_memory(address, value)
