"""`-` in place of a file: standard input becomes a file before a verb runs, standard output gets one after it.

Readers need whole files anyway (the layout is found from all lines, sources are hashed), and writers write whole
files or none, so each is left as it is. All that is not the data, progress and logs, goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def standard_input(arguments: argparse.Namespace) -> Iterator[None]:
    """Within, each of the arguments named in `arguments.reads` that is "-", or "name=-", is a file of that content."""
    values = {name: getattr(arguments, name) for name in arguments.reads}
    flat = [item for value in values.values() for item in (value if isinstance(value, list) else [value])]
    uses = sum(_is_stream(item) for item in flat)
    if uses > 1:
        raise ValueError("standard input (-) can be read once; give the other files by their names")
    with tempfile.TemporaryDirectory(prefix="alpha-sv-") if uses else contextlib.nullcontext() as folder:
        if uses:
            file = Path(folder, "stdin")
            with open(file, "wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            for name, value in values.items():
                items = value if isinstance(value, list) else [value]
                items = [f"{item[:-1]}{file}" if _is_stream(item) else item for item in items]
                setattr(arguments, name, items if isinstance(value, list) else items[0])
        yield


def deliver(output: str, write: Callable[[str], object]) -> None:
    """Let `write` write the file `output` and print its name; for "-", print its content."""
    if output != "-":
        write(output)
        print(output)
        return
    with tempfile.TemporaryDirectory(prefix="alpha-sv-") as folder:
        file = Path(folder, "stdout")
        write(str(file))
        sys.stdout.flush()
        with open(file, "rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)


def _is_stream(value: object) -> bool:
    return isinstance(value, str) and (value == "-" or value.endswith("=-"))
