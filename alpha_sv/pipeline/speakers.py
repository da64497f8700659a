"""Who speaks on each side of a trial: from a file, or from the names of the utterances.

Intervals and calibration resample and separate speakers, so they must know them. In the corpora of the field an
utterance is called <speaker>/<session>/<file>; where that is not so, a file says who speaks.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

import numpy as np

from alpha_sv.data.trials.tables import ScoreTable, Trials

_REMEDY = "give --speakers FILE (manifest.csv, or utt2spk with lines of 'utterance speaker')"


def read_speakers(path: str | os.PathLike) -> dict[str, str]:
    """Speaker of each utterance.

    Parameters
    ----------
    path : path-like
        A CSV with the columns ID and spk_id (manifest.csv, or index.csv of an embedding store), or lines of
        ``utterance speaker`` (Kaldi's utt2spk). Enrolment models of several utterances are listed as utterances.

    Raises
    ------
    ValueError
        A line is malformed, or gives an utterance another speaker than before (named file:line); there is no
        line; not UTF-8 text.

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
    try:
        for number, fields in _rows(path):
            if len(fields) != 2 or not all(fields):
                raise ValueError(f"{path}:{number}: not an utterance and its speaker ({' '.join(map(str, fields))!r})")
            utterance, speaker = fields
            if speakers.setdefault(utterance, speaker) != speaker:
                raise ValueError(
                    f"{path}:{number}: {utterance!r} is of {speaker!r} here and of {speakers[utterance]!r} above; "
                    "keep the right line"
                )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); give manifest.csv or utt2spk") from error
    if not speakers:
        raise ValueError(f"{path}: no utterances; give manifest.csv or lines of 'utterance speaker'")
    return speakers


def sides_speakers(trials: Trials | ScoreTable, file: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The speakers on the two sides of N labelled trials, checked against the labels.

    Parameters
    ----------
    trials : Trials or ScoreTable
        With labels.
    file : path-like, optional
        As `read_speakers`; without one, the speaker is the first part of an utterance's name, up to the "/".

    Returns
    -------
    (array of str [N], array of str [N])
        Speakers of the enrolment and of the test side.

    Raises
    ------
    ValueError
        The file lacks an utterance, or a target trial is of two speakers, or a nontarget trial of one: then the
        names do not say who speaks.

    Example
    -------
    >>> trials = Trials(["id1/x/1.wav", "id1/x/1.wav"], ["id1/y/1.wav", "id2/z/1.wav"], [True, False])
    >>> [side.tolist() for side in sides_speakers(trials)]
    [['id1', 'id1'], ['id1', 'id2']]
    """
    names, index = np.unique(np.concatenate([trials.enroll, trials.test]), return_inverse=True)
    if file is None:
        of = [name.partition("/")[0] for name in names.tolist()]
        basis = "the first part of its name"
    else:
        known = read_speakers(file)
        if missing := [name for name in names.tolist() if name not in known]:
            raise ValueError(
                f"{file} does not say who speaks in {len(missing)} of the {len(names)} utterances of the trials "
                f"(such as {', '.join(map(repr, missing[:3]))}); add them"
            )
        of, basis = [known[name] for name in names.tolist()], str(file)
    enroll, test = np.array(of, dtype=str)[index].reshape(2, -1)
    wrong = np.flatnonzero((enroll == test) != trials.labels)
    if wrong.size:
        row = wrong[0]
        kind, speakers = ("target", "two speakers") if trials.labels[row] else ("nontarget", "one speaker")
        raise ValueError(
            f"who speaks? Taking the speaker of an utterance from {basis}, {wrong.size} of {len(trials)} trials "
            f"contradict their label: '{trials.enroll[row]} {trials.test[row]}' is a {kind} trial, but of {speakers} "
            f"({enroll[row]}, {test[row]}); {_REMEDY if file is None else 'correct the label or the speaker'}"
        )
    return enroll, test


def _rows(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        if {"ID", "spk_id"}.issubset(file.readline().rstrip("\r\n").split(",")):
            file.seek(0)
            rows = csv.DictReader(file)
            for row in rows:
                yield rows.line_num, [row["ID"], row["spk_id"]]
        else:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.split()
