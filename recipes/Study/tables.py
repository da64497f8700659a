"""The table of a study: means over seeds with intervals over speakers, and paired differences to the baselines.

Every run of a corpus is a system of one bootstrap, so all share the same draws of speakers; a row is the mean of its
seeds in each draw. Two rows are compared over the seeds that both have.
"""

from __future__ import annotations

import numpy as np

from alpha_sv.metrics import SpeakerBootstrap, speaker_bootstrap
from alpha_sv.pipeline.evaluation import load_systems
from alpha_sv.pipeline.speakers import sides_speakers

METRICS = ("eer", "min_dcf 0.01", "fnr at fpr 1e-2", "fnr at fpr 1e-3")
_KINDS = ("cosine", "as-norm")


def result_table(grid: dict, runs: list, done: dict[str, dict], replicates: int = 1000) -> str:
    """Markdown of all that is done."""
    parts = []
    for model in grid["models"]:
        mine = [run for run in runs if run.model == model and run.key in done]
        for corpus in grid["corpora"] if mine else ():
            for kind in _KINDS:
                boot = _bootstrap(mine, done, corpus, kind, grid["output"], replicates)
                parts.append(f"### {model}, {corpus}, {kind}\n\n{_table(grid, mine, boot)}")
    return "\n".join(parts)


def _bootstrap(runs: list, done: dict, corpus: str, kind: str, output, replicates: int) -> SpeakerBootstrap:
    files = [(run.name, str(output / run.key / done[run.key]["scores"][corpus][kind])) for run in runs]
    systems = load_systems(files, trials=str(runs[0].data / corpus / "trials_dev.txt"))
    return speaker_bootstrap(
        systems.scores, *sides_speakers(systems.trials), systems.trials.labels, replicates=replicates
    )


def _table(grid: dict, runs: list, boot: SpeakerBootstrap) -> str:
    columns = [boot.metrics.index(metric) for metric in METRICS]
    baselines = [row for row in grid.get("baselines", ()) if any(run.row == row for run in runs)]
    head = ["row", "seeds", "EER %", "minDCF 0.01", "FNR % at FPR 1 %", "FNR % at FPR 0.1 %"]
    head += [f"{metric} − {row}" for row in baselines for metric in ("EER", "FNR at FPR 1 %")]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    numbers = {row: {run.seed: n for n, run in enumerate(runs) if run.row == row} for row in grid["rows"]}
    for row, of_seed in numbers.items():
        if not of_seed:
            continue
        which = list(of_seed.values())
        cells = [row, str(len(which))]
        for metric, column in zip(METRICS, columns, strict=True):
            factor = 1 if metric.startswith("min_dcf") else 100
            cells.append(_cell(boot, which, column, factor) if boot.supported[which, column].all() else "n/a")
        for baseline in baselines:
            common = sorted(of_seed.keys() & numbers[baseline].keys())
            pairs = [(of_seed[seed], numbers[baseline][seed]) for seed in common]
            for metric in ("eer", "fnr at fpr 1e-2"):
                cells.append(_difference(boot, pairs, boot.metrics.index(metric)) if row != baseline else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(boot: SpeakerBootstrap, which: list[int], column: int, factor: float) -> str:
    """Mean over seeds, [interval over speakers], ± standard deviation of one seed."""
    values = factor * boot.observed[which, column]
    low, high = boot.interval(factor * boot.draws[:, which, column].mean(1))
    digits = 3 if factor == 1 else 2
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(which) > 1 else ""
    return f"{values.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]{spread}"


def _difference(boot: SpeakerBootstrap, pairs: list[tuple[int, int]], column: int) -> str:
    if not pairs or not boot.supported[np.ravel(pairs), column].all():
        return "n/a"
    ours, theirs = (list(side) for side in zip(*pairs, strict=True))
    value = 100 * (boot.observed[ours, column] - boot.observed[theirs, column]).mean()
    low, high = boot.interval(100 * (boot.draws[:, ours, column] - boot.draws[:, theirs, column]).mean(1))
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
