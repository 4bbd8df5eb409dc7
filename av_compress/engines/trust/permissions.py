# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Files that nobody else can change: what is about to be executed is read from no others."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

from av_compress.errors import EngineError


class GuardError(EngineError):
    """What a file holds may be anybody's; making it again where it lies does not change that."""


def refuse_writable(path: Path, status: os.stat_result | None = None) -> None:
    """Refuse a file or folder that somebody beside its owner can write to.

    A group may write where it is the owner's own: where umask is 002 every file is made so. The
    owner himself and root are trusted.

    Args:
        path: of the file or folder.
        status: what the system says of it, where it is open already; else the path is asked.

    Raises:
        GuardError: it can be written to; says what to run.
        OSError: it is not there.

    """
    who = writers(path.stat() if status is None else status)
    if who:
        raise GuardError(
            f"{path} can be written by {who}: what it holds may be anybody's; "
            f"run: chmod go-w '{path}'"
        )


def writers(status: os.stat_result) -> str:
    """Say who beside its owner can write to a file or folder; empty: nobody."""
    if status.st_mode & stat.S_IWOTH:
        return "everyone"
    if status.st_mode & stat.S_IWGRP and not _own_group(status.st_uid, status.st_gid):
        return f"the group {_group_name(status.st_gid)}"
    return ""


def read_guarded(path: Path) -> bytes:
    """Read a file that nobody beside its owner can change.

    The folder and the file are judged by their open descriptors, and the bytes come from the same
    descriptor: nothing can be exchanged between the check and the reading.

    Raises:
        GuardError: somebody else can write to the file or its folder, or it is no plain file.
        OSError: it cannot be read.

    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        refuse_writable(path.parent, os.fstat(folder))
        # A pipe must not keep us waiting for whoever writes to it.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path.name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise GuardError(f"{path} is a link: put the file itself there") from error
        raise
    finally:
        os.close(folder)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - it is open already
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise GuardError(f"{path} is no plain file")
        refuse_writable(path, status)
        return stream.read()


def _own_group(owner: int, group: int) -> bool:
    """Tell whether a group is its owner's alone, as far as the system's tables say."""
    try:
        account = pwd.getpwuid(owner)
    except KeyError:
        # In a container accounts may have no names; private groups have their owner's number.
        return owner == group
    try:
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        members = set()
    return account.pw_gid == group and members <= {account.pw_name}


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)
