# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in for TensorRT has what a version has, takes what it takes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from helpers_trt import rtx
from trt_stand_in import VERSIONS, NotInStandInError, make_module
from trt_stand_in.facts import FOLDER, SEVERITIES, Facts, Property, load_facts


def public(owner: Any) -> set[str]:
    return {name for name in dir(owner) if not name.startswith("_")}


def read(owner: Any, name: str) -> Any:
    return getattr(owner, name)


def expected(facts: Facts, name: str) -> set[str]:
    found = {member for member in facts.classes[name] if not member.startswith("_")}
    base = facts.bases.get(name)
    found |= expected(facts, base) if base else set()
    return found | ({*SEVERITIES, "Severity"} if name == "ILogger" else set())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_module_has_the_facts_names_and_no_others(version: str):
    module, _ = make_module(version)
    facts = load_facts(version)
    assert module.__name__ == facts.package
    assert module.__version__ == facts.version
    names = {*facts.classes, *facts.enums, *facts.functions, *facts.aliases}
    assert public(module) == names
    for name in facts.classes:
        assert public(getattr(module, name)) == expected(facts, name), name


@pytest.mark.parametrize("version", VERSIONS)
def test_the_facts_are_read_in_the_form_that_they_are_written_in(version: str):
    raw = json.loads((FOLDER / f"{version}.json").read_text())
    facts = load_facts(version)
    for owner, members in raw["classes"].items():
        for member, what in members.items():
            read = facts.classes[owner][member]
            assert isinstance(read, Property) == isinstance(what, str), (owner, member)


@pytest.mark.parametrize("version", VERSIONS)
def test_enumerations_have_their_members_and_are_no_integers(version: str):
    module, _ = make_module(version)
    for name, members in load_facts(version).enums.items():
        enum = getattr(module, name)
        assert {key: int(value) for key, value in enum.__members__.items()} == members
        assert public(enum) - {"name", "value", "itemsize"} == set(members)
    flag = module.BuilderFlag.TF32
    assert str(flag) == "BuilderFlag.TF32"
    assert module.BuilderFlag(int(flag)) == flag
    assert flag != int(flag)
    for wrong in (lambda: 1 << flag, lambda: flag | flag, lambda: flag < flag):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        read(module.BuilderFlag, "NOTHING")
    with pytest.raises(AttributeError):
        flag.other = 1


def test_what_is_known_to_differ_between_versions_differs():
    modules = {version: make_module(version)[0] for version in VERSIONS}
    weak = [v for v, module in modules.items() if hasattr(module.BuilderFlag, "FP16")]
    assert weak == ["8.6", "10.0", "10.3", "10.13", "10.16"]
    monitored = [v for v, module in modules.items() if not hasattr(module, "IProgressMonitor")]
    assert monitored == ["8.6"]
    ahead = [v for v, module in modules.items() if hasattr(module, "ComputeCapability")]
    assert ahead == ["rtx-1.7"]
    old = [v for v, m in modules.items() if hasattr(m.ICudaEngine, "device_memory_size")]
    assert old == weak
    assert int(modules["8.6"].BuilderFlag.VERSION_COMPATIBLE) == 15
    assert int(modules["10.3"].BuilderFlag.VERSION_COMPATIBLE) == 13
    assert int(modules["11.4"].BuilderFlag.VERSION_COMPATIBLE) == 12


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_attributes_are_refused_for_reading_and_writing(version: str):
    module, _ = make_module(version)
    builder = module.Builder(module.Logger())
    network = builder.create_network(1)
    for thing in (builder, network, builder.create_builder_config(), module.Dims((1, 2))):
        with pytest.raises(AttributeError):
            read(thing, "unknown")
        with pytest.raises(AttributeError):
            thing.unknown = 1
    with pytest.raises(AttributeError):
        read(module, "unknown")
    with pytest.raises(AttributeError):
        builder.num_DLA_cores = 1
    with pytest.raises(AttributeError):
        read(builder, "gpu_allocator")


@pytest.mark.parametrize("version", VERSIONS)
def test_arguments_that_no_overload_takes_are_refused(version: str):
    module, _ = make_module(version)
    builder = module.Builder(logger=module.Logger(module.Logger.ERROR))
    config = builder.create_builder_config()
    network = builder.create_network(flags=1)
    profile = builder.create_optimization_profile()
    pool = module.MemoryPoolType.WORKSPACE
    wrong = [
        module.Builder,
        lambda: module.Builder(None),
        lambda: module.Builder(module.Logger(), 1),
        lambda: builder.create_network(1, 2),
        lambda: builder.create_network(flag=1),
        lambda: builder.create_network(1.5),
        lambda: builder.create_network("1"),
        lambda: builder.build_serialized_network(network),
        lambda: builder.build_serialized_network(config, network),
        lambda: builder.build_serialized_network(network, None),
        lambda: config.set_flag(1),
        lambda: config.set_memory_pool_limit(pool, -1),
        lambda: config.set_memory_pool_limit(pool, 1.0),
        lambda: config.set_memory_pool_limit(pool, 2**70),
        lambda: config.set_timing_cache(None, False),
        lambda: config.create_timing_cache("text"),
        lambda: network.get_input(None),
        lambda: network.get_input(0.0),
        lambda: profile.set_shape("x", "a", (1,), (1,)),
        lambda: profile.set_shape("x", (1,), (1,)),
        lambda: module.OnnxParser(network, module.Logger()).parse("text"),
        lambda: module.Runtime(module.Logger()).deserialize_cuda_engine(None),
        lambda: setattr(config, "builder_optimization_level", "x"),
        lambda: setattr(config, "profiling_verbosity", 1),
        module.ICudaEngine,
        module.IHostMemory,
    ]
    for number, act in enumerate(wrong):
        with pytest.raises(TypeError):
            pytest.fail(f"case {number} was taken: {act()}")


def test_overloads_and_what_converts_is_taken():
    module, _ = make_module("10.3")
    builder = module.Builder(module.Logger())
    config = builder.create_builder_config()
    config.set_memory_pool_limit(pool_size=np.int64(2**30), pool=module.MemoryPoolType.WORKSPACE)
    assert config.get_memory_pool_limit(module.MemoryPoolType.WORKSPACE) == 2**30
    assert builder.create_network(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) is not None
    shape = module.Dims([1, 2, 3])
    assert shape == (1, 2, 3)
    assert tuple(shape) == (1, 2, 3)
    assert (len(shape), shape[1:], repr(shape)) == (3, (2, 3), "(1, 2, 3)")
    with pytest.raises(TypeError):
        shape == module.Dims((1, 2, 3))  # noqa: B015  (as with the real one)
    with pytest.raises(TypeError):
        hash(shape)
    weights = module.Weights(np.ones(3, np.float16))
    assert (weights.size, weights.nbytes, weights.dtype) == (3, 6, module.float16)


def derived(base: Any, calls: bool) -> Any:
    class Derived(base):
        def __init__(self) -> None:
            if calls:
                base.__init__(self)
                self.anything = 1

    return Derived


@pytest.mark.parametrize("version", VERSIONS)
def test_classes_to_derive_from_want_their_own_constructor_called(version: str):
    module, _ = make_module(version)
    names = ["ILogger", "IProfiler", "IGpuAllocator", "IErrorRecorder", "IOutputAllocator"]
    names += [n for n in ("IProgressMonitor", "IInt8EntropyCalibrator2") if hasattr(module, n)]
    for name in names:
        base = getattr(module, name)
        with pytest.raises(TypeError, match="must be called"):
            derived(base, calls=False)()
        assert derived(base, calls=True)().anything == 1
    with pytest.raises(RuntimeError, match="pure virtual"):
        module.ILogger().log(module.Logger.ERROR, "x")


def test_what_the_stand_in_does_not_do_says_so():
    module, _ = make_module("10.13")
    network = module.Builder(module.Logger()).create_network()
    with pytest.raises(NotInStandInError, match="add_shape"):
        network.add_shape(network_input(module))


def network_input(module: Any) -> Any:
    from helpers_qdq import convolution

    network = module.Builder(module.Logger()).create_network(2)
    parser = module.OnnxParser(network, module.Logger())
    assert parser.parse(convolution().model().SerializeToString())
    return network.get_input(0)


def test_host_memory_is_a_buffer_and_nothing_else():
    module, _ = make_module("10.3")
    config = module.Builder(module.Logger()).create_builder_config()
    memory = config.create_timing_cache(b"").serialize()
    assert isinstance(memory, module.IHostMemory)
    assert memory.nbytes == len(bytes(memory)) == memoryview(memory).nbytes > 0
    for wrong in (lambda: len(memory), lambda: memory[0], lambda: memory + b"", lambda: [*memory]):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        read(memory, "hex")


def test_the_surface_for_rtx_is_that_of_the_installed_package():
    real = rtx()
    module, _ = make_module("rtx-1.7")
    facts = load_facts("rtx-1.7")
    for name in facts.classes:
        theirs = getattr(real, name)
        assert public(getattr(module, name)) == public(theirs), name
        for member, what in facts.classes[name].items():
            found = getattr(theirs, member)
            if isinstance(found, property) and isinstance(what, Property):
                access = (found.fget is not None, found.fset is not None)
                assert (what.readable, what.writable) == access, (name, member)
    for name in facts.enums:
        numbers = {key: int(value) for key, value in getattr(real, name).__members__.items()}
        ours = {key: int(value) for key, value in getattr(module, name).__members__.items()}
        assert ours == numbers, name
    assert module.__version__ == real.__version__


@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "installed"])
def test_rtx_refuses_the_same_arguments_as_the_installed_package(real: bool):
    module = rtx() if real else make_module("rtx-1.7")[0]
    builder = module.Builder(module.Logger(module.Logger.ERROR))
    config = builder.create_builder_config()
    wrong = [
        module.Builder,
        lambda: builder.create_network(1, 2),
        lambda: builder.create_network(flag=1),
        lambda: builder.create_network(1.5),
        lambda: config.set_flag(3),
        lambda: config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, -1),
        lambda: setattr(config, "progress_monitor", 5),
        lambda: 1 << module.BuilderFlag.TF32,
        module.ICudaEngine,
        module.IHostMemory,
    ]
    for act in wrong:
        with pytest.raises(TypeError):
            act()
    assert config.builder_optimization_level == 3
    assert config.flags == 1 << int(module.BuilderFlag.TF32)
    assert config.max_aux_streams == -1
    assert config.DLA_core == -1
    assert builder.num_DLA_cores == 0
