"""Scores files → metrics.json and compare.json:
systems on the same trials, with intervals that resample speakers."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alpha_sv.data.trials.files import count_duplicates, label_scores, read_scores, read_trials
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.files import atomic_write
from alpha_sv.metrics import (
    SpeakerBootstrap,
    compare_systems,
    evaluate,
    evaluate_conditions,
    speaker_bootstrap,
    too_few_speakers,
)
from alpha_sv.metrics.schema import COMPARISON_FORMAT, FORMAT
from alpha_sv.pipeline.provenance import read_sources, refuse_known_not_llr, source
from alpha_sv.pipeline.speakers import numbered_speakers

HARDEST = 20
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Systems:
    """S systems that scored the same N labelled trials:
    one row of `scores` [S, N] and one entry of the others each.

    `llr` says whose scores are natural-log likelihood ratios; `sources` are those of metrics.json.
    """

    names: Sequence[str]
    scores: np.ndarray
    trials: Trials
    llr: Sequence[bool]
    sources: Sequence[dict]


def load_systems(
    files: Sequence[tuple[str, str]],
    trials: str | None = None,
    layout: str | None = None,
    llr: Collection[str] = (),
    command: str = "",
) -> Systems:
    """Read scores files, in any order of their lines, and align them.

    Parameters
    ----------
    files : sequence of (name, file)
        An empty name becomes the file's stem.
    trials : path, optional
        Labelled trial list: for scores without labels, and for its further columns (conditions).
        Without it, the trials are those of the first file that has labels.
    layout : str, optional
        Layout of the score files, as `alpha_sv.data.trials.files.read_scores`;
        found from the file if left out.
    llr : collection of str
        Names of the systems whose scores are natural-log likelihood ratios; "all" for all of them.
    command : str
        What was typed, for the sources.

    Raises
    ------
    ValueError
        Two systems of one name, a name in `llr` that is unknown or whose note says other
        scores, no labels, one kind of trials only, files of different trials (the file is
        named), or as the readers.
    """
    names = [name or Path(file).stem for name, file in files]
    if len(set(names)) < len(names):
        raise ValueError(f"two systems have the same name: {', '.join(names)}; give name=file")
    for name in llr:
        if name != "all":
            _known(name, names, "llr")
    flags = [name in llr or "all" in llr for name in names]
    for place in np.flatnonzero(flags):
        refuse_known_not_llr(files[place][1], names[place])
    tables = [read_scores(file, layout=layout) for _, file in files]
    labelled = next((table for table in tables if table.labels is not None), None)
    if trials is not None:
        reference, shared = read_trials(trials), {"trials": source(trials)}
    elif labelled is not None:
        reference, shared = Trials(*labelled.sides, labelled.labels), {}
    else:
        raise ValueError(f"{files[0][1]} has no labels; give the labelled trial list with --trials")
    if reference.labels is not None and reference.labels.all() | ~reference.labels.any():
        kinds = ("no target", "no nontarget")[int(reference.labels[0])]
        where = trials or files[[table is labelled for table in tables].index(True)][1]
        raise ValueError(f"{where} has {kinds} trial; error rates need both kinds, complete the list")
    scores, sources = [], []
    for (_, file), table in zip(files, tables, strict=True):
        alone = trials is None and table is labelled
        scores.append(table.scores if alone else _aligned(file, table, reference))
        described, commands = read_sources(file)
        sources.append({**described, "scores": source(file), **shared})
        if commands := [*commands, *[command] * bool(command)]:
            sources[-1]["command"] = "\n".join(commands)
    return Systems(names, np.stack(scores), reference, flags, sources)


def evaluate_files(
    files: Sequence[tuple[str, str]],
    trials: str | None = None,
    layout: str | None = None,
    llr: Collection[str] = (),
    speakers: str | os.PathLike | None = None,
    replicates: int = 1000,
    baseline: str | None = None,
    command: str = "",
    progress: bool = True,
) -> dict:
    """Scores files → the dict of metrics.json.

    Parameters
    ----------
    files, trials, layout, llr, command
        As `load_systems`.
    speakers : path-like, optional
        Who speaks, see `alpha_sv.pipeline.speakers`.
    replicates : int
        Draws of the bootstrap; more give steadier intervals, 0 neither intervals nor a comparison.
    baseline : str, optional
        The system that the others are compared with, if there are others; by default the first.
    progress : bool
        Show a progress bar (on a terminal only).

    Returns
    -------
    dict
        As `alpha_sv.report.load_metrics`. Nothing in it but the hashes depends on the order of the
        lines. Without enough speakers for intervals and a comparison both are None, and
        ``no_intervals`` of each system says why.

    Raises
    ------
    ValueError
        As `load_systems` and `alpha_sv.metrics`; speakers that cannot be told, unknown baseline.
    """
    systems = load_systems(files, trials, layout, llr, command)
    baseline = _known(baseline or systems.names[0], systems.names, "baseline")
    labels, repeated, results = systems.trials.labels, count_duplicates(systems.trials), []
    for name, scores, flag, sources in zip(systems.names, systems.scores, systems.llr, systems.sources, strict=True):
        result = {"name": name, **evaluate(scores[labels], scores[~labels], llr=flag), "intervals": None}
        result["trials"]["repeated"] = repeated
        result["conditions"] = evaluate_conditions(scores, labels, systems.trials.conditions, llr=flag)
        result["hardest"] = hardest_trials(scores, systems.trials)
        results.append({**result, "sources": sources})
    comparison = None
    if replicates:
        try:
            _, *sides = numbered_speakers(systems.trials, speakers)
            few = too_few_speakers(*sides, labels)
            found = [] if few else _bootstrap(systems, sides, replicates, progress)
            intervals = [bootstrap.intervals(row) for bootstrap, row in found]
        except ValueError as error:
            raise ValueError(f"{error}; or --replicates 0 for an evaluation without intervals") from error
        if few:
            logger.warning("no intervals: %s", few)
        for place, result in enumerate(results):
            result |= {"no_intervals": few} if few else {"intervals": intervals[place]}
        if len(results) > 1 and not few:
            comparison = _comparison(systems, found, baseline)
    return {"format": FORMAT, "systems": results, "comparison": comparison}


def compare_files(
    files: Sequence[tuple[str, str]],
    trials: str | None = None,
    layout: str | None = None,
    llr: Collection[str] = (),
    speakers: str | os.PathLike | None = None,
    replicates: int = 1000,
    baseline: str | None = None,
    progress: bool = True,
) -> dict:
    """Two or more scores files → the dict of compare.json; the rest as `evaluate_files`."""
    systems = load_systems(files, trials, layout, llr)
    if len(files) < 2:
        raise ValueError(f"{files[0][1]} alone has nothing to be compared with; give two or more scores files")
    baseline = _known(baseline or systems.names[0], systems.names, "baseline")
    _, *sides = numbered_speakers(systems.trials, speakers)
    found = _bootstrap(systems, sides, replicates, progress)
    return {"format": COMPARISON_FORMAT, **_comparison(systems, found, baseline)}


def hardest_trials(scores: np.ndarray, trials: Trials, count: int = HARDEST) -> dict[str, list[dict]]:
    """The target trials of the lowest and the nontarget trials of the highest scores.

    Example
    -------
    >>> trials = Trials(["a", "a", "b", "c"], ["x", "y", "x", "y"], [True, True, False, False])
    >>> hard = hardest_trials(np.array([0.2, 0.9, 0.4, 0.4]), trials, count=1)
    >>> hard["misses"], hard["false_accepts"]
    ([{'enroll': 'a', 'test': 'x', 'score': 0.2}], [{'enroll': 'b', 'test': 'x', 'score': 0.4}])
    """
    found = {}
    for key, side, sign in (("misses", trials.labels, 1), ("false_accepts", ~trials.labels, -1)):
        rows = np.flatnonzero(side)
        if rows.size > count:  # names are looked up only of those that can be shown
            rows = rows[sign * scores[rows] <= np.partition(sign * scores[rows], count - 1)[count - 1]]
        names = [_ranks(names.take(rows)) for names in trials.sides]
        rows = rows[np.lexsort([names[1], names[0], sign * scores[rows]])][:count]
        columns = *(names.take(rows).array.tolist() for names in trials.sides), scores[rows].tolist()
        found[key] = [{"enroll": e, "test": t, "score": s} for e, t, s in zip(*columns, strict=True)]
    return found


def _ranks(names: Names) -> np.ndarray:
    """Where each name stands in the order of the names."""
    used, place = np.unique(names.codes, return_inverse=True)
    of = Names(used, names.table).array
    ranks = np.empty(len(used), dtype=np.int64)
    ranks[np.argsort(of, kind="stable")] = np.arange(len(used))
    return ranks[place]


def write_json(path: str | os.PathLike, content: Mapping) -> None:
    """Write metrics.json or compare.json, whole or not at all."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")


def _aligned(file: str, table: ScoreTable, reference: Trials) -> np.ndarray:
    try:
        return label_scores(table, reference).scores
    except ValueError as error:
        raise ValueError(f"{file}: {error}; systems are evaluated together on the same trials only") from error


def _bootstrap(
    systems: Systems, sides: Sequence[np.ndarray], replicates: int, progress: bool
) -> list[tuple[SpeakerBootstrap, int]]:
    """The bootstrap that each system is in, and its row there: LLRs have metrics of their own.

    The draws are those of the seed and the speakers, hence the same in both.
    """
    found = {}
    for flag in sorted(set(systems.llr)):
        rows = [row for row, llr in enumerate(systems.llr) if llr == flag]
        bootstrap = speaker_bootstrap(
            systems.scores[rows],
            *sides,
            systems.trials.labels,
            replicates,
            llr=flag,
            progress=lambda draws: tqdm(draws, unit="draw", desc="bootstrap", disable=None if progress else True),
        )
        found |= {row: (bootstrap, place) for place, row in enumerate(rows)}
    return [found[row] for row in range(len(systems.names))]


def _comparison(systems: Systems, found: Sequence[tuple[SpeakerBootstrap, int]], baseline: str) -> dict:
    names = [baseline, *(name for name in systems.names if name != baseline)]
    boots = [found[systems.names.index(name)] for name in names]
    common = min((bootstrap.metrics for bootstrap, _ in boots), key=len)  # LLRs have some more
    columns = [[bootstrap.metrics.index(metric) for metric in common] for bootstrap, _ in boots]
    together = list(zip(boots, columns, strict=True))
    joint = dataclasses.replace(
        boots[0][0],
        metrics=common,
        observed=np.stack([bootstrap.observed[row, column] for (bootstrap, row), column in together]),
        draws=np.stack([bootstrap.draws[:, row, column] for (bootstrap, row), column in together], axis=1),
        supported=np.stack([bootstrap.supported[row, column] for (bootstrap, row), column in together]),
    )
    return compare_systems(joint, names)


def _known(name: str, names: Sequence[str], what: str) -> str:
    if name not in names:
        raise ValueError(f"{what}: no system is called {name!r}; there is {', '.join(map(repr, names))}")
    return name
