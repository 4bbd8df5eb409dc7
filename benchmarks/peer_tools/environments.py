# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual environments of the peers: made once, with pinned packages, apart from ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "out" / "peers"
# Dependencies are capped by the peers themselves; what decides the figures is pinned here.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime==1.32.0", "onnx==1.23.2"),
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1", "onnxruntime==1.32.0", "onnx==1.23.2"),
    "modelopt": ("nvidia-modelopt[onnx]==0.47.0", "torch==2.13.0"),
}
_STAMP = "requirements.txt"
_TAIL = 300


class PeerError(Exception):
    """A peer could not be installed, or failed; its own last words."""


@dataclass(frozen=True)
class Environment:
    """A peer's virtual environment.

    Attributes:
        name: key of `REQUIREMENTS`.
        cache: folder that holds the environments.

    """

    name: str
    cache: Path = CACHE

    def python(self) -> Path:
        """Return its interpreter; the environment is made where it is absent or outdated.

        Raises:
            PeerError: its packages cannot be installed.

        """
        folder, wanted = self.cache / self.name, "\n".join(REQUIREMENTS[self.name]) + "\n"
        python, stamp = folder / "bin" / "python", folder / _STAMP
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {self.name}: {', '.join(REQUIREMENTS[self.name])} ...", flush=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[self.name]],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise PeerError(f"not installed: {last_words(done.stderr)}")
        stamp.write_text(wanted, encoding="utf-8")
        return python


def store_inputs(path: Path, inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write input tensors for a driver: tensor name -> [samples, ...]."""
    np.savez(path, **{name: np.stack([one[name] for one in inputs]) for name in inputs[0]})


def last_words(text: str) -> str:
    """Return the last line of what a process said, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-_TAIL:] if lines else "no message"


@contextmanager
def open_driver(
    environment: Environment, script: str, arguments: list[str], log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Start a script of this folder in an environment, its stdin and stdout as pipes.

    Args:
        environment: whose interpreter runs it.
        script: file name of the script.
        arguments: its command line.
        log: receives what it says on stderr.

    Raises:
        PeerError: the environment cannot be made, or the script failed; its last words.

    """
    command = [str(environment.python()), str(Path(__file__).with_name(script)), *arguments]
    # A thread each: the machine is shared, and sums do not depend on the number of cores.
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    variables.pop("PYTHONPATH", None)
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        except BrokenPipeError:
            process.wait()
        finally:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
        if process.wait() != 0:
            raise PeerError(last_words(log.read_text(encoding="utf-8")))
