"""The parts of the torture that disturb processes; each yields what was tried and how it ended."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.torture.cases import CASES, Case, make_world
from tests.torture.runner import (
    FAIL,
    INTERRUPTED,
    KILL,
    NO_SPACE,
    READ_ONLY,
    ROOT,
    SIGNAL,
    SLOW,
    Outcome,
    Trap,
    copy,
    difference,
    fork,
    fresh,
    learn,
    state,
)

FULL = 5  # from this `--limit` on what takes seconds is tried too
SLOW_VERBS = {"export onnx"}  # 20 s each


@dataclass(frozen=True)
class Trial:
    """One disturbance: its `kind` is a line of the table;
    `lost` says what was wrong afterwards, "" if nothing."""

    kind: str
    name: str
    lost: str = ""


class Bench:
    """A world, and a sandbox at a fixed path in which commands run,
    because paths enter what they write."""

    def __init__(self, folder: Path, light: bool = False, limit: int = 10):
        self.box, self.streams, self.limit = folder / "box", folder / "streams", limit
        self.world, self.random = make_world(folder / ("light" if light else "world"), light), random.Random(0)
        self.cases = [case for case in CASES.values() if case.light or not light]
        self._references: dict[str, tuple[dict, Outcome]] = {}
        self._starts: dict[bool, float] = {}

    def new(self) -> Path:
        return copy(self.world, self.box)

    def run(self, case: Case, trap: Trap | None = None, command: str = "") -> Outcome:
        argv = case.argv if not command else command.split()
        return fork(argv, self.box, self.streams, trap, case.prepare).wait()

    def reference(self, case: Case) -> tuple[dict, Outcome]:
        """What an undisturbed run leaves."""
        if case.name not in self._references:
            self.new()
            outcome = self.run(case, Trap())
            assert outcome.status in case.statuses, f"{case.name}: {outcome}"
            learn(self.streams)
            self._references[case.name] = state(self.box), outcome
        return self._references[case.name]

    def points(self, case: Case, most: int) -> list[int]:
        """Numbers of changes, all of them or evenly spaced."""
        count = self.reference(case)[1].changes
        if case.name in SLOW_VERBS:
            return [count]
        every = (count - 1) / max(most - 1, 1)
        return list(range(1, count + 1)) if count <= most else sorted({1 + int(i * every) for i in range(most)})

    def seconds(self, case: Case, start) -> float:
        """How much CPU an undisturbed run takes; of a fresh process with what a start takes."""
        used = self.reference(case)[1].seconds
        if start is fork:
            return used
        if case.light not in self._starts:
            self.new()
            self._starts[case.light] = max(_start(self, case, fresh).wait().seconds - used, 0)
        return self._starts[case.light] + used

    def repeated(self, case: Case) -> str:
        """Type the same command again: what differs from an undisturbed run."""
        outcome = self.run(case, Trap())
        if outcome.traceback or outcome.status not in (*case.statuses, *case.again):
            return f"then status {outcome.status}: {outcome.err[-300:]}"
        return difference(self.reference(case)[0], state(self.box))


def kills(bench: Bench) -> Iterator[Trial]:
    """SIGKILL before a change of the file system;
    at a random moment; at one of a process from its start-up on."""
    for case in bench.cases:
        for at in bench.points(case, bench.limit):
            bench.new()
            outcome = bench.run(case, Trap(KILL, at))
            if outcome.status in case.statuses:  # with threads the number of changes varies
                continue
            assert outcome.worker_died or outcome.status == -signal.SIGKILL, f"{case.name} {at}: {outcome}"
            yield Trial("SIGKILL before a change of a file", f"{case.name} {at}", bench.repeated(case))
        for kind, start, rounds in (("a forked", fork, bench.limit // 3), ("a fresh", fresh, bench.limit // 5)):
            if bench.limit < FULL or case.name in SLOW_VERBS or start is fresh and case.prepare:
                continue
            for _ in range(rounds):
                moment = bench.random.uniform(0, bench.seconds(case, start))
                bench.new()
                child = _start(bench, case, start)
                child.kill_at(moment)
                child.wait()
                yield Trial(f"SIGKILL of {kind} process at a random moment", case.name, bench.repeated(case))


def signals(bench: Bench) -> Iterator[Trial]:
    """SIGINT and SIGTERM: one line, the status of the signal, and the same command finishes."""
    both, begins = (signal.SIGINT, signal.SIGTERM), 1.5 * _start_of_python()
    for place, case in enumerate(bench.cases):
        for number in both:
            for at in bench.points(case, min(2, bench.limit)):
                bench.new()
                outcome = bench.run(case, Trap(SIGNAL, at, number))
                if outcome.status in case.statuses and outcome.changes < at:  # with threads their number varies
                    continue
                lost = _badly_ended(outcome, number) or bench.repeated(case)
                yield Trial(f"{number.name} at a change of a file", f"{case.name} {at}", lost)
            if case.name in SLOW_VERBS or case.prepare or bench.limit < FULL or number != both[place % 2]:
                continue
            moment = bench.random.uniform(begins, bench.seconds(case, fresh))
            bench.new()
            child = _start(bench, case, fresh)
            child.kill_at(moment, number)
            outcome = child.wait()
            # done; or Python has not come to our first line,
            # or is past our last, and ends by the signal without a word
            finished = outcome.status in case.statuses or outcome.status == -number and not outcome.traceback
            lost = "" if finished else _badly_ended(outcome, number)
            yield Trial(f"{number.name} of a fresh process at a random moment", case.name, lost or bench.repeated(case))


def full_disk(bench: Bench) -> Iterator[Trial]:
    """No space left from a change on; then there is space again.
    And a real disk that is too small."""
    for case in bench.cases:
        for at in bench.points(case, min(3, bench.limit)):
            bench.new()
            outcome = bench.run(case, Trap(FAIL, at, NO_SPACE))
            lost = "" if outcome.status in case.statuses else _not_refused(outcome, "space") or _harm(bench)
            yield Trial("disk full from a change on", f"{case.name} {at}", lost or bench.repeated(case))
    if bench.limit < FULL or not _may_mount():
        return
    for case in bench.cases:
        if bench.reference(case)[1].changes and case.name not in SLOW_VERBS:
            for spare in (0, 16):
                lost = _on_small_disk(bench, case, spare)
                yield Trial("a real disk that is too small", f"{case.name} +{spare} kB", lost)


def read_only(bench: Bench) -> Iterator[Trial]:
    """A folder that cannot be written to: one line, and nothing is changed."""
    for case in bench.cases:
        bench.new()
        outcome = bench.run(case, Trap(FAIL, 1, READ_ONLY))
        lost = "" if outcome.status in case.statuses else _not_refused(outcome, "")
        yield Trial("read-only folder", case.name, lost or difference(state(bench.world), state(bench.box)))


def two_processes(bench: Bench) -> Iterator[Trial]:
    """Two processes in one folder, each held up at random before every change:
    one of them is done, or both are."""
    for case in bench.cases:
        if case.name in SLOW_VERBS:
            continue
        commands = [case.command, *([case.other] if case.other else [])]
        for other in commands:
            allowed = _in_some_order(bench, case, other)
            for _ in range(2 if bench.limit >= FULL else 1):
                bench.new()
                pair = []
                for number, command in enumerate((case.command, other)):
                    trap = Trap(SLOW, 0, bench.random.choice((300, 3000)))
                    streams = bench.streams.with_name(f"streams{number}")
                    pair.append(fork(_split(command), bench.box, streams, trap, case.prepare))
                outcomes = [child.wait() for child in pair]
                kind = "two processes, the same command" if other == case.command else "two processes, another command"
                yield Trial(kind, case.name, _quarrel(case, outcomes, state(bench.box), allowed))


def _start_of_python() -> float:
    """Seconds of CPU before our first line runs; a signal that early is Python's to answer."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import alpha_sv.cli"], check=True, env={**os.environ, "PYTHONPATH": ROOT})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _start(bench: Bench, case: Case, start):
    more = (Trap(), case.prepare) if start is fork else ()
    return start(case.argv, bench.box, bench.streams, *more)


def _split(command: str) -> list[str]:
    return Case("", command).argv


def _badly_ended(outcome: Outcome, number: int) -> str:
    if outcome.traceback:
        return f"traceback: {outcome.err[-400:]}"
    if outcome.worker_died:
        return ""
    # Python ends by the signal itself, which is 130 in a shell too,
    # if it came while a module was imported
    if outcome.status not in (128 + number, -signal.SIGINT) or INTERRUPTED not in outcome.err:
        return f"status {outcome.status}: {outcome.err[-200:]}"
    return ""


def _not_refused(outcome: Outcome, word: str) -> str:
    clean = outcome.clean_refusal and word in outcome.err
    return "" if clean else f"status {outcome.status}: {outcome.err[-400:]}"


def _harm(bench: Bench) -> str:
    """What there was before and is not any more."""
    before, now = state(bench.world), state(bench.box)
    return difference(before, {name: now.get(name) for name in before})


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def _on_small_disk(bench: Bench, case: Case, spare: int) -> str:
    """The sandbox on a file system of its own, with so many kB to spare."""
    bench.reference(case)
    shutil.rmtree(bench.box, ignore_errors=True)
    bench.box.mkdir()
    pages = sum(1 + -(-path.lstat().st_size // 4096) for path in bench.world.rglob("*"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * (pages + 1) + spare}k", "none", bench.box]
    subprocess.run(mount, check=True)
    try:
        shutil.copytree(bench.world, bench.box, symlinks=True, dirs_exist_ok=True)
        outcome = bench.run(case, Trap())
        subprocess.run(["mount", "-o", "remount,size=64m", bench.box], check=True)  # to look at a gallery, too
        lost = "" if outcome.status in case.statuses else _not_refused(outcome, "space") or _harm(bench)
        return lost or bench.repeated(case)
    finally:
        subprocess.run(["umount", "-l", bench.box], check=True)


def _in_some_order(bench: Bench, case: Case, other: str) -> list[dict]:
    """What may be left by two commands: that of one, or of both in some order."""
    found = []
    for commands in ((case.command,), (other,), (case.command, other), (other, case.command)):
        bench.new()
        for command in commands:
            fork(_split(command), bench.box, bench.streams, Trap(), case.prepare).wait()
        found.append(state(bench.box))
    return found


def _quarrel(case: Case, outcomes: list[Outcome], left: dict, allowed: list[dict]) -> str:
    done = [outcome.status in case.statuses for outcome in outcomes]
    for outcome, well in zip(outcomes, done, strict=True):
        if not well and not outcome.clean_refusal:
            return f"status {outcome.status}: {outcome.err[-300:]}"
    if not any(done):
        return f"both refused: {outcomes[0].err[-200:]} {outcomes[1].err[-200:]}"
    if left not in allowed:
        return f"statuses {[o.status for o in outcomes]}: {min((difference(one, left) for one in allowed), key=len)}"
    return ""
