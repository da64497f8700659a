"""A command of ours in a process that is disturbed, and what is left of its folder.

The C library's calls are intercepted by `disturb.c`, which must be preloaded:
`python -m tests.torture` sees to that. Processes are of two kinds. A *forked* one is a copy of this
process, which has imported everything already, and runs `alpha_sv.cli.main`: milliseconds instead
of seconds. A *fresh* one is `python -m alpha_sv.cli`, start-up included.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNT, KILL, SIGNAL, FAIL, SLOW = range(5)
INTERRUPTED = "run the same command again to continue"
HEAVY = ("torch", "speechbrain", "alpha_sv.sb.experiment", "alpha_sv.verify.gallery", "alpha_sv.exchange.export")
LIGHT = ("numpy", "alpha_sv.cli", "alpha_sv.pipeline.evaluate", "alpha_sv.pipeline.calibrate", "alpha_sv.report.page")


@dataclass(frozen=True)
class Trap:
    """At the `at`-th change of the file system:
    KILL, SIGNAL or FAIL (and from there on) with `value`, or nothing."""

    action: int = COUNT
    at: int = 0
    value: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its status (negative: by which signal),
    its two streams, the changes it was counted, and its seconds of CPU.
    """

    status: int
    out: str
    err: str
    changes: int = 0
    seconds: float = 0.0

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.out + self.err or self.status == 70

    @property
    def worker_died(self) -> bool:
        """It was not the command but a worker of it that was disturbed, and the command says so."""
        return self.clean_refusal and "died" in self.err

    @property
    def clean_refusal(self) -> bool:
        """One line that says what is wrong, and the status for it."""
        return self.status == 2 and "alpha-sv: error: " in self.err and not self.traceback


def build(folder: Path) -> Path:
    """Compile the library that disturbs."""
    library = folder / "disturb.so"
    source = Path(__file__).with_name("disturb.c")
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def warm_up(light: bool = False) -> None:
    """Import what the verbs import, so that a forked process need not."""
    for name in LIGHT if light else (*LIGHT, *HEAVY):
        importlib.import_module(name)
    _settle()


def learn(streams: Path) -> None:
    """Import what the process that wrote there has imported,
    so that the next of its kind need not."""
    for name in (streams / "modules").read_text().split("\n"):
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # made by hand, not imported
                importlib.import_module(name)
    _settle()


def _settle() -> None:
    gc.collect()
    gc.freeze()  # so that no copy of this process looks through, and thereby copies, all that is here


class Child:
    """A running process; `wait` gives its outcome."""

    def __init__(self, pid: int, streams: Path):
        self.pid, self._streams = pid, streams

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def kill_at(self, seconds: float, number: int = signal.SIGKILL) -> None:
        """Send a signal when the process has used so
        many seconds of CPU, or nothing if it ends before.

        A busy machine makes every process slow;
        the place at which one is killed should not depend on that.
        """
        clock = ~self.pid << 3 | 2  # the clock of another process, as clock_getcpuclockid(3) makes it
        while not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.clock_gettime(clock) >= seconds:
                return self.kill(number)
            time.sleep(0.001)

    def wait(self, timeout: float = 300) -> Outcome:
        waited = 0.0  # by turns, not by the clock: this process may be stopped for a while
        while True:
            pid, status, used = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if waited > timeout:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"hangs: {self._read('err')[-500:]}")
            time.sleep(0.002)
            waited += 0.002
        counted = self._read("count")
        code = os.waitstatus_to_exitcode(status)
        seconds = used.ru_utime + used.ru_stime
        return Outcome(code, self._read("out"), self._read("err"), int(counted or 0), seconds)

    def _read(self, name: str) -> str:
        file = self._streams / name
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def fork(argv: Sequence[str], folder: Path, streams: Path, trap: Trap | None = None, prepare: Callable = None) -> Child:
    """Run `alpha-sv ARGV` in a copy of this process,
    in `folder`; `prepare` is called there first."""
    _empty(streams)
    sys.stdout.flush(), sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, streams)
    status = 71
    try:
        for number, name in ((1, "out"), (2, "err")):
            handle = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
        if "tqdm" in sys.modules:  # whose lock is shared by processes: one that is killed may hold it for ever
            sys.modules["tqdm"].tqdm.set_lock(threading.RLock())
        os.chdir(folder)
        os.environ["PWD"] = os.fspath(folder)
        if prepare:
            prepare()
        from alpha_sv.cli import main

        shim = ctypes.CDLL(None)
        if trap is not None:
            shim.disturb_arm(os.fsencode(folder), ctypes.c_long(trap.at), trap.action, ctypes.c_long(trap.value))
        try:
            status = main(list(argv))
        except SystemExit as stop:  # of argparse
            status = stop.code if isinstance(stop.code, int) else 1
        if trap is not None:
            seen = shim.disturb_seen()
            shim.disturb_arm(b"/nowhere", ctypes.c_long(0), COUNT, ctypes.c_long(0))
            if (experiment := sys.modules.get("alpha_sv.sb.experiment")) is not None:
                while experiment._held:  # as the end of a process would; a copy of one has no such end
                    experiment._held.popitem()[1].close()
            (streams / "count").write_text(str(seen))
            (streams / "modules").write_text("\n".join(sys.modules))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status or 0)


def fresh(argv: Sequence[str], folder: Path, streams: Path, trap: Trap | None = None) -> Child:
    """Run `python -m alpha_sv.cli ARGV` in `folder`."""
    _empty(streams)
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    if trap is None:
        environment.pop("LD_PRELOAD", None)
    else:
        environment["DISTURB"] = f"{folder}:{trap.at}:{trap.action}:{trap.value}"
    with open(streams / "out", "wb") as out, open(streams / "err", "wb") as err:
        command = [sys.executable, "-m", "alpha_sv.cli", *argv]
        streams_of = {"stdout": out, "stderr": err}
        process = subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=_hear_interrupts, **streams_of)
    process.returncode = 0  # `Child.wait` reaps it
    return Child(process.pid, streams)


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _empty(streams: Path) -> None:
    shutil.rmtree(streams, ignore_errors=True)
    streams.mkdir(parents=True)


def copy(world: Path, sandbox: Path) -> Path:
    """The sandbox as it was at first; times are kept, because the verbs look at them."""
    shutil.rmtree(sandbox, ignore_errors=True)
    shutil.copytree(world, sandbox, symlinks=True)
    return sandbox


_VOLATILE = re.compile(rb'"(seconds|files_per_second|read|known|unixtime)": [\d.]+|added": "[^"]*"')
_FOREIGN = re.compile(r"(^|/)(env\.log|log\.txt|[^/]*\.sqlite-(shm|wal))$")  # SpeechBrain's diary; SQLite's log
_UNORDERED = (".journal",)


def state(folder: Path) -> dict[str, str]:
    """Name → hash of every file, and every folder,
    without what differs between two undisturbed runs."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _FOREIGN.search(name):
            continue
        if "/CKPT+" in name:  # its name is a time, and its weights are compared in model/ and in the log
            name = re.sub(r"CKPT\+[^/]*", "CKPT", name)
            found[name] = str(int(found.get(name, 0)) + 1)
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = _hash(path)
    return found


def _hash(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".sqlite":
        return _gallery(path)
    if path.suffix == ".onnx":  # of the exporter: names of places in the source, and a date
        return f"{len(content) // 1000} kB"
    if path.suffix in _UNORDERED:
        content = b"\n".join(sorted(content.split(b"\n")))
    return hashlib.sha256(_VOLATILE.sub(b"", content)).hexdigest()


def _gallery(path: Path) -> str:
    from alpha_sv.verify.gallery import Gallery

    if not path.stat().st_size:
        return "empty"
    exported = json.dumps(Gallery(path, create=False).export(), sort_keys=True)
    return hashlib.sha256(exported.encode()).hexdigest()


def difference(one: dict[str, str], other: dict[str, str]) -> str:
    """What two states differ in, as text; "" if in nothing."""
    lines = [f"+{name}" for name in sorted(other.keys() - one.keys())]
    lines += [f"-{name}" for name in sorted(one.keys() - other.keys())]
    lines += [f"≠{name}" for name in sorted(one.keys() & other.keys()) if one[name] != other[name]]
    return " ".join(lines[:8])


NO_SPACE, READ_ONLY = errno.ENOSPC, errno.EROFS
