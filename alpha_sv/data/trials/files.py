"""Trial lists and score files: read, written, and joined.

Files may have any layout of `alpha_sv.data.trials.layouts`, found from the whole file. An exact
repeat of a line is kept, because published lists are scored as published; one (enroll, test) pair
with two different labels or scores is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alpha_sv.data.trials.arrow_reader import Unreadable, read_columns
from alpha_sv.data.trials.joins import check_alike, count_duplicates, label_scores
from alpha_sv.data.trials.layouts import (
    SCORE_LAYOUTS,
    TRIAL_LAYOUTS,
    Layouts,
    header_roles,
    separator,
    short,
)
from alpha_sv.data.trials.line_reader import LARGEST, TextTable
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.data.trials.text import Text
from alpha_sv.files import InputError, atomic_write

__all__ = [
    "ScoreTable",
    "Trials",
    "count_duplicates",
    "label_scores",
    "read_scores",
    "read_trials",
    "write_scores",
    "write_trials",
]
_ROWS = 1 << 20


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
        The file is empty, ambiguous, of no known layout,
        has a malformed line (named file:line), or gives one pair both labels.

    Example
    -------
    >>> import io
    >>> trials = read_trials(
    ...     io.StringIO("label enroll test gender\\n1 a.wav b.wav f\\n0 a.wav c.wav f\\n")
    ... )
    >>> trials.labels.tolist(), trials.conditions["gender"].tolist()
    ([True, False], ['f', 'f'])
    """
    otherwise = "a file with a score column is no trial list"
    path, columns = _read(source, TRIAL_LAYOUTS, layout, otherwise)
    if "scores" in columns:
        raise InputError(f"{path}: the header names a score column; {otherwise}")
    trials = Trials(columns["enroll"], columns["test"], columns.get("labels"), columns["conditions"])
    return _checked(path, trials)


def read_scores(source: str | os.PathLike | TextIO, layout: str | None = None) -> ScoreTable:
    """Read a score file in any layout of `alpha_sv.data.trials.layouts`;
    arguments and errors as `read_trials`.

    Parameters
    ----------
    layout : {"speechbrain", "wespeaker", "voxsrc", "unlabeled"}, optional
        Found from the file when None.

    Raises
    ------
    ValueError
        As `read_trials`; also a score that is no number, NaN or infinite (named file:line), a pair
        with two different scores, or a header with columns beyond label, enroll, test, score: those
        belong into the trial list.

    Example
    -------
    >>> import io
    >>> read_scores(
    ...     io.StringIO("0.71 a.wav b.wav\\n-0.02 a.wav c.wav\\n")
    ... ).scores.tolist()  # VoxSRC
    [0.71, -0.02]
    """
    otherwise = "a trial list without scores is no scores file"
    path, columns = _read(source, SCORE_LAYOUTS, layout, otherwise)
    if "scores" not in columns:
        raise InputError(f"{path}: the header names no score column; {otherwise}")
    conditions = columns["conditions"]
    if "side" in conditions and len(Names.of(conditions["side"]).table) == 1:
        del conditions["side"]  # of a NIST file: the channel, the same in every line
    if conditions:
        raise InputError(
            f"{path}: {', '.join(conditions)} are no columns of a score file; keep them in the trial list, whose "
            "trials are matched with the scores"
        )
    table = ScoreTable(columns["enroll"], columns["test"], columns["scores"], columns.get("labels"))
    return _checked(path, table)


def write_trials(target: str | os.PathLike | TextIO, trials: Trials) -> None:
    """Write `label enroll test` (VoxCeleb's layout, label 1 | 0), or `enroll test` without
    labels; with a header and further columns if there are conditions. A path is written
    atomically, a text stream as it is.

    Example
    -------
    >>> import sys
    >>> write_trials(sys.stdout, Trials(["a.wav", "a.wav"], ["b.wav", "c.wav"], [True, False]))
    1 a.wav b.wav
    0 a.wav c.wav
    """
    columns = dict(zip(("enroll", "test"), trials.sides, strict=True))
    if trials.labels is not None:
        columns = {"label": Names(trials.labels.astype(np.int32), pa.array(["0", "1"], pa.large_string())), **columns}
    columns |= trials.condition_names
    header = list(trials.condition_names)
    _check_words(target, *columns.values(), Names.of(header))
    _write(target, [*columns] if header else [], list(columns.values()))


def write_scores(target: str | os.PathLike | TextIO, table: ScoreTable) -> None:
    """Write `enroll test score target|nontarget` (WeSpeaker's layout), or `enroll test score`
    without labels; a path is written atomically, a text stream as it is. Where a name of the first
    column begins with "#", the last column is written first, so that no line looks like a comment.

    Scores have as many digits as it takes to read back the same float64,
    so what is normalised or evaluated from the file equals what was scored.

    Raises
    ------
    ValueError
        A score is NaN, infinite or beyond ±1e300, or an identifier
        is empty or contains white space: neither could be read back.
    """
    _check_words(target, *table.sides)
    bad = np.flatnonzero(~(np.abs(table.scores) <= LARGEST))  # NaN, too
    if bad.size:
        enroll, test = (side.take(bad[:1]).array[0] for side in table.sides)
        raise ValueError(
            f"{_name(target)}: {bad.size} of {len(table)} scores are NaN, infinite or beyond ±{LARGEST:g}, "
            f"first {enroll} {test} {table.scores[bad[0]]}; check the embeddings of these utterances"
        )
    columns: list[Names | np.ndarray] = [*table.sides, table.scores]
    if table.labels is not None:
        words = pa.array(["nontarget", "target"], pa.large_string())
        columns.append(Names(table.labels.astype(np.int32), words))
    if _like_a_comment(table.sides[0]):
        columns = [columns[-1], *columns[:-1]]
    _write(target, [], columns)


def _read(source: str | os.PathLike | TextIO, layouts: Layouts, layout: str | None, otherwise: str) -> tuple[str, dict]:
    text = Text(source)
    try:
        return text.path, read_columns(text, layouts, layout)
    except Unreadable:
        table = TextTable.read(text.path, text.blocks())
        return text.path, table.arrays(table.roles(layouts, layout, otherwise))


def _checked(path: str, table: Trials | ScoreTable) -> Trials | ScoreTable:
    values = {} if table.labels is None else {"labels": table.labels}
    if isinstance(table, ScoreTable):
        values["scores"] = table.scores
    try:
        check_alike(table, values)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return table


def _check_words(target: str | os.PathLike | TextIO, *columns: Names) -> None:
    for column in columns:
        if (word := column.unfit()) is not None:
            raise ValueError(
                f"{_name(target)}: identifier {word!r} is empty or contains white space, which separates the columns, "
                f"or a control character, or is too long; rename the file"
            )


def _write(target: str | os.PathLike | TextIO, header: Sequence[str], columns: Sequence[Names | np.ndarray]) -> None:
    def lines(rows: slice) -> bytes:
        return _lines([column[rows] if isinstance(column, np.ndarray) else column.take(rows) for column in columns])

    def blocks() -> Iterator[bytes]:
        if header:
            yield f"{' '.join(header)}\n".encode()
        for start in range(0, len(columns[0]), _ROWS):
            yield lines(slice(start, start + _ROWS))

    first = " ".join(header) if header else lines(slice(1)).decode().removesuffix("\n")
    if separator(first) or not header and header_roles(first.split()):
        raise ValueError(
            f"{_name(target)}: the line '{short(first)}' would be read as {'CSV' if separator(first) else 'a header'}; "
            "rename the utterances, or put another trial first"
        )
    if isinstance(columns[0], Names) and (name := _like_a_comment(columns[0])):
        raise ValueError(f"{_name(target)}: the line of {name!r} would be read as a comment; rename the utterance")
    if hasattr(target, "write"):
        target.writelines(block.decode() for block in blocks())
        return
    with atomic_write(target, "wb") as file:
        file.writelines(blocks())


def _like_a_comment(names: Names) -> str | None:
    """A name with which a line must not begin."""
    marked = np.asarray(pc.starts_with(names.table, "#"))
    rows = np.flatnonzero(marked[names.codes]) if marked.any() else []
    return names.take(rows[:1]).array[0] if len(rows) else None


def _lines(columns: Sequence[Names | np.ndarray]) -> bytes:
    """Rows of text, columns separated by blanks."""
    texts = [
        digits(column) if isinstance(column, np.ndarray) else column.table.take(pa.array(column.codes))
        for column in columns
    ]
    blank, end, nothing = (pa.scalar(mark, pa.large_string()) for mark in (" ", "\n", ""))
    last = pc.binary_join_element_wise(texts[-1], end, nothing)
    lines = pc.binary_join_element_wise(*texts[:-1], last, blank)
    _, offsets, content = lines.buffers()
    bounds = np.frombuffer(offsets, np.int64, len(lines) + 1, 8 * lines.offset)
    return content.slice(bounds[0], bounds[-1] - bounds[0]).to_pybytes()


def digits(scores: np.ndarray) -> pa.Array:
    """Each float64 as Python's `repr`: the fewest digits that read back the same number.

    Arrow finds the same digits ten times as fast,
    but writes whole, small and large numbers in another form.

    >>> digits(np.array([0.1, 1.0, 1e-5, -1e300])).to_pylist()
    ['0.1', '1.0', '1e-05', '-1e+300']
    """
    size = np.abs(scores)
    plain = (size >= 1e-4) & (size < 1e6) & (scores != np.trunc(scores))
    text = pa.array(scores).cast(pa.large_string())
    if plain.all():
        return text
    others = pa.array(list(map(repr, scores[~plain].tolist())), pa.large_string())
    return pc.replace_with_mask(text, pa.array(~plain), others)


def _name(target: str | os.PathLike | TextIO) -> str:
    return getattr(target, "name", "<stream>") if hasattr(target, "write") else os.fspath(target)
