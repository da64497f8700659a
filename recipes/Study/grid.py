"""The grid of a study: a YAML file → the runs to make.

    corpora: [names]                        folders of --data
    trials:  {name: file}                   or lists of trials under --data, instead of `corpora`
    top_n:   training speakers in each AS-norm statistic
    common:  options of every run
    models:  {name: {recipe: ecapa, seeds: [1, 2, 3], rows: [names] or all, common: {…}}}
    rows:    {name: {loss: "!new:…", tune: {margin: [0.1, 0.2]}, and any other option}}
    tuning:  {seed: 0, common: {…}}         what differs from `common` while tuning
    recipe_folder: ../SpeakerTree           whose train.py and hparams/ are used
    drop:    [save, model]                  folders of a run that are deleted once it is done
    prepared: folder                        a prepared corpus, for recipes that take one, not trees
    folds: {count: 5, seed: 1, …}           not the corpora's own lists: all are tested once

`tune` lists the settings a row may choose from: their product is its budget, which must be
the same for every row. The setting with the lowest EER on the development trials (of
training speakers) is the row's.

With `folds` a model is one of each fold, and is tuned in each; what is common to them is the row.
A row `as_it_is` is the recipe's pre-trained model itself: nothing is trained or tuned.

`each: {alpha: [1.5, 2], kappa: [5, 10]}` makes a row of every combination: $alpha and $kappa in
its name and options are replaced, and with both of them $scale = κ/(α−1); `point` (those values)
and `family` (the name without them), which the figures of such rows read, may be given by hand
instead. `warm_start: row` begins with the embedder that row ended with, of the same model and
seed; it must stand further up.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from string import Template

from folds import fold_folder
from ruamel.yaml import YAML

_NOT_OPTIONS = ("tune", "warm_start", "point", "family", "as_it_is")


@dataclass(frozen=True)
class Run:
    """One training run: `model` and `row` say what it is; the rest is all it depends on.

    `trials` are (corpus, file); `parent` is the run whose embedder it starts from.
    """

    model: str
    row: str
    seed: int
    recipe: str
    recipe_folder: Path
    trials: tuple[tuple[str, Path], ...]
    options: tuple[tuple[str, str], ...]
    data: Path
    top_n: int
    prepared: Path | None = None
    parent: Run | None = None
    as_it_is: bool = False
    drop: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.model} {self.row} seed {self.seed}"

    @property
    def corpora(self) -> tuple[str, ...]:
        return tuple(corpus for corpus, _ in self.trials)

    @property
    def root(self) -> Run:
        """Where the chain of warm starts begins."""
        return self.parent.root if self.parent else self

    @cached_property
    def key(self) -> str:
        """Hash of the inputs: options, recipe and trial lists by content,
        which corpora, and the parent's."""
        recipes = _recipe_files(self.recipe_folder / "hparams" / f"{self.recipe}.yaml")
        files = [f for _, f in self.trials] + ([self.prepared / "manifest.csv"] if self.prepared else [])
        contents = [*map(_without_comments, recipes), *(file.read_bytes() for file in files)]
        hashes = [hashlib.sha256(content).hexdigest() for content in contents]
        inputs = [self.seed, self.corpora, self.options, self.top_n, hashes]
        inputs += [self.parent.key] if self.parent else []
        inputs += ["as it is"] if self.as_it_is else []
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]

    def manifest(self, folder: Path) -> Path:
        return (self.prepared or folder) / "manifest.csv"

    def command(self, folder: Path) -> list[str]:
        """Arguments of train.py."""
        if self.prepared:
            data = [f"--prepared={self.prepared}"]
        else:
            data = [
                f"--data_folder={[str(self.data / corpus / 'wav') for corpus in self.corpora]}",
                f"--trials={[str(file) for _, file in self.trials]}",
                f"--noise_folder={self.data / 'noise' / 'wav'}",
                f"--rir_folder={self.data / 'rir' / 'wav'}",
            ]
        return [
            f"hparams/{self.recipe}.yaml",
            *data,
            f"--output_folder={folder}",
            f"--seed={self.seed}",
            *([f"--warm_start={folder.parent / self.parent.key}"] if self.parent else []),
            *(f"--{key}={value}" if value else f"--{key}" for key, value in self.options if key != "front_cache"),
            *([f"--front_cache={front}"] if (front := self.front_cache(folder)) else []),
        ]

    def front_cache(self, folder: Path) -> Path | None:
        """A folder beside those of the runs."""
        name = dict(self.options).get("front_cache")
        return folder.parent / name if name else None


def read_grid(path: Path) -> dict:
    """Read, expand and check a grid."""
    grid = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    needed = {"common", "models", "rows", "top_n", *(() if "trials" in grid else ("corpora",))}
    if missing := needed - set(grid):
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    grid["rows"] = _expanded(grid["rows"], path)
    if "folds" in grid:
        grid["models"] = {
            f"{name}, fold {number}": {**model, "fold": number}
            for name, model in grid["models"].items()
            for number in range(1, grid["folds"].get("count", 5) + 1)
        }
    budgets = {name: len(settings(row)) for name, row in grid["rows"].items() if not row.get("as_it_is")}
    if len(set(budgets.values())) > 1:
        raise ValueError(f"{path}: the rows have different tuning budgets ({budgets}); give each as many settings")
    if max(budgets.values()) > 1 and "tuning" not in grid:
        raise ValueError(f"{path} lacks tuning: say with which seed the settings are tried")
    for name, model in grid["models"].items():
        rows = rows_of(grid, name)
        if unknown := set(rows) - set(grid["rows"]):
            raise ValueError(f"{path}: model {name} names unknown rows: {', '.join(sorted(unknown))}")
        if not model.get("seeds"):
            raise ValueError(f"{path}: model {name} has no seeds")
        for number, row in enumerate(rows):
            start = grid["rows"][row].get("warm_start")
            if start and (start not in rows[:number] or budgets.get(row, 1) > 1):
                raise ValueError(
                    f"{path}: {row} of model {name} starts from {start!r}, which must be a row of that model further "
                    "up, in a grid without tuning"
                )
    return grid


def settings(row: dict) -> list[dict]:
    """The product of what the row may choose from."""
    return _products(row.get("tune", {}))


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


def chosen(grid: dict, runs: list[Run], outcomes: dict[str, dict]) -> dict[tuple[str, str], dict]:
    """(model, row) → its setting: the one with the lowest development EER;
    the first while tuning is not done."""
    best = {}
    for model in grid["models"]:
        for row in rows_of(grid, model):
            options = settings(grid["rows"][row])
            mine = [run for run in runs if (run.model, run.row) == (model, row)]
            eers = [outcomes.get(run.key, {}).get("development_eer", 1.0) for run in mine]
            best[model, row] = options[eers.index(min(eers))] if mine else options[0]
    return best


def reported_runs(grid: dict, data: Path, best: dict[tuple[str, str], dict]) -> list[Run]:
    """Every row of every model with every seed, seed by seed,
    so that what is done first is a whole table."""
    pairs = [(model, row) for model in grid["models"] for row in rows_of(grid, model)]
    most = max(len(model["seeds"]) for model in grid["models"].values())
    return [
        _run(grid, data, model, row, grid["models"][model]["seeds"][number], best[model, row])
        for number in range(most)
        for model, row in pairs
        if number < (1 if grid["rows"][row].get("as_it_is") else len(grid["models"][model]["seeds"]))
    ]


def _run(grid: dict, data: Path, model: str, row: str, seed: int, setting: dict) -> Run:
    described = grid["rows"][row]
    fixed = {key: value for key, value in described.items() if key not in _NOT_OPTIONS}
    options = {**grid["common"], **grid["models"][model].get("common", {}), **fixed, **setting}
    folder = (Path(__file__).parent / grid.get("recipe_folder", "../SpeakerTree")).resolve()
    prepared = folder / grid["prepared"] if "prepared" in grid else None
    lists = grid.get("trials") or {corpus: f"{corpus}/trials_dev.txt" for corpus in grid["corpora"]}
    if (fold := grid["models"][model].get("fold")) is not None:
        prepared = fold_folder(grid, data, fold)
        lists = {corpus: prepared / f"trials_{corpus}.txt" for corpus in grid["corpora"]}
    start = described.get("warm_start")
    return Run(
        model=model,
        row=row,
        seed=seed,
        recipe=grid["models"][model]["recipe"],
        recipe_folder=folder,
        trials=tuple((corpus, data / file) for corpus, file in lists.items()),
        options=tuple(sorted((key, "" if value is None else str(value)) for key, value in options.items())),
        data=data,
        top_n=grid["top_n"],
        prepared=prepared,
        as_it_is=bool(described.get("as_it_is")),
        drop=tuple(grid.get("drop", ())),
        parent=_run(grid, data, model, start, seed, settings(grid["rows"][start])[0]) if start else None,
    )


def _expanded(rows: dict, path: Path) -> dict:
    """Rows with `each` multiplied.
    `point` keeps the values of a row, `family` the name without them."""
    found = {}
    for name, row in rows.items():
        for point in _products(row.get("each", {})):
            if {"alpha", "kappa"} <= point.keys():
                point["scale"] = point["kappa"] / (point["alpha"] - 1)
            filled = {key: _filled(value, point, path) for key, value in row.items() if key != "each"}
            of_point = {"point": point, "family": re.sub(r"[\s,]*\$\w+", "", name)} if point else {}
            if (new := _filled(name, point, path)) in found:
                raise ValueError(f"{path} has two rows called {new!r}; put every name of `each` into the row's name")
            found[new] = {**filled, **of_point}
    return found


def _filled(text, point: dict, path: Path):
    if not point or not isinstance(text, str):
        return text
    try:
        return Template(text).substitute(point)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {text!r} has a $name that is not one of {', '.join(point)}") from error


def _products(choices: dict[str, list]) -> list[dict]:
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


@cache
def _recipe_files(path: Path) -> list[Path]:
    """A recipe and those it `extends`."""
    extended = YAML().load(path.read_text(encoding="utf-8")).get("extends", [])
    names = [extended] if isinstance(extended, str) else extended
    return [path, *(file for name in names for file in _recipe_files(path.parent / name))]


def _without_comments(recipe: Path) -> bytes:
    """A better comment is no reason to train again."""
    lines = (line.split(" #")[0].rstrip() for line in recipe.read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#")).encode()
