# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every source file names its copyright and licence (as ament_copyright asks)."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Copyright 2026 The av_compress authors\n# SPDX-License-Identifier: Apache-2.0\n"


def sources() -> list[Path]:
    folders = ("av_compress", "test", "benchmarks", "scripts", "launch")
    return [
        ROOT / "setup.py",
        *(p for name in folders for p in sorted((ROOT / name).rglob("*.py"))),
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_header(path: Path):
    text = path.read_text(encoding="utf-8")
    text = text.removeprefix("#!/usr/bin/env python3\n")
    assert text.startswith(HEADER)


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


def test_nothing_of_this_machine_is_in_the_tree():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    parent = str(ROOT.parent)
    if len(Path(parent).parts) < 2:
        pytest.skip("the checkout lies at the root of the file system")
    found = subprocess.run(
        ["git", "grep", "-nIF", "-e", f"{parent}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
