# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from av_compress.errors import AvCompressError, UsageError
from av_compress.fileio import (
    atomic_directory,
    atomic_file,
    canonical_json,
    sha256_file,
    write_text,
)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_hash_of_a_file_larger_than_a_block(tmp_path: Path):
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_canonical_json_does_not_depend_on_key_order():
    assert canonical_json({"b": [1, 2], "a": "ü"}) == canonical_json({"a": "ü", "b": [1, 2]})
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("nan")})


def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["file.txt"]


def test_written_files_follow_the_umask(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_an_interrupted_directory_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "bundle"
    with atomic_directory(path, "mark") as temporary:
        (temporary / "mark").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_directory(path, "mark") as temporary:
        (temporary / "mark").write_text("new")
        raise KeyboardInterrupt
    assert (path / "mark").read_text() == "old"
    assert entries(tmp_path) == ["bundle"]
    with atomic_directory(path, "mark") as temporary:
        (temporary / "mark").write_text("new")
    assert (path / "mark").read_text() == "new"
    assert entries(tmp_path) == ["bundle"]


def test_a_folder_that_is_not_ours_is_not_replaced(tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    with (
        pytest.raises(UsageError, match="not an earlier output"),
        atomic_directory(tmp_path / "home", "mark"),
    ):
        pass
    assert (tmp_path / "home/letter.txt").read_text() == "dear"


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path):
    path = tmp_path / "bundle"
    # /dev/full answers every write with "No space left on device", as a full disk does.
    with (
        pytest.raises(AvCompressError, match="No space left on device"),
        atomic_directory(path, "mark"),
        open("/dev/full", "w") as full,  # noqa: PTH123
    ):
        full.write("x" * 100_000)
    assert entries(tmp_path) == []
