"""Who speaks on each side of a trial: from a file, or from the names of the utterances.

Intervals and calibration resample and separate speakers, so they must know them. In the
corpora of the field an utterance is called <speaker>/<session>/<file>; where that is not
so, a file says who speaks.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

import numpy as np

from alpha_sv.data.trials.layouts import short
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.data.trials.text import Text
from alpha_sv.files import InputError, nfc, reading

_REMEDY = "give --speakers FILE (manifest.csv, or utt2spk with lines of 'utterance speaker')"


def read_speakers(path: str | os.PathLike) -> dict[str, str]:
    """Speaker of each utterance, with all names in one Unicode form (NFC).

    Parameters
    ----------
    path : path-like
        A CSV with the columns ID and spk_id (manifest.csv, or index.csv of an embedding store), or
        lines of ``utterance speaker`` (Kaldi's utt2spk). Enrolment models of several utterances
        are listed as utterances.

    Raises
    ------
    ValueError
        A line is malformed, or gives an utterance another speaker than
        before (named file:line); there is no line; not UTF-8 text.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "utt2spk")
    >>> with open(path, "w") as file:
    ...     _ = file.write("a1 ann\\nb1 bob\\n")
    >>> read_speakers(path)
    {'a1': 'ann', 'b1': 'bob'}
    """
    speakers: dict[str, str] = {}
    for number, fields in _rows(path):
        if len(fields) != 2 or not all(fields):
            raise InputError(
                f"{path}:{number}: not an utterance and its speaker ({short(' '.join(map(str, fields)))!r})"
            )
        utterance, speaker = map(nfc, fields)
        if speakers.setdefault(utterance, speaker) != speaker:
            raise InputError(
                f"{path}:{number}: {utterance!r} is of {speaker!r} here and of {speakers[utterance]!r} above; "
                "keep the right line"
            )
    if not speakers:
        raise InputError(f"{path}: no utterances; give manifest.csv or lines of 'utterance speaker'")
    return speakers


def sides_speakers(trials: Trials | ScoreTable, file: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The speakers on the two sides of N labelled trials, checked against the labels.

    Parameters
    ----------
    trials : Trials or ScoreTable
        With labels.
    file : path-like, optional
        As `read_speakers`; without one, the speaker is the
        first part of an utterance's name, up to the "/".

    Returns
    -------
    (array of str [N], array of str [N])
        Speakers of the enrolment and of the test side.

    Raises
    ------
    ValueError
        The file lacks an utterance, or a target trial is of two speakers,
        or a nontarget trial of one: then the names do not say who speaks.

    Example
    -------
    >>> trials = Trials(
    ...     ["id1/x/1.wav", "id1/x/1.wav"], ["id1/y/1.wav", "id2/z/1.wav"], [True, False]
    ... )
    >>> [side.tolist() for side in sides_speakers(trials)]
    [['id1', 'id1'], ['id1', 'id2']]
    """
    speakers, enroll, test = numbered_speakers(trials, file)
    return speakers[enroll], speakers[test]


def numbered_speakers(
    trials: Trials | ScoreTable, file: str | os.PathLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `sides_speakers`, of millions of trials:
    K names in order, and the place of each side's speaker, int32 [N].

    >>> trials = Trials(
    ...     ["id2/x/1.wav", "id1/x/1.wav"], ["id2/y/1.wav", "id2/z/1.wav"], [True, False]
    ... )
    >>> [part.tolist() for part in numbered_speakers(trials)]
    [['id1', 'id2'], [1, 0], [1, 1]]
    """
    enroll, test = trials.sides
    both = Names.of(enroll, test)
    names = [nfc(name) for name in both.table.to_pylist()]
    if file is None:
        of = [name.partition("/")[0] for name in names]
        basis = "the first part of its name"
    else:
        known = read_speakers(file)
        used = np.unique(both.codes).tolist() if len(set(names) - known.keys()) else []
        if missing := sorted({names[place] for place in used} - known.keys()):
            raise InputError(
                f"{file} does not say who speaks in {len(missing)} of the {len(used)} utterances of the trials "
                f"(such as {', '.join(map(repr, missing[:3]))}); add them"
            )
        of, basis = [known.get(name, "") for name in names], str(file)
    speakers = sorted({of[place] for place in np.unique(both.codes).tolist()})
    place_of = {speaker: place for place, speaker in enumerate(speakers)}
    number = np.array([place_of.get(speaker, -1) for speaker in of], dtype=np.int32)
    left, right = number[enroll.codes], number[test.codes]
    wrong = np.flatnonzero((left == right) != trials.labels)
    if wrong.size:
        row = wrong[0]
        kind, relation = ("target", "two speakers") if trials.labels[row] else ("nontarget", "one speaker")
        pair, spoken = ([s[side.codes[row]] for side in (enroll, test)] for s in (names, of))
        raise ValueError(
            f"who speaks? Taking the speaker of an utterance from {basis}, {wrong.size} of {len(trials)} trials "
            f"contradict their label: '{' '.join(pair)}' is a {kind} trial, but of {relation} "
            f"({', '.join(spoken)}); {_REMEDY if file is None else 'correct the label or the speaker'}"
        )
    return np.array([*speakers, None], dtype=object)[:-1], left, right


def _rows(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    lines = [line for block in Text(path).blocks() for line in _decoded(path, block)]
    if {"ID", "spk_id"}.issubset(lines[0].split(",")) if lines else False:
        with reading(path, "give manifest.csv or utt2spk"):
            rows = csv.DictReader(lines, strict=True)
            for row in rows:
                yield rows.line_num, [row["ID"], row["spk_id"]]
    else:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line.split()


def _decoded(path: str | os.PathLike, block: bytes) -> list[str]:
    with reading(path, "give manifest.csv or utt2spk"):
        return block.decode().removesuffix("\n").split("\n")
