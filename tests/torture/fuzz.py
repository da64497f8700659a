"""Mutated files for every reader: each is read,
or refused by a ValueError or OSError; what is read makes sense.

Each reader runs in a process of its own, so that a crash of a library is a finding and not the end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.torture.parts import FULL, Bench, Trial
from tests.torture.readers import READERS

SECONDS = 20  # for one file
EXPECTED = (ValueError, OSError, ImportError, MemoryError)  # what the command line makes one line of
TOKENS = (
    "nan|NaN|inf|-inf|Infinity|1e999|-1|0|1|00|9223372036854775808|1e-320|0x10|1_0|٣|99999999999999999999|null|true|[]"
    "|{}|\"|'|,|;|\t| |\n|\r\n|\r|\x00|\u2028|\u0301|é|\ufeff|../|/etc/passwd|~|!|&a|*a|<<"
    "|!!python/object/apply:os.getcwd []"
    "|[[[[|{{{{|%s|$HOME|-|--|#|:|::|.|\\|target|nontarget|train|" + "9" * 400 + "|" + "a" * 5000
)
PIECES = [token.encode() for token in TOKENS.split("|")]
PIECES += [bytes([255]) * 4, bytes(8), b"\xc3\x28", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x80\x04"]
PIECES += [b"RIFF", b"PK\x03\x04"]
PLACES = st.integers(0, 2**20)
EDITS = st.lists(st.tuples(st.integers(0, 6), PLACES, PLACES, st.sampled_from(PIECES)), min_size=1, max_size=4)
NUMBER = b"0123456789"


def mutate(content: bytes, edits: list[tuple[int, int, int, bytes]]) -> bytes:
    """Cut, flip, put in, double or exchange pieces."""
    for kind, one, other, piece in edits:
        size = len(content) + 1
        low, high = sorted((one % size, other % size))
        if kind == 0:
            content = content[:low]
        elif kind == 1 and content:
            place = one % len(content)
            content = content[:place] + bytes([content[place] ^ 1 << other % 8]) + content[place + 1 :]
        elif kind == 2:
            content = content[:low] + piece + content[low:]
        elif kind == 3:
            content = content[:low] + content[min(high, low + 40) :]
        elif kind == 4:
            content = content[:high] + content[low : min(high, low + 2000)] + content[high:]
        elif kind == 5:  # a number becomes something else
            places = [i for i in range(low, min(low + 400, len(content))) if content[i] in NUMBER]
            if places:
                end = places[0]
                while end < len(content) and content[end] in NUMBER + b".e-":
                    end += 1
                content = content[: places[0]] + piece + content[end:]
        else:  # a line is exchanged with another
            lines = content.split(b"\n")
            a, b = one % len(lines), other % len(lines)
            lines[a], lines[b] = lines[b], lines[a]
            content = b"\n".join(lines)
    return content


def inputs(bench: Bench) -> Iterator[Trial]:
    """Every reader; 20,000 mutated files in all."""
    bench.new()
    for name, (file, read, share) in READERS.items():
        if not file(bench.box):
            continue
        tried, lost = _in_own_process(
            name, file(bench.box), read, int((530 if bench.limit >= FULL else 20) * share), bench
        )
        for number in range(max(tried, 1)):
            yield Trial("mutated input", f"{name}", lost if number == 0 else "")


def _in_own_process(name: str, sample: Path, read: Callable, count: int, bench: Bench) -> tuple[int, str]:
    out, source = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(out)
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 1), os.dup2(null.fileno(), 2)
        result = (0, "the fuzzing itself failed")
        try:
            result = _fuzz(sample, read, count, bench)
        except BaseException as error:
            result = (0, f"the fuzzing itself failed: {error!r}"[:300])
        finally:
            os.write(source, json.dumps(result).encode())
            os._exit(0)
    os.close(source)
    with open(out, "rb") as stream:
        answer = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return tuple(json.loads(answer)) if answer else (1, f"{name}: the process ended with status {status}")


def _fuzz(sample: Path, read: Callable, count: int, bench: Bench) -> tuple[int, str]:
    warnings.simplefilter("ignore")
    for module in list(sys.modules.values()):  # Hypothesis asks each for its file; SpeechBrain's lazy ones would import
        if "Lazy" in type(module).__name__ or "Redirect" in type(module).__name__:
            vars(module).setdefault("__file__", None)
    logging.disable(logging.CRITICAL)
    os.chdir(bench.box)
    content, worst, tried = sample.read_bytes(), "", 0

    def stop(*_):
        raise Hangs

    signal.signal(signal.SIGALRM, stop)

    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(EDITS)
    def attempt(edits):
        nonlocal worst, tried
        tried += 1
        mutated = mutate(content, edits)
        sample.write_bytes(mutated)
        signal.alarm(SECONDS)
        try:
            read(sample)
        except EXPECTED:
            pass
        except (Exception, Hangs) as error:
            if len(worst) < 2000:
                last = error.__traceback__
                while last.tb_next:
                    last = last.tb_next
                where = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}"
                if where not in worst:
                    worst += f" | {type(error).__name__} at {where}: {str(error)[:80]!r} {edits!r}"[:600]
        finally:
            signal.alarm(0)

    attempt()
    sample.write_bytes(content)
    return tried, worst


class Hangs(BaseException):
    """More than SECONDS."""
