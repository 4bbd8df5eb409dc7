# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Stores: arrays come back as they were written, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.compress.observe.store import read_header, read_store, write_store
from av_compress.errors import AvCompressError, DataError

HEADER = {"what": ["a", 1, None], "größe": 0.5}
ARRAYS = {
    "counts": np.arange(12, dtype=np.int64).reshape(3, 4),
    "0/names": np.array(["x", "длинно", ""], np.str_),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(2.5),
}
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.uint64]), hnp.array_shapes(min_side=0, max_side=4)
)


def written(folder: Path) -> Path:
    path = folder / "some" / "store.npz"
    write_store(path, HEADER, ARRAYS)
    return path


def test_what_was_written_is_read(tmp_path: Path):
    path = written(tmp_path)
    assert read_header(path) == HEADER
    header, arrays = read_store(path)
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert [entry.name for entry in path.parent.iterdir()] == ["store.npz"]


@settings(max_examples=50)
@given(st.dictionaries(NAMES.map("0/{}".format), VALUES, max_size=4))
def test_any_names_and_values(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("s") / "store.npz"
    write_store(path, {}, arrays)
    _, found = read_store(path)
    assert found.keys() == arrays.keys()
    # NaN included.
    assert all(found[name].tobytes() == array.tobytes() for name, array in arrays.items())


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_changes_nothing_or_is_found(tmp_path_factory, place, bit):
    path = written(tmp_path_factory.mktemp("s"))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        header, arrays = read_store(path)
    except DataError:
        return
    # Fields of the container that nobody reads, such as times.
    assert header == HEADER
    assert all(np.array_equal(arrays[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match="damaged"):
        read_store(path)


def test_arrays_of_another_file_are_refused(tmp_path: Path):
    path = written(tmp_path)
    with np.load(path) as held:
        members = {name: held[name] for name in held.files}
    members["counts"] = members["counts"] + 1
    np.savez(path, **members)
    assert read_header(path) == HEADER
    with pytest.raises(DataError, match="its content is not what was written"):
        read_store(path)


def test_what_is_no_store_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        read_header(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    np.savez(tmp_path / "list.npz", header=np.frombuffer(b"[1]", np.uint8))
    # Objects would be code: they are never loaded.
    np.savez(tmp_path / "objects.npz", header=np.array([{}], object))
    for name in ("other.npz", "plain.npy", "list.npz", "objects.npz", "."):
        with pytest.raises(DataError, match="damaged, or holds no observations"):
            read_header(tmp_path / name)


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AvCompressError, match="cannot write"):
        write_store(tmp_path / "file" / "store.npz", {}, {})
