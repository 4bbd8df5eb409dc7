# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node under every detector: it loads a bundle, serves topics and tells how it does.

What kind of detector it is comes from a `Role`. Configure verifies and loads the bundle and sends
a sample through everything; activate subscribes; deactivate and cleanup free what they made.
"""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions

from av_compress.errors import AvCompressError, EngineError
from av_compress.nodes import configuration
from av_compress.nodes.motion import Listener
from av_compress.nodes.parameters import declare_parameters, read_parameters
from av_compress.nodes.ros import message_class
from av_compress.nodes.session import Channel, Outputs, Reader, ServingSession
from av_compress.nodes.telemetry_output import DebugTimes, DiagnosticsOutput
from av_compress.nodes.throttle import QUIET_S, Throttle
from av_compress.nodes.topics import (
    Advertise,
    below,
    latched_listener_qos,
    sensor_qos,
    topic_below,
)
from av_compress.nodes.worker import LatestWinsWorker
from av_compress.tasks.base import Task
from av_compress.telemetry.batches import BatchMonitor
from av_compress.telemetry.monitor import Monitor

# tf comes in many small messages: as deep as tf2's own listener.
_MANY_MESSAGES = 100
# Warnings that differ by numbers alone are one and the same; numbers in names are not such.
_NUMBER = re.compile(r"\b\d[\d.]*(e[-+]?\d+)?\b")


class Role(Protocol):
    """What makes a serving node a detector of one kind.

    Attributes:
        name: the node's name and that of its parameter schema.
        task_kind: the task that its bundles must have.
        inputs: topic -> message type that its reader understands; each slot has its own.

    """

    name: str
    task_kind: str
    inputs: Mapping[str, str]

    def slots(self, parameters: Mapping[str, Any]) -> Sequence[str]:
        """Return the names of what is served in one batch; one without a name: no batches.

        Raises:
            ConfigError: there are none.

        """
        ...

    def channel(self, slot: str, parameters: Mapping[str, Any]) -> str:
        """Return below which name a slot's results are; slots that share one are served as one."""
        ...

    def window_s(self, parameters: Mapping[str, Any]) -> float:
        """Return how long a batch waits for those that have not come."""
        ...

    def make_reader(
        self, task: Task[Any, Any], parameters: Mapping[str, Any], warn: Callable[[str], None]
    ) -> Reader:
        """Return what reads messages for one configuration.

        Args:
            task: the bundle's.
            parameters: of the node.
            warn: logs what a user should know, the same at most once a second.

        Raises:
            ConfigError: parameters and task do not go together.

        """
        ...

    def make_outputs(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> Outputs:
        """Advertise the results."""
        ...


class ServingNode(LifecycleNode):  # type: ignore[misc]
    """A lifecycle node that serves a bundle.

    Attributes:
        doom: why the process must end, so that whoever launched it can start another; None while
            it need not.

    """

    def __init__(self, role: Role, **kwargs: Any) -> None:
        """Declare the parameters; everything else waits for configure.

        Args:
            role: what kind of detector this is.
            **kwargs: for rclpy's Node.

        Raises:
            ConfigError: a parameter given at start has the wrong type or leaves its range.

        """
        super().__init__(role.name, **kwargs)
        self._role = role
        # What configure and activate made, each freed as one.
        self._configured = ExitStack()
        self._activated = ExitStack()
        self._serving: _Serving | None = None
        self._ending = False
        self.doom: str | None = None
        self._throttle = Throttle(QUIET_S)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        declare_parameters(self, role.name)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Verify and load the bundle; failure leaves the node unconfigured."""
        return self._attempt("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and serve; failure leaves the node inactive."""
        return self._attempt("activate", lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, and wait until the frame in work is done."""
        return self._attempt("deactivate", self._activated.close)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the engine and the publishers."""
        return self._attempt("cleanup", self.release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from whatever state."""
        return self._attempt("shutdown", self.release)

    def monitor(self, slot: str = "") -> Monitor:
        """Return a slot's monitor of the current configuration.

        Raises:
            EngineError: the node is not configured.

        """
        return self._require_serving().channels[slot].monitor

    def end(self) -> None:
        """Free everything because the process is to end; see `release`."""
        self._ending = True
        self.release()

    def release(self) -> None:
        """Free everything that configure and activate made.

        Raises:
            EngineError: a model at work did not return in time.

        """
        self._serving = None
        with ExitStack() as both:
            both.callback(self._configured.close)
            both.callback(self._activated.close)
        # Histograms and rclpy's entities hold each other: without this they stay for a while.
        gc.collect()

    def _attempt(self, name: str, action: Callable[[], None]) -> TransitionCallbackReturn:
        # rclpy swallows what a transition raises, so it is told here.
        try:
            action()
        except AvCompressError as error:
            self.get_logger().error(f"{name} failed: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            self.get_logger().error(f"{name} failed unexpectedly:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        parameters = read_parameters(self, self._role.name)
        slots = tuple(self._role.slots(parameters))
        names = {slot: self._role.channel(slot, parameters) for slot in slots}
        batch = len(set(names.values()))
        bundle = configuration.load(parameters, self._role.name, self._role.task_kind)
        options = configuration.ort_options(parameters)
        if batch > bundle.manifest.max_batch:
            self.get_logger().warning(
                f"{batch} inputs, but the bundle takes {bundle.manifest.max_batch} at once: "
                f"build it with optimize: {{max_batch: {batch}}}"
            )
        with ExitStack() as stack:
            advertise = self._advertiser(stack)
            task = bundle.task()
            ways = {
                name: self._way_out(below(advertise, name), task, parameters)
                for name in dict.fromkeys(names.values())
            }
            channels = {
                slot: Channel(*ways[name], configuration.make_monitor(parameters))
                for slot, name in names.items()
            }
            diagnostics = DiagnosticsOutput(
                advertise,
                configuration.hardware(parameters["backend"], options),
                configuration.identity(bundle, options, parameters, batch > 1),
            )
            reader = self._role.make_reader(task, parameters, self._warn)
            batches = BatchMonitor(len(slots), parameters["diagnostics"]["window_s"])

            def open_session() -> ServingSession:
                session = ServingSession(
                    reader=reader,
                    pipeline=bundle.open_pipeline(
                        parameters["backend"],
                        options,
                        batched=batch > 1,
                        device=parameters["gpu_id"],
                        preprocess=configuration.where(parameters),
                    ),
                    channels=channels,
                    batches=batches,
                    clock=self.get_clock(),
                    logger=self.get_logger(),
                    give_up=self._give_up,
                )
                with ExitStack() as opening:
                    opening.callback(session.close)
                    session.warm_up()
                    self.get_logger().info(f"serves with {session.description}")
                    opening.pop_all()
                return session

            worker = LatestWinsWorker(
                self.get_name(), open_session, slots, self._role.window_s(parameters)
            )
            stack.callback(self._stop, worker)
            worker.start()
            self._serving = _Serving(
                worker,
                channels,
                [outputs for outputs, _ in ways.values()],
                batches,
                diagnostics,
                reader,
                parameters["diagnostics"]["period_s"],
            )
            self._configured = stack.pop_all()
        signed = "not required to be signed" if bundle.keys is None else "its signature verified"
        self.get_logger().info(f"loaded bundle {bundle.root} ({bundle.sha256[:12]}), {signed}")

    def _way_out(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> tuple[Outputs, DebugTimes]:
        return self._role.make_outputs(advertise, task, parameters), DebugTimes(advertise)

    def _activate(self, state: LifecycleState) -> None:
        serving = self._require_serving()
        with ExitStack() as stack:
            super().on_activate(state)
            stack.callback(super().on_deactivate, state)
            for channel in serving.channels.values():
                channel.monitor.forget()
            for outputs in serving.outputs:
                outputs.announce(self.get_clock().now().to_msg())
            serving.batches.forget()
            # The reader is the worker's while that is at work, be it with a frame of before.
            self._pause(serving.worker)
            serving.reader.forget()
            serving.worker.resume()
            stack.callback(self._pause, serving.worker)
            for slot in serving.channels:
                for topic, kind in self._role.inputs.items():
                    self._subscribe(stack, topic, message_class(kind), serving, slot)
            for listener in serving.reader.listeners():
                self._hear(stack, listener)
            # Real time: diagnostics go on when simulated time stands still.
            timer = self.create_timer(
                serving.period_s,
                lambda: self._report(serving),
                clock=self._steady,
            )
            stack.callback(self.destroy_timer, timer)
            self._activated = stack.pop_all()

    def _require_serving(self) -> _Serving:
        if self._serving is None:
            raise EngineError("nothing is configured")
        return self._serving

    def _subscribe(
        self, stack: ExitStack, topic: str, kind: Any, serving: _Serving, slot: str
    ) -> None:
        clock, monitor = self.get_clock(), serving.channels[slot].monitor

        def receive(message: Any) -> None:
            monitor.received(clock.now().nanoseconds)
            if not serving.worker.offer(message, slot):
                monitor.dropped()

        subscription = self.create_subscription(
            kind,
            topic_below(topic, slot),
            receive,
            sensor_qos(),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        stack.callback(self.destroy_subscription, subscription)

    def _hear(self, stack: ExitStack, listener: Listener) -> None:
        subscription = self.create_subscription(
            message_class(listener.kind),
            listener.topic,
            listener.receive,
            latched_listener_qos() if listener.latched else _MANY_MESSAGES,
        )
        stack.callback(self.destroy_subscription, subscription)

    def _warn(self, text: str) -> None:
        # One that is told once must not be lost since another was told just before.
        if self._throttle.passes(_NUMBER.sub("#", text)):
            self.get_logger().warning(text)

    def _give_up(self, reason: str) -> None:
        """Be told, in the worker's thread, that nothing can be served by this process any more."""
        if self.doom is None:
            self.get_logger().fatal(f"ends, since only a new process can serve: {reason}")
        self.doom = reason

    def _report(self, serving: _Serving) -> None:
        now = self.get_clock().now()
        name = self.get_name()
        reports = {
            f"{name}: {slot or 'serving'}": channel.monitor.report(now.nanoseconds)
            for slot, channel in serving.channels.items()
        }
        if len(reports) > 1:
            reports[f"{name}: all inputs"] = serving.batches.report()
        serving.diagnostics.publish(reports, now.to_msg())

    def _advertiser(self, stack: ExitStack) -> Advertise:
        def advertise(kind: str, topic: str, qos: Any) -> Any:
            publisher = self.create_lifecycle_publisher(message_class(kind), topic, qos)
            stack.callback(self.destroy_lifecycle_publisher, publisher)
            return publisher

        return advertise

    def _pause(self, worker: LatestWinsWorker[Any]) -> None:
        self._insist(worker.pause(self._patience_s()))

    def _stop(self, worker: LatestWinsWorker[Any]) -> None:
        self._insist(worker.stop(self._patience_s()))

    def _patience_s(self) -> float:
        """Return how long to wait for a model in work: not long when the process is to end."""
        return 0.4 if self._ending else 5.0

    def _insist(self, done: bool) -> None:
        if not done:
            raise EngineError("the model is still at work and was given up")


@dataclass(frozen=True)
class _Serving:
    """What configure made and activate uses."""

    worker: LatestWinsWorker[Any]
    channels: Mapping[str, Channel]
    outputs: Sequence[Outputs]
    batches: BatchMonitor
    diagnostics: DiagnosticsOutput
    reader: Reader
    period_s: float
