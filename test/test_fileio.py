# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all."""

import errno
import hashlib
import os
import sys
from pathlib import Path

import pytest

from av_compress import fileio
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


def test_what_fails_in_reading_something_else_is_not_said_to_be_the_output(tmp_path: Path):
    for opened in (atomic_directory(tmp_path / "out", "mark"), atomic_file(tmp_path / "file")):
        with pytest.raises(FileNotFoundError) as caught, opened:
            (tmp_path / "absent.jpg").read_bytes()
        assert caught.value.filename == str(tmp_path / "absent.jpg")
    assert entries(tmp_path) == []


def test_what_fails_in_writing_into_the_folder_is_explained(tmp_path: Path):
    with (
        pytest.raises(AvCompressError, match=r"cannot write .*out: No such file"),
        atomic_directory(tmp_path / "out", "mark") as folder,
    ):
        (folder / "no/such/file").write_text("x")
    with (
        pytest.raises(AvCompressError, match="cannot write"),
        atomic_file(tmp_path / "file"),
    ):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert entries(tmp_path) == []


def replaced(path: Path) -> None:
    for text in ("old", "new"):
        with atomic_directory(path, "mark") as temporary:
            (temporary / "mark").write_text(text)
    assert (path / "mark").read_text() == "new"
    assert entries(path.parent) == [path.name]


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
def test_there_is_no_moment_without_a_folder(tmp_path: Path, monkeypatch):
    """The old one does not step aside first: a kill in between would leave none."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    if not fileio._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system does not exchange folders")
    moved = []
    original = Path.rename
    monkeypatch.setattr(Path, "rename", lambda a, b: moved.append(a.name) or original(a, b))
    replaced(tmp_path / "outer/bundle")
    # The first folder found nothing there to replace.
    assert len(moved) == 1


def test_where_folders_cannot_be_exchanged_two_steps_do_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fileio, "_exchange", lambda one, other: False)
    replaced(tmp_path / "bundle")


def test_a_link_to_an_earlier_output_is_replaced(tmp_path: Path):
    with atomic_directory(tmp_path / "real/bundle", "mark") as temporary:
        (temporary / "mark").write_text("old")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/bundle").symlink_to(tmp_path / "real/bundle")
    replaced(tmp_path / "here/bundle")
    assert (tmp_path / "real/bundle/mark").read_text() == "old"
