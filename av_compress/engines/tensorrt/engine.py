# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The running half: a plan that runs tensors, with copies beside the execution."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from av_compress.engines.base import RunResult
from av_compress.engines.cuda import CudaContext, CudaError
from av_compress.engines.layer_times import LayerTime, layer_times
from av_compress.engines.tensorrt.load import load_plan
from av_compress.engines.tensorrt.log import make_log
from av_compress.engines.tensorrt.profile import kinds_of, make_profiler
from av_compress.engines.tensorrt.runtime_cache import RuntimeCache, make_context
from av_compress.engines.tensorrt.slots import OnDevice, Slot
from av_compress.engines.tensorrt.tensors import read_border
from av_compress.errors import EngineError
from av_compress.tensors import Array, Tensors

if TYPE_CHECKING:
    from tensorrt_api import TensorRT


@dataclass(frozen=True)
class RunOptions:
    """How a plan runs.

    Attributes:
        slots: frames that may be on the card at once; from 2 on one's copies run beside another's
            execution. Each has an execution context, and so activations, of its own.
        graph: launch the plan as one CUDA graph where its shapes are fixed and it can be captured.
        host_code: let the plan bring code for the host along; see `engines.trust.host_code`.
        dla_core: DLA core that runs it; None: the GPU.
        plan: which plan it is, for the description.

    """

    slots: int = 2
    graph: bool = True
    host_code: bool = False
    dla_core: int | None = None
    plan: str = ""


class TensorRTEngine:
    """A plan, loaded. Owns its CUDA context's use: made, used and closed by one thread.

    `run` takes one frame all the way. `submit` and `collect` apart let the copies of one frame run
    while another executes: results come in the order of submission. `submit_on_device` takes what
    is prepared on the device itself. Nothing is allocated for a frame, and the only wait is that
    for its outputs.

    Attributes:
        inputs: see `Engine`.
        outputs: see `Engine`.
        description: see `Engine`.
        max_batch: largest batch that the plan was compiled for; 1 where it is fixed.

    """

    def __init__(
        self,
        trt: TensorRT,
        plan: bytes,
        cuda: CudaContext,
        options: RunOptions | None = None,
        cache: RuntimeCache | None = None,
    ) -> None:
        """Load a plan whose hash was verified.

        Args:
            trt: the backend's module.
            plan: the plan.
            cuda: of the device that it was compiled for, opened in this thread; is closed with
                the engine, or where loading fails.
            options: how it runs.
            cache: what an earlier run compiled for this card just in time (TensorRT for RTX).

        Raises:
            EngineError: TensorRT refuses the plan, or its border cannot be served.
            CudaError: device memory does not suffice, or the device fails.

        """
        options = options or RunOptions()
        self._trt, self._cuda = trt, cuda
        self._closed = False
        self._collected: Slot | None = None
        self._kept = False
        self._cache: RuntimeCache | None = None
        self._log = make_log(trt)
        try:
            with cuda.active():
                self._load(plan, options, cache)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes, options: RunOptions, cache: RuntimeCache | None) -> None:
        trt, cuda = self._trt, self._cuda
        self._runtime, self._engine = load_plan(
            trt, self._log, plan, options.host_code, options.dla_core
        )
        # One for each slot: a graph holds the state of the context that it was recorded with,
        # which must not change as long as the graph lives.
        self._contexts: list[Any] = []
        for _ in range(max(1, options.slots)):
            self._contexts.append(self._make_context(cache))
            self._border = read_border(trt, self._engine, self._contexts[-1])
        self.inputs, self.outputs = self._border.inputs, self._border.outputs
        self.max_batch = self._border.batches[1] if self._border.batches else 1
        self._upload, self._compute, self._download = (cuda.stream() for _ in range(3))
        self._slots = [Slot(cuda, self._border, context) for context in self._contexts]
        self._free, self._busy = deque(self._slots), deque[Slot]()
        self._graphs = options.graph and self._border.batches is None and self._capture()
        launched = "CUDA graph" if self._graphs else "enqueued"
        which = f"plan {options.plan}, " if options.plan else ""
        self.description = f"TensorRT {trt.__version__}, {cuda.device.name}, {which}{launched}"
        self._cache = cache

    def _make_context(self, cache: RuntimeCache | None) -> Any:
        context = make_context(self._engine, cache)
        if context is None:
            raise EngineError(
                f"TensorRT makes no execution context: {self._log.said() or 'it says not why'}; "
                f"{self._cuda.free_bytes() >> 20} MiB of device memory are free"
            )
        return context

    @property
    def cuda(self) -> CudaContext:
        """The device's context, to make in it what prepares its inputs; ends with the engine."""
        return self._cuda

    @property
    def slots(self) -> int:
        """How many frames may be on their way at once."""
        return len(self._slots)

    def run(self, tensors: Tensors) -> RunResult:
        """Run once; see `Engine.run`.

        Raises:
            EngineError: an input does not fit, the plan does not run, or submitted frames were
                not collected.

        """
        if self._busy:
            raise EngineError("frames were submitted and not collected; collect them before a run")
        self.submit(tensors)
        return self.collect()

    def submit(self, tensors: Tensors) -> None:
        """Put a frame on its way and return at once; its arrays may be changed then.

        Raises:
            EngineError: an input does not fit, or every slot is taken: collect first.

        """
        self._check_open()
        self._check(tensors)
        first = tensors[self.inputs[0].name]
        slot = self._next()
        self._put(slot, partial(slot.upload, tensors), first.shape[0] if first.ndim else 1, None)

    def submit_on_device(self, fill: OnDevice, batch: int, take: OnDevice | None = None) -> None:
        """Put frames on their way whose inputs are made on the device.

        Args:
            fill: puts on the stream what fills the inputs' buffers (name -> buffer, sized for the
                largest batch, frame after frame).
            batch: how many frames that is; 1 where the plan has no open batch.
            take: puts on the stream what fetches of the outputs' buffers what is wanted; `collect`
                then has no outputs, `whole` gets them. None: they are copied whole.

        Raises:
            EngineError: the plan takes no such batch, or every slot is taken: collect first.

        """
        self._check_open()
        self._check_batch(batch)
        self._put(self._next(), fill, batch, take)

    def collect(self) -> RunResult:
        """Wait for the oldest submitted frame; its arrays are valid until its slot is used again.

        Raises:
            EngineError: nothing was submitted, or the device failed.

        """
        self._check_open()
        if not self._busy:
            raise EngineError("nothing was submitted")
        slot = self._busy.popleft()
        self._free.append(slot)
        self._collected = slot
        with self._cuda.active():
            result = slot.result()
            if self._cache is not None and not self._kept:
                # Now, since a process that is killed never closes its engine.
                self._kept = True
                self._cache.keep()
            return result

    def whole(self) -> dict[str, Array]:
        """Fetch all outputs of the frames collected last, of which only a part was taken.

        Raises:
            EngineError: nothing was collected since the last submission into its slot.

        """
        self._check_open()
        slot = self._collected
        if slot is None:
            raise EngineError("the outputs are no longer on the device; ask before the next frame")
        with self._cuda.active():
            slot.download(self._download)
            slot.wait()
            return slot.outputs()

    def profile(self, tensors: Tensors, runs: int) -> tuple[LayerTime, ...]:
        """Time each layer, in runs of their own: without a graph, and slowed by the profiler.

        Raises:
            EngineError: see `run`.

        """
        if self._busy:
            raise EngineError("frames were submitted and not collected; collect them before")
        self.run(tensors)
        # The one of that run, last in line: its inputs are on the device and serve once more.
        slot = self._free[-1]
        profiler = make_profiler(self._trt)
        slot.context.profiler = profiler
        try:
            with self._cuda.active():
                for _ in range(runs):
                    self._enqueue(slot)
                    self._compute.synchronize()
                return layer_times(profiler.taken, kinds_of(self._trt, self._engine))
        finally:
            slot.context.profiler = None

    def close(self) -> None:
        """Free the plan and everything on the device; calling it again does nothing.

        Raises:
            CudaError: another thread's than the owner's calls; nothing is freed then.

        """
        if self._closed:
            return
        self._cuda.check_thread()
        self._closed = True
        with ExitStack() as stack:
            stack.callback(self._cuda.close)
            if self._cache is not None and not self._cuda.lost:
                # With what other batches had compiled just in time.
                with self._cuda.active():
                    self._cache.keep()
            for name in ("_runtime", "_engine", "_contexts"):
                # The last first: each needs those before.
                stack.callback(self._drop, name)
            self._slots, self._free, self._busy = [], deque(), deque()
            self._collected = None

    def _drop(self, name: str) -> None:
        """Destroy what needs the device's context for it."""
        if name not in self.__dict__:
            return
        try:
            with self._cuda.active():
                if name == "_contexts":
                    self._cuda.synchronize()
                delattr(self, name)
        except CudaError:
            self.__dict__.pop(name, None)
            if not self._cuda.lost:
                raise

    def _capture(self) -> bool:
        """Make a graph for each slot; False where the plan cannot be captured."""
        for slot in self._slots:
            # The first run allocates and compiles what is missing, which no graph may.
            self._point(slot)
            self._execute(slot)
        self._compute.synchronize()
        for slot in self._slots:
            try:
                slot.graph = self._cuda.capture(self._compute, partial(self._execute, slot))
            except (CudaError, EngineError):
                if self._cuda.lost:
                    raise
                for other in self._slots:
                    other.graph = None
                return False
        return True

    def _next(self) -> Slot:
        if not self._free:
            raise EngineError(f"all {len(self._slots)} slots are taken; collect a result first")
        return self._free[0]

    def _put(self, slot: Slot, fill: OnDevice, batch: int, take: OnDevice | None) -> None:
        if slot is self._collected:
            self._collected = None
        slot.batch = batch
        with self._cuda.active():
            slot.fill(fill, self._upload)
            self._compute.wait(slot.uploaded)
            slot.started.record(self._compute)
            if slot.graph is not None:
                slot.graph.launch(self._compute)
            else:
                self._enqueue(slot)
            slot.executed.record(self._compute)
            if take is None:
                slot.download(self._download)
            else:
                slot.take(take, self._download)
        self._busy.append(self._free.popleft())

    def _enqueue(self, slot: Slot) -> None:
        for spec in self.inputs:
            if None in spec.shape:
                shape = self._border.shape(spec, slot.batch)
                if not slot.context.set_input_shape(spec.name, shape):
                    raise EngineError(f"the plan takes no {shape} for {spec}: {self._log.said()}")
        self._point(slot)
        self._execute(slot)

    def _point(self, slot: Slot) -> None:
        for name, buffer in slot.device.items():
            if not slot.context.set_tensor_address(name, buffer.address):
                raise EngineError(f"the plan takes no buffer for {name!r}: {self._log.said()}")

    def _execute(self, slot: Slot) -> None:
        # What was said of earlier frames says nothing of this one.
        self._log.forget()
        if not slot.context.execute_async_v3(self._compute.handle):
            raise EngineError(f"the plan does not run: {self._log.said() or 'it says not why'}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _check(self, tensors: Tensors) -> None:
        for spec in self.inputs:
            array = tensors.get(spec.name)
            if array is None:
                raise EngineError(f"input {spec} is missing; given: {', '.join(sorted(tensors))}")
            if not spec.accepts(array):
                raise EngineError(f"input {spec} does not accept {array.dtype} {array.shape}")
            if None in spec.shape:
                self._check_batch(array.shape[0], f"input {spec} has")

    def _check_batch(self, batch: int, what: str = "there is") -> None:
        # What has no open batch takes one run's worth, whatever its first axes are.
        least, most = self._border.batches or (1, 1)
        if not least <= batch <= most:
            raise EngineError(
                f"{what} a batch of {batch}; the plan was compiled for {least} to {most}; compile "
                "with --batch"
            )
