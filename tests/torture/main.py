"""The command of `make torture`: which parts run,
what is kept of them, and the table of docs/reliability.md."""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import time
from pathlib import Path

from alpha_sv.files import atomic_write
from tests.torture import damage, fuzz, parts
from tests.torture.runner import ROOT, warm_up

DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- begin of the table of make torture -->", "<!-- end of it -->"
PARTS = {
    "kills": parts.kills,
    "signals": parts.signals,
    "disk": parts.full_disk,
    "read-only": parts.read_only,
    "two": parts.two_processes,
    "checkpoints": damage.checkpoints,
    "recordings": damage.recordings,
    "inputs": fuzz.inputs,
}


def main(argv: list[str], folder: Path) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; those not done yet if none is named")
    parser.add_argument("--limit", type=int, default=5, help="changes of one command that are disturbed")
    parser.add_argument("--cases", help="only the cases in whose names this pattern is found")
    parser.add_argument("--without", help="leave out the cases in whose names this pattern is found")
    parser.add_argument("--light", action="store_true", help="only verbs that need no torch")
    a = parser.parse_args(argv)
    warm_up(a.light)
    lost, bench = 0, parts.Bench(_scratch(folder), a.light, a.limit)
    bench.cases = [case for case in bench.cases if re.search(a.cases or "", case.name)]
    bench.cases = [case for case in bench.cases if not (a.without and re.search(a.without, case.name))]
    for name in a.parts or [name for name in PARTS if not (folder / f"{name}.json").exists()]:
        bench.random.seed(name)  # the same moments whatever ran before
        started, trials = time.monotonic(), []
        for trial in PARTS[name](bench):
            trials.append(trial)
            if trial.lost:
                print(f"LOST {trial.kind}: {trial.name}: {' '.join(trial.lost.split())}", flush=True)
            if len(trials) % 10 == 0:
                (folder / f"{name}.unfinished").write_text(json.dumps(_rows(trials), indent=1))
        rows = _rows(trials)
        for row in rows:
            print(f"{row['kind']}: {row['tried']} tried, {row['lost']} lost", flush=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        lost += sum(row["lost"] for row in rows)
        if not (a.cases or a.without):
            (folder / f"{name}.json").write_text(json.dumps(rows, indent=1))
            (folder / f"{name}.unfinished").unlink(missing_ok=True)
    if not (a.cases or a.without or a.light) and all((folder / f"{name}.json").exists() for name in PARTS):
        write_table(folder)
    return int(lost > 0)


def write_table(folder: Path) -> None:
    """Put the figures of all parts into docs/reliability.md."""
    lines = ["| what is done | tried | survived | lost |", "|:--|--:|--:|--:|"]
    total = collections.Counter()
    for name in PARTS:
        for row in json.loads((folder / f"{name}.json").read_text()):
            total.update({key: row[key] for key in ("tried", "lost")})
            survived = row["tried"] - row["lost"]
            lines.append(f"| {row['kind']} | {row['tried']:,} | {survived:,} | {row['lost']:,} |")
    lines.append(f"| all | {total['tried']:,} | {total['tried'] - total['lost']:,} | {total['lost']:,} |")
    head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    with atomic_write(DOCUMENT) as file:
        file.write(f"{head}{BEGIN}\n\n{chr(10).join(lines)}\n\n{END}{tail}")


def _rows(trials: list[parts.Trial]) -> list[dict]:
    counts = collections.Counter(trial.kind for trial in trials)
    failures = collections.Counter(trial.kind for trial in trials if trial.lost)
    return [{"kind": kind, "tried": count, "lost": failures[kind]} for kind, count in counts.items()]


def _scratch(folder: Path) -> Path:
    memory = Path("/dev/shm")
    return Path(os.environ.get("TORTURE_SCRATCH") or (memory / "alpha_sv_torture" if memory.is_dir() else folder))
