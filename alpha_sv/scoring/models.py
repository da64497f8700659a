"""Enrolment models of several utterances: their mean embedding, or the average of their scores.

A line of the model file is `model utterance utterance ...` (Kaldi's spk2utt); the trials then
name a model on the enrolment side and an utterance on the test side. Two ways to one score:

    mean     one embedding per model, the mean of its normalised embeddings. `mean_models`
             makes a store in which a model is one more row: score and normalise as ever.
    average  the mean of the scores of its utterances, normalised first if they are at all:
             `expand_trials`, then score and normalise as ever, then `average_scores`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.data.trials.name_column import Names, same_numbers
from alpha_sv.files import spelled
from alpha_sv.scoring.cohort import speaker_means
from alpha_sv.scoring.store_rows import Store, store_rows

Models = Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class ArrayStore:
    """Embeddings in memory, with what scoring needs of a store.

    >>> ArrayStore(["a", "b"], np.eye(2)).rows(["b", "a"]).tolist()
    [1, 0]
    """

    ids: list[str]
    matrix: np.ndarray
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row", {name: row for row, name in enumerate(self.ids)})

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of `ids`, int64 [len(ids)]."""
        return np.fromiter(map(self._row.__getitem__, ids), dtype=np.int64, count=len(ids))


def read_models(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read `model utterance utterance ...` lines (UTF-8, blank lines skipped).

    Raises
    ------
    ValueError
        The file is empty, or a model has no utterance,
        has one twice, or occurs twice (named file:line).

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "spk2utt")
    >>> with open(path, "w") as file:
    ...     _ = file.write("m1 a.wav b.wav")
    >>> read_models(path)
    {'m1': ['a.wav', 'b.wav']}
    """
    models: dict[str, list[str]] = {}
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                model, *utterances = line.split()
                if not utterances:
                    raise ValueError(f"{path}:{number}: model {model!r} has no utterance; list them after its name")
                if len(set(utterances)) < len(utterances):
                    raise ValueError(f"{path}:{number}: model {model!r} has an utterance twice; list each once")
                if model in models:
                    raise ValueError(f"{path}:{number}: a second line for model {model!r}; give one line a model")
                models[model] = utterances
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); give lines of 'model utterance utterance ...'") from error
    if not models:
        raise ValueError(f"{path}: empty file; give lines of 'model utterance utterance ...'")
    return models


def mean_models(trials: Trials, store: Store, models: Models) -> ArrayStore:
    """A store of the models and test utterances that the trials name.

    Parameters
    ----------
    trials : Trials
        Models on the enrolment side, utterances on the test side.
    store : object with .ids, .matrix [num_utterances, D] and .rows(ids) -> int64 row numbers
        Embeddings of the utterances.
    models : mapping of model name to utterance identifiers
        See `read_models`.

    Returns
    -------
    ArrayStore
        Each model is the mean of its normalised embeddings,
        of length one; test utterances are copied.

    Raises
    ------
    ValueError
        A trial names an unknown model, an utterance is not in the store, a model has no utterance
        or the name of one in the store, or its embeddings are zero, not finite or cancel out.

    Example
    -------
    >>> store = ArrayStore(["a", "b", "c"], np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    >>> mean_models(Trials(["m"], ["c"]), store, {"m": ["a", "b"]}).matrix.round(4).tolist()
    [[0.7071, 0.7071], [1.0, 0.0]]
    """
    models = of_trials(trials, models)
    used = _known(trials, models)
    if both := sorted(used & set(store.ids)):
        raise ValueError(
            f"{len(both)} names are a model and an utterance of the store ({_some(both)}), so a trial could mean "
            "either; rename these models"
        )
    members = [(model, utterance) for model in sorted(used) for utterance in models[model]]
    tests = list(dict.fromkeys(trials.test.tolist()))
    rows = store_rows(store, [utterance for _, utterance in members] + tests)
    enroll, test = rows[: len(members)], rows[len(members) :]
    means, names = speaker_means(store.matrix[enroll], [model for model, _ in members])
    return ArrayStore(names + tests, np.concatenate([means, store.matrix[test]]))


def expand_trials(trials: Trials, models: Models) -> Trials:
    """Each trial once for each utterance of its model, with its label; see `average_scores`.

    >>> expand_trials(Trials(["m"], ["c"], [True]), {"m": ["a", "b"]}).enroll.tolist()
    ['a', 'b']
    """
    return _expanded(trials, models)[0]


def _expanded(trials: Trials, models: Models) -> tuple[Trials, np.ndarray]:
    """The expanded trials, and how many of them each trial became."""
    models = of_trials(trials, models)
    _known(trials, models)
    members = [models[model] for model in trials.enroll.tolist()]
    counts = np.array([len(some) for some in members], dtype=np.int64)
    labels = None if trials.labels is None else np.repeat(trials.labels, counts)
    return Trials([utterance for some in members for utterance in some], np.repeat(trials.test, counts), labels), counts


def average_scores(table: ScoreTable, trials: Trials, models: Models) -> ScoreTable:
    """The mean of the scores of each trial's utterances:
    the scores of `expand_trials(trials, models)` become one a trial.

    Raises
    ------
    ValueError
        The table is not of these trials, expanded with these models.

    Example
    -------
    >>> models, trials = {"m": ["a", "b"]}, Trials(["m"], ["c"])
    >>> average_scores(
    ...     ScoreTable(["a", "b"], ["c", "c"], [0.5, 0.7]), trials, models
    ... ).scores.tolist()
    [0.6]
    """
    expanded, counts = _expanded(trials, models)
    if not (np.array_equal(table.enroll, expanded.enroll) and np.array_equal(table.test, expanded.test)):
        raise ValueError("average_scores: the table is not expand_trials(trials, models), scored in this order")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(table.scores, starts) / counts if len(trials) else np.empty(0)
    return ScoreTable(*trials.sides, means, trials.labels)


def enrolled_tests(trials: Trials, models: Models | None = None) -> np.ndarray:
    """The trials whose test utterance is part of their own enrolment,
    as rows: they compare a voice with itself.

    >>> enrolled_tests(Trials(["a", "a"], ["b", "a"])).tolist()
    [1]
    >>> enrolled_tests(Trials(["m", "m"], ["b", "c"]), {"m": ["a", "b"]}).tolist()
    [0]
    """
    if models is None:
        (enroll, test), _ = same_numbers(*trials.sides)
        return np.flatnonzero(enroll == test)
    used = of_trials(trials, models)
    owners = [model for model, members in used.items() for _ in members]
    enrolled = Names.of(owners), Names.of([utterance for members in used.values() for utterance in members])
    (enroll, test, model, utterance), count = same_numbers(*trials.sides, *enrolled)
    return np.flatnonzero(np.isin(enroll.astype(np.int64) * count + test, model.astype(np.int64) * count + utterance))


def of_trials(trials: Trials, models: Models) -> Models:
    """The models that the trials name, under the trials' own spelling."""
    used = sorted(set(trials.enroll.tolist()))
    return {name: models[known] for name, known in zip(used, spelled(used, models), strict=True) if known in models}


def _known(trials: Trials, models: Models) -> set[str]:
    used = set(trials.enroll.tolist())
    if unknown := sorted(used - models.keys()):
        raise ValueError(
            f"{len(unknown)} of the {len(used)} models that the trials name are not in the model file "
            f"({_some(unknown)}); add a line 'model utterance ...' for each, or give the list of these models"
        )
    if empty := sorted(name for name in used if not len(models[name])):
        raise ValueError(f"{len(empty)} models have no utterance ({_some(empty)}); list at least one for each")
    return used


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
