"""`-` in place of a file: standard input becomes a file
before a verb runs, standard output gets one after it.

Readers need whole files anyway (the layout is found from all lines, sources are hashed), and
writers write whole files or none, so each is left as it is. A named pipe, such as
`<(zcat scores.gz)`, can be read once only and becomes a file too. All that is not the data,
progress and logs, goes to standard error.
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
    """Within, each of the arguments named in `arguments.reads` that is a pipe,
    or "name=" and a pipe, is a file of that content."""
    values = {name: getattr(arguments, name) for name in arguments.reads}
    flat = [item for value in values.values() for item in (value if isinstance(value, list) else [value])]
    pipes = [pipe for item in flat if (pipe := _pipe(item))]
    if pipes.count("-") > 1:
        raise ValueError("standard input (-) can be read once; give the other files by their names")
    with tempfile.TemporaryDirectory(prefix="alpha-sv-") if pipes else contextlib.nullcontext() as folder:
        for name, value in values.items() if pipes else ():
            items = [_as_file(item, folder) for item in (value if isinstance(value, list) else [value])]
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


def _pipe(value: str | None) -> str:
    """The part of an argument that names a pipe; "" if there is none."""
    parts = (value, value.partition("=")[2]) if value else ()
    return next((part for part in parts if part == "-" or Path(part).is_fifo()), "")


def _as_file(value: str | None, folder: str) -> str | None:
    if not (pipe := _pipe(value)):
        return value
    file = Path(tempfile.mkdtemp(dir=folder), "stdin" if pipe == "-" else Path(pipe).name)
    content = contextlib.nullcontext(sys.stdin.buffer) if pipe == "-" else open(pipe, "rb")
    with content as data, open(file, "wb") as copy:
        shutil.copyfileobj(data, copy)
    return f"{value.removesuffix(pipe)}{file}"
