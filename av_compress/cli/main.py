# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `av-compress` command: one verb, its faults in one line, and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO, cast

from av_compress import __version__
from av_compress.errors import AvCompressError, DataWarning
from av_compress.progress import interruptible

# Verbs in the order in which a user meets them; each is a module of this package.
VERBS = (
    "build",
    "compile",
    "sign",
    "verify",
    "sensitivity",
    "observe",
    "inspect",
    "lint",
    "diff",
    "evaluate",
    "replay",
    "benchmark",
    "demo",
)

EXIT_INTERRUPTED = 128 + signal.SIGINT


class Verb(Protocol):
    """What a verb's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code."""
        ...


def _load(verb: str) -> Verb:
    return cast(Verb, importlib.import_module(f"av_compress.cli.{verb}"))


def make_parser(verbs: Sequence[str] = VERBS) -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="av-compress",
        description="Compress ONNX models of a driving stack, and prove that they still see.",
    )
    parser.add_argument("--version", action="version", version=f"av-compress {__version__}")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in verbs:
        verb = _load(name)
        command = commands.add_parser(name, help=verb.HELP, description=verb.HELP)
        verb.add_arguments(command)
        command.set_defaults(run=verb.run)
    return parser


@contextmanager
def _warnings_told(verb: str) -> Iterator[None]:
    """Print what data is warned of in one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        show = warnings.showwarning

        def tell(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, DataWarning):
                text = " ".join(str(message).split())
                print(f"av-compress {verb}: warning: {text}", file=sys.stderr)
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = tell
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done, 1 failed (build, gate, data), 2 wrong usage, 130 interrupted.

    """
    args = make_parser().parse_args(argv)
    try:
        with interruptible(), _warnings_told(args.verb):
            return int(args.run(args))
    except AvCompressError as error:
        message = " ".join(str(error).split())
        print(f"av-compress {args.verb}: error: {message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # What was measured until now may be in the cache; outputs appear whole or not at all.
        print(f"av-compress {args.verb}: interrupted", file=sys.stderr)
        # Where the interrupt passed through an exec of text (dataclasses make their methods so),
        # CPython would still end the process by SIGINT, whatever main returns; the next exec of
        # text makes it forget.
        exec("")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): what is left to print has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or " ".join(str(error).split())
        print(f"av-compress {args.verb}: error: {where}{reason}", file=sys.stderr)
        return AvCompressError.exit_code


if __name__ == "__main__":
    sys.exit(main())
