"""The grid of a study: a YAML file → the runs to make.

    recipe: ecapa.yaml of SpeakerTree is `ecapa`
    common: options of every run
    models: {name: {recipe: ecapa, seeds: [1, 2, 3], rows: [names] or all, common: {…}}}
    rows:   {name: {loss: "!new:…", tune: {margin: [0.1, 0.2]}, and any other option}}
    tuning: {seed: 0, common: {…}}          what differs from `common` while tuning

`tune` lists the settings a row may choose from: their product is its budget, which must be the same for every row. The
setting with the lowest EER on the development trials (of training speakers) is the row's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML


@dataclass(frozen=True)
class Run:
    """One training run: `model` and `row` say what it is, `options` are all it depends on."""

    model: str
    row: str
    seed: int
    recipe: str
    corpora: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    data: Path
    top_n: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.row} seed {self.seed}"

    @property
    def key(self) -> str:
        """Hash of the inputs: options, recipe and trial lists by content, and which corpora."""
        recipe = Path(__file__).parents[1] / "SpeakerTree" / "hparams" / f"{self.recipe}.yaml"
        content = [recipe.read_bytes(), *((self.data / c / "trials_dev.txt").read_bytes() for c in self.corpora)]
        hashes = [hashlib.sha256(part).hexdigest() for part in content]
        text = json.dumps([self.seed, self.corpora, self.options, self.top_n, hashes])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def command(self, folder: Path) -> list[str]:
        """Arguments of train.py."""
        trees, trials = ([str(self.data / c / part) for c in self.corpora] for part in ("wav", "trials_dev.txt"))
        return [
            f"hparams/{self.recipe}.yaml",
            f"--data_folder={trees}",
            f"--trials={trials}",
            f"--noise_folder={self.data / 'noise' / 'wav'}",
            f"--rir_folder={self.data / 'rir' / 'wav'}",
            f"--output_folder={folder}",
            f"--seed={self.seed}",
            *(f"--{key}={value}" for key, value in self.options),
        ]


def read_grid(path: Path) -> dict:
    """Read and check a grid."""
    grid = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    if missing := {"corpora", "common", "models", "rows", "tuning", "top_n"} - set(grid):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    budgets = {name: len(settings(row)) for name, row in grid["rows"].items()}
    if len(set(budgets.values())) > 1:
        raise ValueError(f"{path}: the rows have different tuning budgets ({budgets}); give each as many settings")
    for name, model in grid["models"].items():
        if unknown := set(rows_of(grid, name)) - set(grid["rows"]):
            raise ValueError(f"{path}: model {name} names unknown rows: {', '.join(sorted(unknown))}")
        if not model.get("seeds"):
            raise ValueError(f"{path}: model {name} has no seeds")
    return grid


def settings(row: dict) -> list[dict]:
    """The product of what the row may choose from."""
    tune = row.get("tune", {})
    return [dict(zip(tune, values, strict=True)) for values in itertools.product(*tune.values())]


def rows_of(grid: dict, model: str) -> list[str]:
    return list(grid["models"][model].get("rows") or grid["rows"])


def tuning_runs(grid: dict, data: Path) -> list[Run]:
    """Every setting of every row that has more than one, once, with the seed of the tuning."""
    return [
        _run(grid, data, model, row, grid["tuning"]["seed"], {**setting, **grid["tuning"].get("common", {})})
        for model in grid["models"]
        for row in rows_of(grid, model)
        for setting in settings(grid["rows"][row])
        if len(settings(grid["rows"][row])) > 1
    ]


def chosen(grid: dict, runs: list[Run], outcomes: dict[str, dict | None]) -> dict[tuple[str, str], dict]:
    """(model, row) → its setting: the one with the lowest development EER; the first while tuning is not done."""
    best = {}
    for model in grid["models"]:
        for row in rows_of(grid, model):
            options = settings(grid["rows"][row])
            mine = [run for run in runs if (run.model, run.row) == (model, row)]
            eers = [(outcomes[run.key] or {}).get("development_eer", 1.0) for run in mine]
            best[model, row] = options[eers.index(min(eers))] if mine else options[0]
    return best


def reported_runs(grid: dict, data: Path, best: dict[tuple[str, str], dict]) -> list[Run]:
    """Every row of every model with every seed, seed by seed, so that what is done first is a whole table."""
    pairs = [(model, row) for model in grid["models"] for row in rows_of(grid, model)]
    most = max(len(model["seeds"]) for model in grid["models"].values())
    return [
        _run(grid, data, model, row, grid["models"][model]["seeds"][number], best[model, row])
        for number in range(most)
        for model, row in pairs
        if number < len(grid["models"][model]["seeds"])
    ]


def _run(grid: dict, data: Path, model: str, row: str, seed: int, setting: dict) -> Run:
    fixed = {key: value for key, value in grid["rows"][row].items() if key != "tune"}
    options = {**grid["common"], **grid["models"][model].get("common", {}), **fixed, **setting}
    items = tuple(sorted((key, str(value)) for key, value in options.items()))
    recipe = grid["models"][model]["recipe"]
    return Run(model, row, seed, recipe, tuple(grid["corpora"]), items, data, grid["top_n"])
