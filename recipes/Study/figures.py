#!/usr/bin/env python3
"""Draw what a study has found so far.

    python figures.py hparams/kappa.yaml --data /corpora --output results/study -o figures

The grid says which figures it is for (`figures:`); each is written for each model as
<grid>_<figure>_<model>.png, also from an unfinished study: the title counts the runs.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from findings import Findings, by_model
from grid import read_grid
from panels import comparison, instability, training, verdict
from questions import heads, kappa, starvation
from study import reported

from alpha_sv.files import atomic_write
from alpha_sv.report.figures.canvas import style

FIGURES = {
    "verdict": verdict,
    "training": training,
    "instability": instability,
    "kappa": kappa,
    "starvation": starvation,
    "heads": heads,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path, help="YAML file, see hparams/")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--output", type=Path, default=Path("results/study"), help="of study.py")
    parser.add_argument("-o", "--figures", type=Path, default=Path("figures"), help="folder to write to")
    parser.add_argument("--replicates", type=int, default=1000, help="draws of speakers behind each interval")
    arguments = parser.parse_args()
    grid = {**read_grid(arguments.grid), "output": arguments.output.resolve()}
    arguments.figures.mkdir(parents=True, exist_ok=True)
    lacking = []
    for found in by_model(grid, *reported(grid, arguments.data.resolve()), arguments.replicates):
        if not found.finished():
            lacking.append(f"{found.model}: no run is finished yet; see study.py --status")
            continue
        for name, draw in drawings(found).items():
            path = arguments.figures / f"{arguments.grid.stem}_{name}_{found.model}.png"
            try:
                with style(), atomic_write(path, "wb") as file:
                    draw(found).savefig(file, format="png")
            except ValueError as error:
                lacking.append(f"{path.name}: {error}")
            else:
                print(path)
    if lacking:
        raise SystemExit("\n".join(lacking))


def drawings(found: Findings) -> dict:
    """Name → function from Findings to a figure, as the grid asks."""
    wanted = {}
    for name in found.grid.get("figures", ("training",)):
        if name == "comparison":
            wanted |= {f"comparison_{corpus}": partial(comparison, corpus=corpus) for corpus in found.corpora}
        elif name in FIGURES:
            wanted[name] = FIGURES[name]
        else:
            raise ValueError(f"no figure is called {name!r}; there are comparison, {', '.join(FIGURES)}")
    return wanted


if __name__ == "__main__":
    sys.exit(main())
