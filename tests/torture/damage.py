"""What changes between two commands: checkpoints are damaged;
recordings vanish, change or are replaced."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import yaml

from tests.fixtures.speech_tree import RATE, voice
from tests.torture.cases import CASES
from tests.torture.parts import FULL, Bench, Trial
from tests.torture.runner import KILL, Outcome, Trap, copy, difference, fork, state

TRAIN = CASES["train"]


def _truncate(file: Path, _: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file: Path, _: Path) -> None:
    file.write_bytes(b"")


def _flip(file: Path, _: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def _another(file: Path, other: Path) -> None:
    shutil.copyfile(other, file)


HARMS = {"truncated": _truncate, "emptied": _empty, "a flipped bit": _flip, "that of another run": _another}


def checkpoints(bench: Bench) -> Iterator[Trial]:
    """Each file of the newest checkpoint × four kinds of damage,
    of a run that was killed and of one that is done."""
    if bench.limit < FULL:
        return
    finished = bench.reference(TRAIN)[0]
    other = copy(bench.world, bench.box.with_name("other_run"))
    fork(shlex.split(TRAIN.other), other, bench.streams, Trap()).wait()
    strange = {file.name: file for file in _newest(other).iterdir()}
    for moment in ("killed", "finished"):
        stop = int(bench.reference(TRAIN)[1].changes * 0.7) if moment == "killed" else 0
        bench.new()
        bench.run(TRAIN, Trap(KILL, stop) if stop else Trap())
        begun = copy(bench.box, bench.box.with_name("begun"))
        for name in sorted(file.name for file in _newest(begun).iterdir()):
            for harm, damage in HARMS.items():
                copy(begun, bench.box)
                damage(_newest(bench.box) / name, strange[name])
                outcome = bench.run(TRAIN, Trap())
                lost = _unless_right(outcome, difference(finished, _without_aside(bench.box)))
                yield Trial(f"damaged checkpoint of a {moment} run", f"{name} {harm}", lost)
                if harm == "emptied":  # and the one before it too: nothing is left to go on from
                    copy(begun, bench.box)
                    for folder in (bench.box / "new/save").glob("CKPT*"):
                        damage(folder / name, strange[name])
                    outcome = bench.run(TRAIN, Trap())
                    right = outcome.clean_refusal and "every checkpoint is damaged" in outcome.err
                    yield Trial("all checkpoints damaged", f"{moment} {name}", "" if right else f"{outcome}"[-400:])


def recordings(bench: Bench) -> Iterator[Trial]:
    """A recording vanishes, changes or is replaced before, or between, commands that read it.

    Right is what a first run on the changed corpus would do: the same files,
    or a line that names the file or says that the data are not those of the run.
    """
    if bench.limit < FULL:
        return
    for name, change in CHANGES.items():
        for step, command in STEPS.items():
            bench.new()
            change(bench.box / VICTIM)
            anew = fork(shlex.split(command), bench.box, bench.streams, Trap()).wait()
            expected = _results(bench.box) if anew.status == 0 else None
            for stop in (0.0, 0.6):  # done, or killed on the way
                bench.new()
                changes = fork(shlex.split(command), bench.box, bench.streams, Trap()).wait().changes
                if stop:
                    bench.new()
                    fork(shlex.split(command), bench.box, bench.streams, Trap(KILL, int(stop * changes))).wait()
                change(bench.box / VICTIM)
                outcome = fork(shlex.split(command), bench.box, bench.streams, Trap()).wait()
                wrong = "accepted" if expected is None else difference(expected, _results(bench.box))
                lost = _unless_right(outcome, wrong)
                if outcome.clean_refusal and expected is not None and "other data" not in outcome.err:
                    lost = f"refused: {outcome.err[-200:]}"
                yield Trial(f"recording {name}", f"{step}, {'killed' if stop else 'finished'}", lost)


VICTIM = "wav/spk0/s0/02.wav"  # of a training speaker
STEPS = {
    "prepare": "prepare wav --trials speech_trials.txt --num-valid-speakers 2 -o new",
    "extract": "extract model manifest.csv --batch-size 2 -o new",
    "embed": "embed wav --model model --batch-size 4 -o new",
    "train": TRAIN.command.replace("--audit=headers ", ""),
}


def _write(file: Path, signal: np.ndarray, rate: int = RATE, **options) -> None:
    before = file.stat()
    soundfile.write(file, signal, rate, **options)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def _nan(file: Path) -> None:
    signal = soundfile.read(file)[0]
    signal[100] = np.nan
    _write(file, signal, subtype="FLOAT")


CHANGES = {
    "vanished": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "emptied": lambda file: file.write_bytes(b""),
    "replaced by other speech of the same length": lambda f: _write(f, voice(7, 9, soundfile.info(f).duration)),
    "replaced by longer speech": lambda file: _write(file, voice(7, 9, 0.9)),
    "replaced at another rate": lambda file: _write(file, soundfile.read(file)[0], 8000),
    "replaced by silence": lambda file: _write(file, 0 * soundfile.read(file)[0]),
    "given a NaN": _nan,
}  # fmt: skip


def _newest(box: Path) -> Path:
    saved = (box / "new/save").glob("CKPT+*/CKPT.yaml")  # within a second a name may be given a second time
    return max(saved, key=lambda meta: yaml.safe_load(meta.read_text())["unixtime"]).parent


def _without_aside(box: Path) -> dict[str, str]:
    return {name: value for name, value in state(box).items() if "damaged-" not in name}


def _results(box: Path) -> dict[str, str]:
    """The state of what was made, but for journals and notes of how it came about."""
    return {n: v for n, v in state(box).items() if n.startswith("new/") and not n.endswith((".journal", ".json"))}


def _unless_right(outcome: Outcome, difference: str) -> str:
    if outcome.clean_refusal:
        return ""
    if outcome.status or outcome.traceback:
        return f"status {outcome.status}: {outcome.err[-300:]}"
    return difference
