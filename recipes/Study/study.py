#!/usr/bin/env python3
"""A study from one grid: every loss tuned with the same budget,
trained with several seeds, scored, tables out.

    python study.py hparams/small.yaml --data /corpora              tune, train, score, print tables
    python study.py hparams/small.yaml --data /corpora --status     what is done and what is left
    python study.py hparams/small.yaml --data /corpora --workers 2  two runs at a time
    python study.py hparams/yours.yaml --data /corpora \\
        --launch 'torchrun --standalone --nproc_per_node=8'

/corpora holds <corpus>/wav and <corpus>/trials_dev.txt for each corpus of the grid, and noise/wav
and rir/wav. A run is kept in a folder named by the hash of everything it depends on, so an
interrupted study continues, a changed row runs anew and the others do not, and several machines may
share a folder (`--shard 1/3`). Settings are chosen on development trials of training speakers; the
trials that are reported are scored once, at the end. A row that starts from another waits for it.
`figures.py` draws what is done.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

from across import across_folds
from findings import by_model
from folds import make_folds
from grid import Run, chosen, read_grid, reported_runs, tuning_runs
from outcome import done_of, failure, outcome_of, outcomes, record
from tables import result_tables, tuning_table, write_between
from tqdm import tqdm

from alpha_sv.device import HELP, pick_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file, see hparams/")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--output", type=Path, default=Path("results/study"))
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument(
        "--launch",
        default=sys.executable,
        help="what starts train.py, e.g. a torchrun command; fork: copies of one that is ready",
    )
    parser.add_argument("--device", help=f"for the extraction: {HELP}; train.py has its own, in the grid's options")
    parser.add_argument("--shard", default="1/1", help="i/n: every n-th run from the i-th, and what starts from it")
    parser.add_argument("--status", action="store_true", help="only say what is done")
    parser.add_argument("--table", action="store_true", help="only make the tables of what is done")
    parser.add_argument("--write", type=Path, nargs="+", default=[], help="Markdown files whose tables to replace")
    arguments = parser.parse_args()
    output, arguments.device = arguments.output.resolve(), pick_device(arguments.device)
    grid, data = {**read_grid(arguments.grid), "output": output}, arguments.data.resolve()

    if "folds" in grid:
        make_folds(grid, data)
    tuning = tuning_runs(grid, data)
    if not (arguments.table or arguments.status):
        execute(tuning, output, arguments, "tuning")
        if lacking := sum(outcome_of(run, output) is None for run in tuning):
            raise SystemExit(
                f"{lacking} of {len(tuning)} tuning runs are left to other shards, and the reported runs need the "
                "settings they choose: run this command again when those shards have ended too"
            )
        execute(reported(grid, data)[0], output, arguments, "reported")
    runs, done = reported(grid, data)
    tuned = outcomes(tuning, output)
    print(
        f"{len(tuned)} of {different(tuning)} tuning and {len(done)} of {different(runs)} reported runs are done",
        file=sys.stderr,
    )
    if not arguments.status:
        found = by_model(grid, runs, done)
        tables = across_folds(found) if "folds" in grid else result_tables(found)
        tables |= {"tuning": tuning_table(grid, tuning, tuned)}
        print(*tables.values(), sep="\n")
        for document in arguments.write:
            write_between(document, arguments.grid.stem, tables)


def reported(grid: dict, data: Path) -> tuple[list[Run], dict[str, dict]]:
    """The reported runs as tuned so far, and the outcomes of those that are done, by key."""
    tuning = tuning_runs(grid, data)
    runs = reported_runs(grid, data, chosen(grid, tuning, outcomes(tuning, grid["output"])))
    done = outcomes(runs, grid["output"])
    return runs, {key: found for key, found in done.items() if "scores" in found}


def different(runs: list[Run]) -> int:
    """How many runs there are to do: rows that have chosen the same settings share one."""
    return len({run.key for run in runs})


def execute(runs: list[Run], output: Path, arguments, stage: str) -> None:
    """Do what is left of `runs`; one that fails is reported at the end, and the others go on."""
    index, shards = (int(part) for part in arguments.shard.split("/"))
    mine = set(list(dict.fromkeys(run.root.key for run in runs))[index - 1 :: shards])
    scored = stage != "tuning"  # what is only tried needs its development trials
    todo: dict[str, Run] = {}
    for run in runs:
        if run.root.key in mine and not done_of(run, output, scored):
            todo.setdefault(run.key, run)  # rows that chose the same settings share a run
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:
        futures = {}
        for run in todo.values():  # a parent stands further up, so it is begun before its children wait for it
            before = next((f for f, other in futures.items() if run.parent and other.key == run.parent.key), None)
            futures[pool.submit(in_turn, run, output, arguments, before, scored)] = run
        total = different(runs)
        bar = tqdm(total=total, initial=total - len(todo), desc=stage, unit="run")
        failed = []
        for future in concurrent.futures.as_completed(futures):
            bar.update()
            if error := future.exception():
                failed.append(f"{futures[future].name}: {error}")
                tqdm.write(failed[-1], file=sys.stderr)
        bar.close()
    if failed:
        raise SystemExit(f"{len(failed)} of {len(todo)} runs failed; run the same command again to repeat only these")


def in_turn(run: Run, output: Path, arguments, before: concurrent.futures.Future | None, scored: bool) -> None:
    """`perform`, after the run that this one starts from."""
    if before is not None:
        concurrent.futures.wait([before])
    if run.parent and outcome_of(run.parent, output) is None:
        raise RuntimeError(f"it starts from {run.parent.name}, which is not done")
    perform(run, output, arguments.launch, arguments.device, scored)


def perform(run: Run, output: Path, launch: str, device: str, scored: bool = True) -> None:
    """Train (or continue), extract, score; the outcome is written last.
    One that was only tried is scored later."""
    folder = output / run.key
    folder.mkdir(parents=True, exist_ok=True)
    if not run.as_it_is and outcome_of(run, output) is None:
        status = forked(run, folder) if launch == "fork" else started(run, folder, launch)
        if status:
            raise RuntimeError(failure(folder, status))
    record(run, folder, device, scored)


def started(run: Run, folder: Path, launch: str) -> int:
    """train.py in a Python of its own; its exit status."""
    with open(folder / "stdout.txt", "a", encoding="utf-8") as log:
        done = subprocess.run(
            [*shlex.split(launch), "train.py", *run.command(folder)],
            cwd=run.recipe_folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode


def forked(run: Run, folder: Path) -> int:
    """The same in a copy of a process that has imported everything: for runs of seconds.

    A copy of this one, whose threads may hold locks, could hang.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alpha_sv.sb.experiment", "outcome"])
    child = context.Process(target=_train, args=(run, folder))
    child.start()
    child.join()
    return child.exitcode


def _train(run: Run, folder: Path) -> None:
    from alpha_sv.cli.guard import guarded
    from alpha_sv.sb.experiment import run as train

    log = os.open(folder / "stdout.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    tqdm.set_lock(threading.RLock())  # its own is shared by all copies, and one that is killed may hold it for ever
    os.chdir(run.recipe_folder)
    sys.exit(guarded(lambda: print(train(run.command(folder)))))


if __name__ == "__main__":
    main()
