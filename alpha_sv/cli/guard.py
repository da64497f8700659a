"""What stands around every verb: errors become one line,
signals an ending, and no verb overwrites its own input."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from alpha_sv.files import libtorch_writes

TRACEBACK = "ALPHA_SV_TRACEBACK"
USE, INTERNAL = 2, 70  # exit statuses: wrong use or input; EX_SOFTWARE of sysexits.h
PARTS = ("embeddings.npy", "index.csv", "meta.json", "embedder.safetensors", "config.json")  # of folders we read
NOTE = ".sources.json"
# what `pip install --no-deps` leaves out (README); extras say themselves how to get them
WHOLE = {"torch", "torchaudio", "speechbrain", "hyperpyyaml", "ruamel", "soundfile", "safetensors", "tqdm"}
_LOST = re.compile(r"[Cc]onnection (closed by peer|reset by peer)|ncclRemoteError|NCCL communicator was aborted")


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end a program as tidily as Ctrl-C does."""


def guarded(run: Callable[[], int | None]) -> int:
    """Run a verb and return its exit status: what `run` returns, 0 for None.

    Whatever is raised is one line on standard error: 2 for what the user can mend (a file, an
    option, the disk, the memory), 70 for what should not happen, 130 and 143 for signals. With
    ALPHA_SV_TRACEBACK=1 the traceback too.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.raiseExceptions = False  # a log on a full disk is no reason to print tracebacks
    logging.getLogger("speechbrain.utils.quirks").setLevel(logging.WARNING)  # it would speak first, about itself
    received: list[KeyboardInterrupt] = []
    try:
        with _signals(received), libtorch_writes():
            status = run()
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe has had enough; Python must not complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE  # what other tools end with
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except Exception as error:
        if received:  # what comes of half an import, or of a file of which a library was writing half
            return _interrupted(received[0])
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        if _LOST.search(str(error)) and not isinstance(error, ValueError):
            print(
                "alpha-sv: error: lost another process of this run: it was killed or failed, see its message or the "
                f"launcher's; the same command continues ({one_line(error):.200})",
                file=sys.stderr,
            )
            return USE
        expected = isinstance(error, (ValueError, OSError, ImportError, MemoryError))
        known = "" if expected else f" (unexpected; set {TRACEBACK}=1 to see where, and please report it)"
        print(f"alpha-sv: error: {one_line(error)}{known}", file=sys.stderr)
        return USE if expected else INTERNAL
    return status or 0


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    ended = isinstance(interrupt, Terminated)
    what = interrupt.args[0] if ended else "interrupted"
    print(f"alpha-sv: {what}; run the same command again to continue", file=sys.stderr)
    return 128 + (interrupt.args[1] if ended else signal.SIGINT)


def one_line(error: BaseException) -> str:
    """An exception as one line that names its file.

    >>> one_line(FileNotFoundError(2, "No such file or directory", "scores.txt"))
    'scores.txt: No such file or directory'
    >>> one_line(KeyError("lr"))
    "KeyError: 'lr'"
    """
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        names = [
            os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, Path))
        ]
        return f"{' → '.join(names) or repr(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({text})' if text else ''}; give a smaller file, or use a machine with more"
    if isinstance(error, ModuleNotFoundError) and error.name in WHOLE:
        return f"{error.name} is not installed, and this command needs it; install alpha_sv with its dependencies"
    if isinstance(error, (ValueError, OSError, ImportError)) and text:
        return text
    return f"{type(error).__name__}{f': {text}' if text else ''}"


@contextlib.contextmanager
def _signals(received: list[KeyboardInterrupt]) -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Terminated` within,
    unless somebody, such as nohup, has set them otherwise.

    What was raised for a signal is in `received`, too:
    a library may have put an error of its own in its place.
    """
    owner, before = os.getpid(), {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            received.append(KeyboardInterrupt())
        signal.default_int_handler(number, frame)

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that was forked: it has nothing to tidy up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.append(Terminated(f"ended by {signal.Signals(number).name}", number))
        raise received[-1]

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):  # not in the main thread
            before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not in the main thread
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_overwriting(arguments: argparse.Namespace) -> None:
    """Raise ValueError if an output of a verb is one of its inputs,
    by whatever name: links, other spellings, pipes.

    Inputs are all arguments of free text but `arguments.words`, and what lies beside or in them.
    Output is `output`, the files `arguments.makes` in it, and its note.
    """
    output = getattr(arguments, "output", None)
    if not output:
        return
    written = {f"{output}{NOTE}": None, **{os.path.join(output, name): None for name in arguments.makes}, output: None}
    written = {identity: path for path in written if (identity := _identity(path, 1))}
    for action in arguments.parser._actions:
        value = getattr(arguments, action.dest, None)
        if action.dest == "output" or action.dest in arguments.words or action.choices or action.type:
            continue
        for given in value if isinstance(value, list) else [value]:
            for path in _read_with(given) if isinstance(given, str) and given else ():
                if (identity := _identity(path, 0)) in written and identity:
                    raise ValueError(
                        f"the output {written[identity]} is the input {path}, which would be lost; give -o another name"
                    )


def _read_with(given: str) -> Iterator[str]:
    """The files behind an argument, "file" or "name=file":
    itself, its note and, of a folder, the parts of it."""
    for path in {given: None, given.partition("=")[2]: None}:
        if path:
            yield from (path, f"{path}{NOTE}", *(os.path.join(path, name) for name in PARTS))


def _identity(path: str, stream: int) -> tuple[int, int] | None:
    """What a path leads to, the same for each of its names;
    None if there is nothing that could be lost."""
    try:
        found = os.fstat(stream) if path == "-" else os.stat(os.path.realpath(path))  # as `atomic_write` does
    except (OSError, ValueError):
        return None
    regular = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return (found.st_dev, found.st_ino) if regular else None
