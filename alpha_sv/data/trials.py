"""Trial lists and score files: which pairs are compared, what they scored, and which are the same speaker.

A label is True for a target trial (same speaker). Files may have any layout of `alpha_sv.data.layouts`, found
from the whole file. An exact repeat of a line is kept, because published lists are scored as published; one
(enroll, test) pair with two different labels is an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from alpha_sv.data.files import atomic_write
from alpha_sv.data.layouts import SCORE_LAYOUTS, TRIAL_LAYOUTS, TextTable


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs to compare, in list order.

    Parameters
    ----------
    enroll, test : array of str, shape [N]
        Utterance identifiers of the two sides.
    labels : array of bool, shape [N], or None
        True for a target trial; None when unknown.

    Raises
    ------
    ValueError
        The arrays differ in length, or a label is neither 0 nor 1.
    """

    enroll: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        _normalise_fields(self)

    def __len__(self) -> int:
        return len(self.enroll)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One score a trial, higher for "same speaker"; the other fields are those of `Trials`.

    Parameters
    ----------
    scores : array of float64, shape [N]
        In the unit of the scorer (a cosine in [-1, 1], standard deviations after AS-norm, ...).

    Example
    -------
    >>> table = ScoreTable(["a", "a"], ["b", "c"], [0.8, 0.1], [True, False])
    >>> table.target_scores.tolist(), table.nontarget_scores.tolist()
    ([0.8], [0.1])
    """

    enroll: np.ndarray
    test: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        _normalise_fields(self)

    def __len__(self) -> int:
        return len(self.enroll)

    @property
    def target_scores(self) -> np.ndarray:
        """Scores of the target trials, float64 [n_target]."""
        return self.scores[self._known_labels()]

    @property
    def nontarget_scores(self) -> np.ndarray:
        """Scores of the nontarget trials, float64 [n_nontarget]."""
        return self.scores[~self._known_labels()]

    def _known_labels(self) -> np.ndarray:
        if self.labels is None:
            raise ValueError("the score table has no labels; attach them with label_scores(table, trials)")
        return self.labels


def _normalise_fields(table: Trials | ScoreTable) -> None:
    fields = {"enroll": np.asarray(table.enroll, dtype=str), "test": np.asarray(table.test, dtype=str)}
    if table.labels is not None:
        labels = np.asarray(table.labels)
        if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
            raise ValueError(f"labels must be booleans or 0 / 1 (1 = target), got dtype {labels.dtype}")
        fields["labels"] = labels.astype(bool)
    for name, value in fields.items():
        object.__setattr__(table, name, value)
    if isinstance(table, ScoreTable):
        fields["scores"] = table.scores
    shapes = {name: value.shape for name, value in fields.items()}
    if set(shapes.values()) != {(len(fields["enroll"]),)}:
        raise ValueError(f"all columns need one value a trial, got shapes {shapes}")


def read_trials(path: str | os.PathLike, layout: str | None = None) -> Trials:
    """Read a trial list in any layout of `alpha_sv.data.layouts`.

    Parameters
    ----------
    path : path-like
        UTF-8 text; blank lines are skipped.
    layout : {"voxceleb", "kaldi", "unlabeled"}, optional
        Found from the file when None.

    Raises
    ------
    ValueError
        The file is empty, ambiguous, of no known layout, has a malformed line (named file:line), or gives one
        pair both labels.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "trials.txt")
    >>> write_trials(path, Trials(["a.wav", "a.wav"], ["b.wav", "c.wav"], [True, False]))
    >>> print(open(path).read(), end="")
    1 a.wav b.wav
    0 a.wav c.wav
    >>> read_trials(path).labels.tolist()
    [True, False]
    """
    text = TextTable.read(path)
    columns = text.split(TRIAL_LAYOUTS, layout, otherwise="a file with a score column is for read_scores")
    return _checked(path, Trials(columns["enroll"], columns["test"], columns.get("labels")))


def read_scores(path: str | os.PathLike, layout: str | None = None) -> ScoreTable:
    """Read a score file in any layout of `alpha_sv.data.layouts`; arguments and errors as `read_trials`.

    Parameters
    ----------
    layout : {"speechbrain", "wespeaker", "unlabeled"}, optional
        Found from the file when None.

    Raises
    ------
    ValueError
        As `read_trials`; also a score that is no number, NaN or infinite (named file:line).
    """
    text = TextTable.read(path)
    columns = text.split(SCORE_LAYOUTS, layout, otherwise="a list without scores is for read_trials")
    return _checked(path, ScoreTable(columns["enroll"], columns["test"], columns["scores"], columns.get("labels")))


def write_trials(path: str | os.PathLike, trials: Trials) -> None:
    """Write `label enroll test` (VoxCeleb's layout, label 1 | 0), or `enroll test` without labels; atomic."""
    _check_ids(path, trials)
    pairs = zip(trials.enroll.tolist(), trials.test.tolist(), strict=True)
    with atomic_write(path) as file:
        if trials.labels is None:
            file.writelines(f"{enroll} {test}\n" for enroll, test in pairs)
        else:
            labels = trials.labels.tolist()
            file.writelines(f"{y:d} {enroll} {test}\n" for y, (enroll, test) in zip(labels, pairs, strict=True))


def write_scores(path: str | os.PathLike, table: ScoreTable) -> None:
    """Write `enroll test score target|nontarget` (WeSpeaker's layout), or `enroll test score` without labels;
    atomic.

    Scores have as many digits as it takes to read back the same float64, so what is normalised or evaluated
    from the file equals what was scored.

    Raises
    ------
    ValueError
        A score is NaN or infinite, or an identifier is empty or contains white space: neither could be read
        back.
    """
    _check_ids(path, table)
    bad = np.flatnonzero(~np.isfinite(table.scores))
    if bad.size:
        row = bad[0]
        raise ValueError(
            f"{path}: {bad.size} of {len(table)} scores are NaN or infinite, first {table.enroll[row]} "
            f"{table.test[row]} {table.scores[row]}; check the embeddings of these utterances"
        )
    columns = [table.enroll.tolist(), table.test.tolist(), map(repr, table.scores.tolist())]
    if table.labels is not None:
        columns.append(np.where(table.labels, "target", "nontarget").tolist())
    with atomic_write(path) as file:
        file.writelines(f"{line}\n" for line in map(" ".join, zip(*columns, strict=True)))


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


def _checked(path: str | os.PathLike, table: Trials | ScoreTable) -> Trials | ScoreTable:
    if table.labels is not None:
        try:
            _one_value_a_pair(_pairs(table), table.labels.astype(int).tolist(), "labels", "keep the right line only")
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


def _check_ids(path: str | os.PathLike, trials: Trials | ScoreTable) -> None:
    for identifier in set(trials.enroll.tolist()).union(trials.test.tolist()):
        if identifier.split() != [identifier]:
            raise ValueError(
                f"{path}: identifier {identifier!r} is empty or contains white space, which separates the "
                "columns; rename the file"
            )
