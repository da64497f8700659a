"""What a study has found so far, as numbers to write and to draw:
the estimates, and curves over the epochs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from estimates import Estimates, estimates
from grid import rows_of

from alpha_sv.report import load_log

DEVELOPMENT = "development"


@dataclass(frozen=True)
class Findings:
    """The runs of one model of a grid, and the outcomes of those that are done, by key."""

    grid: dict
    model: str
    runs: list
    done: dict[str, dict]
    replicates: int = 1000

    @property
    def title(self) -> str:
        return f"{self.model}: {len(self.finished())} of {len(self.runs)} runs"

    @property
    def corpora(self) -> tuple[str, ...]:
        return self.runs[0].corpora

    @property
    def measures(self) -> tuple[str, ...]:
        return (DEVELOPMENT, *self.corpora)

    def finished(self, row: str | None = None) -> list:
        """Runs that are done: all, or those of a row."""
        return [run for run in self.runs if run.key in self.done and row in (None, run.row)]

    def rows(self) -> list[str]:
        """Rows of which a run is done, in the grid's order."""
        return [row for row in rows_of(self.grid, self.model) if self.finished(row)]

    def folder(self, run) -> Path:
        return self.grid["output"] / run.key

    def log(self, run) -> list[dict]:
        return load_log(self.folder(run) / "train_log.jsonl")

    @cached_property
    def _estimates(self) -> dict[tuple[str, str], Estimates]:
        return {}

    def estimates(self, corpus: str, kind: str = "cosine") -> Estimates:
        """Of everything that is done."""
        if (corpus, kind) not in self._estimates:
            found = estimates(self.runs, self.done, corpus, kind, self.grid["output"], self.replicates)
            self._estimates[corpus, kind] = found
        return self._estimates[corpus, kind]

    def baselines(self) -> list[str]:
        """The grid's baselines of which a run is done, in its order."""
        rows = self.rows()
        return [row for row in self.grid.get("baselines", ()) if row in rows]

    def with_intervals(self) -> list[str]:
        """Lists of enough speakers for intervals."""
        return [corpus for corpus in self.corpora if self.estimates(corpus).boot is not None]

    def eers(self, row: str, measure: str) -> dict[int, float]:
        """Seed → EER in percent: on development trials (the
        lowest of an epoch), or of cosine scores on a corpus."""
        if measure == DEVELOPMENT:
            return {run.seed: 100 * self.done[run.key]["development_eer"] for run in self.finished(row)}
        found = self.estimates(measure)
        return {seed: 100 * found.observed["eer"][number] for seed, number in found.seeds(row).items()}

    def eer(self, row: str, measure: str, minus: str | None = None) -> tuple[float, float, float]:
        """Mean EER over seeds, or difference of those
        that both rows have, in percent, with an interval.

        The interval is over speakers; on the development trials, and on lists of too few speakers,
        from the lowest to the highest seed. NaN if there is no seed of both.
        """
        if measure != DEVELOPMENT and self.estimates(measure).boot is not None:
            of = self.estimates(measure)
            estimate = of.level(row, "eer") if minus is None else of.difference(row, minus, "eer")
            return estimate[:3] if estimate else (math.nan,) * 3
        values, theirs = self.eers(row, measure), self.eers(minus, measure) if minus else {}
        if minus:
            values = {seed: values[seed] - theirs[seed] for seed in sorted(values.keys() & theirs.keys())}
        if not values:
            return (math.nan,) * 3
        return float(np.mean(list(values.values()))), min(values.values()), max(values.values())

    def curve(self, row: str, key: str) -> np.ndarray:
        """[epochs, 4]: epoch, and mean, lowest and highest seed of `key`; see `per_epoch`."""
        of_seeds = [per_epoch(self.log(run), key) for run in self.finished(row)]
        epochs = sorted(set().union(*of_seeds))
        values = [[of[epoch] for of in of_seeds if epoch in of] for epoch in epochs]
        return np.array([(e, np.mean(v), min(v), max(v)) for e, v in zip(epochs, values, strict=True)]).reshape(-1, 4)

    def reinitialised(self, row: str) -> list[int]:
        """Before which epochs prototypes were set anew, in any seed, as the runs' log.txt says."""
        found = set()
        for run in self.finished(row):
            log = self.folder(run) / "log.txt"
            text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            found |= {int(epoch) for epoch in re.findall(r"epoch (\d+): \d+ prototypes set", text)}
        return sorted(found)


def by_model(grid: dict, runs: list, done: dict[str, dict], replicates: int = 1000) -> list[Findings]:
    """The findings of each model of the grid."""
    return [
        Findings(grid, model, [run for run in runs if run.model == model], done, replicates) for model in grid["models"]
    ]


def per_epoch(log: list[dict], key: str) -> dict[int, float]:
    """Epoch (from 1) → mean of a figure over its logged batches;
    `eer` is that of the development trials after it.

    Example
    -------
    >>> log = [
    ...     {"kind": "train", "step": n, "epoch": n / 2, "support": float(n)} for n in (1, 2, 3)
    ... ]
    >>> per_epoch([*log, {"kind": "valid", "step": 2, "epoch": 1, "eer": 0.1}], "support")
    {1: 1.5, 2: 3.0}
    """
    kind, values = ("valid" if key == "eer" else "train"), {}
    for row in log:
        if row["kind"] == kind and row.get(key) is not None:
            values.setdefault(math.ceil(row["epoch"] - 1e-6), []).append(row[key])
    return {epoch: float(np.mean(found)) for epoch, found in sorted(values.items())}


def explained(groups: list, values: list[float]) -> float:
    """Fraction of the variance of `values` that lies between the groups (η²);
    NaN if there is none to explain.

    Example
    -------
    >>> explained(["a", "a", "b", "b"], [1.0, 1.0, 3.0, 3.0])
    1.0
    >>> explained(["a", "b", "a", "b"], [1.0, 1.0, 3.0, 3.0])
    0.0
    """
    values = np.asarray(values)
    total = ((values - values.mean()) ** 2).sum()
    index = [np.flatnonzero([group == name for group in groups]) for name in set(groups)]
    between = sum(rows.size * (values[rows].mean() - values.mean()) ** 2 for rows in index)
    return float(between / total) if total else math.nan
