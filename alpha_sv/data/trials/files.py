"""Trial lists and score files: read, written, and joined.

Files may have any layout of `alpha_sv.data.trials.layouts`, found from the whole file. An exact repeat of a line is
kept, because published lists are scored as published; one (enroll, test) pair with two different labels or scores
is an error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import TextIO

import numpy as np

from alpha_sv.data.trials.layouts import SCORE_LAYOUTS, TRIAL_LAYOUTS, TextTable
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.files import atomic_write


def read_trials(source: str | os.PathLike | TextIO, layout: str | None = None) -> Trials:
    """Read a trial list in any layout of `alpha_sv.data.trials.layouts`.

    Parameters
    ----------
    source : path-like, or an open text stream
        UTF-8 text; blank lines are skipped.
    layout : {"voxceleb", "kaldi", "unlabeled"}, optional
        Found from the file when None.

    Returns
    -------
    Trials
        In file order; columns that a header names beyond label, enroll, test are its `conditions`.

    Raises
    ------
    ValueError
        The file is empty, ambiguous, of no known layout, has a malformed line (named file:line), or gives one
        pair both labels.

    Example
    -------
    >>> import io
    >>> trials = read_trials(io.StringIO("label enroll test gender\\n1 a.wav b.wav f\\n0 a.wav c.wav f\\n"))
    >>> trials.labels.tolist(), trials.conditions["gender"].tolist()
    ([True, False], ['f', 'f'])
    """
    text = TextTable.read(source)
    otherwise = "a file with a score column is no trial list"
    columns = text.split(TRIAL_LAYOUTS, layout, otherwise)
    if "scores" in columns:
        raise ValueError(f"{text.path}: the header names a score column; {otherwise}")
    trials = Trials(columns["enroll"], columns["test"], columns.get("labels"), columns["conditions"])
    return _checked(text.path, trials)


def read_scores(source: str | os.PathLike | TextIO, layout: str | None = None) -> ScoreTable:
    """Read a score file in any layout of `alpha_sv.data.trials.layouts`; arguments and errors as `read_trials`.

    Parameters
    ----------
    layout : {"speechbrain", "wespeaker", "voxsrc", "unlabeled"}, optional
        Found from the file when None.

    Raises
    ------
    ValueError
        As `read_trials`; also a score that is no number, NaN or infinite (named file:line), a pair with two
        different scores, or a header with columns beyond label, enroll, test, score: those belong into the trial
        list.

    Example
    -------
    >>> import io
    >>> read_scores(io.StringIO("0.71 a.wav b.wav\\n-0.02 a.wav c.wav\\n")).scores.tolist()  # VoxSRC
    [0.71, -0.02]
    """
    text = TextTable.read(source)
    otherwise = "a trial list without scores is no scores file"
    columns = text.split(SCORE_LAYOUTS, layout, otherwise)
    if "scores" not in columns:
        raise ValueError(f"{text.path}: the header names no score column; {otherwise}")
    if columns["conditions"]:
        raise ValueError(
            f"{text.path}: {', '.join(columns['conditions'])} are no columns of a score file; keep them in the trial "
            "list, whose trials are matched with the scores"
        )
    table = ScoreTable(columns["enroll"], columns["test"], columns["scores"], columns.get("labels"))
    return _checked(text.path, table)


def write_trials(target: str | os.PathLike | TextIO, trials: Trials) -> None:
    """Write `label enroll test` (VoxCeleb's layout, label 1 | 0), or `enroll test` without labels; with a header
    and further columns if there are conditions. A path is written atomically, a text stream as it is.

    Example
    -------
    >>> import sys
    >>> write_trials(sys.stdout, Trials(["a.wav", "a.wav"], ["b.wav", "c.wav"], [True, False]))
    1 a.wav b.wav
    0 a.wav c.wav
    """
    columns = {"enroll": trials.enroll.tolist(), "test": trials.test.tolist()}
    if trials.labels is not None:
        columns = {"label": map(str, trials.labels.astype(int).tolist()), **columns}
    conditions = {name: values.tolist() for name, values in trials.conditions.items()}
    _check_words(target, columns["enroll"], columns["test"], conditions, *conditions.values())
    header = [tuple([*columns, *conditions])] if conditions else []
    _write_rows(target, itertools.chain(header, zip(*columns.values(), *conditions.values(), strict=True)))


def write_scores(target: str | os.PathLike | TextIO, table: ScoreTable) -> None:
    """Write `enroll test score target|nontarget` (WeSpeaker's layout), or `enroll test score` without labels;
    a path is written atomically, a text stream as it is.

    Scores have as many digits as it takes to read back the same float64, so what is normalised or evaluated
    from the file equals what was scored.

    Raises
    ------
    ValueError
        A score is NaN or infinite, or an identifier is empty or contains white space: neither could be read
        back.
    """
    columns = [table.enroll.tolist(), table.test.tolist(), map(repr, table.scores.tolist())]
    _check_words(target, *columns[:2])
    bad = np.flatnonzero(~np.isfinite(table.scores))
    if bad.size:
        row = bad[0]
        raise ValueError(
            f"{_name(target)}: {bad.size} of {len(table)} scores are NaN or infinite, first {table.enroll[row]} "
            f"{table.test[row]} {table.scores[row]}; check the embeddings of these utterances"
        )
    if table.labels is not None:
        columns.append(np.where(table.labels, "target", "nontarget").tolist())
    _write_rows(target, zip(*columns, strict=True))


def count_duplicates(trials: Trials | ScoreTable) -> int:
    """Number of trials that repeat an earlier (enroll, test) pair. (a, b) and (b, a) are two different pairs.

    >>> count_duplicates(Trials(["a", "a", "b"], ["b", "b", "a"]))
    1
    """
    return len(trials) - len(set(_pairs(trials)))


def label_scores(table: ScoreTable, trials: Trials) -> ScoreTable:
    """Attach the labels of a trial list to a score table.

    The result follows the trial list in order and repeats, so metrics are computed on exactly the published
    trials.

    Raises
    ------
    ValueError
        The list has no labels, a trial has no score, a score has no trial, a pair has two different scores,
        or the table has labels of its own that differ.

    Example
    -------
    >>> scores = ScoreTable(["a", "a"], ["c", "b"], [0.1, 0.8])
    >>> labelled = label_scores(scores, Trials(["a", "a"], ["b", "c"], [True, False]))
    >>> labelled.scores.tolist(), labelled.labels.tolist()
    ([0.8, 0.1], [True, False])
    """
    if trials.labels is None:
        raise ValueError("label_scores: the trial list has no labels; give the labelled list")
    wanted, scored = _pairs(trials), _pairs(table)
    label_of = _one_value_a_pair(wanted, trials.labels.tolist(), "labels", "keep one of them in the trial list")
    score_of = _one_value_a_pair(scored, table.scores.tolist(), "scores", "score each pair once")
    missing = [pair for pair in label_of if pair not in score_of]
    extra = [pair for pair in score_of if pair not in label_of]
    if missing or extra:
        raise ValueError(
            f"label_scores: {len(missing)} of {len(label_of)} trials have no score{_examples(missing)} and "
            f"{len(extra)} of {len(score_of)} scored pairs are not in the trial list{_examples(extra)}; "
            "score this very list (sides are ordered, identifiers must match exactly)"
        )
    if table.labels is not None:
        for pair, label in zip(scored, table.labels.tolist(), strict=True):
            if label_of[pair] != label:
                raise ValueError(
                    f"label_scores: pair '{pair}' is labelled {int(label)} in the scores and "
                    f"{int(label_of[pair])} in the trial list; use the list that was scored"
                )
    return ScoreTable(trials.enroll, trials.test, [score_of[pair] for pair in wanted], trials.labels)


def _checked(path: str, table: Trials | ScoreTable) -> Trials | ScoreTable:
    pairs, values = _pairs(table), {}
    if table.labels is not None:
        values["labels"] = table.labels.astype(int)
    if isinstance(table, ScoreTable):
        values["scores"] = table.scores
    for what, column in values.items():
        try:
            _one_value_a_pair(pairs, column.tolist(), what, "keep the right line only")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return table


def _pairs(trials: Trials | ScoreTable) -> list[str]:
    # identifiers hold no white space, so the joined string stands for the pair
    return list(map(" ".join, zip(trials.enroll.tolist(), trials.test.tolist(), strict=True)))


def _one_value_a_pair(pairs: list[str], values: list, what: str, remedy: str) -> dict:
    value_of = dict(zip(pairs, values, strict=True))
    if len(value_of) < len(pairs):  # repeats: the last one won; they must all agree with it
        for pair, value in zip(pairs, values, strict=True):
            if value_of[pair] != value:
                raise ValueError(f"pair '{pair}' has two {what}, {value} and {value_of[pair]}; {remedy}")
    return value_of


def _examples(pairs: list[str]) -> str:
    return f" (such as {', '.join(repr(pair) for pair in pairs[:3])})" if pairs else ""


def _check_words(target: str | os.PathLike | TextIO, *columns: Iterable[str]) -> None:
    for word in set().union(*columns):
        if word.split() != [word]:
            raise ValueError(
                f"{_name(target)}: identifier {word!r} is empty or contains white space, which separates the "
                "columns; rename the file"
            )


def _write_rows(target: str | os.PathLike | TextIO, rows: Iterable[Sequence[str]]) -> None:
    with contextlib.nullcontext(target) if hasattr(target, "write") else atomic_write(target) as file:
        file.writelines(f"{' '.join(row)}\n" for row in rows)


def _name(target: str | os.PathLike | TextIO) -> str:
    return getattr(target, "name", "<stream>") if hasattr(target, "write") else os.fspath(target)
