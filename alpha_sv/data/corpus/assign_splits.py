"""What each file is for: the trials name the test,
the exclusions name who must not train, the rest trains.

A speaker on either side of any trial never trains: a speaker verified is a stranger, so leaving out
one column of the list would train on half of the test's speakers. Their utterances outside of the
trials are left out altogether.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from alpha_sv.data.corpus.name_form import as_word, one_form, some
from alpha_sv.data.corpus.tree import AudioFile
from alpha_sv.data.trials.files import Trials

logger = logging.getLogger(__name__)

_HEADER = ("speaker", "speaker_id", "spk", "spk_id", "id")  # a first line that begins so is a header


def assign_roles(
    files: Sequence[AudioFile],
    lists: Sequence[tuple[str, Trials]],
    exclusions: Sequence[str],
    valid_lists: Sequence[tuple[str, Trials]] = (),
) -> tuple[dict[str, str], dict[str, list[AudioFile]]]:
    """Decide what every file is for.

    Parameters
    ----------
    files : sequence of AudioFile
        The files of all pooled trees.
    lists : sequence of (path, Trials)
        The trial lists, with the paths they were read from;
        names in the form of `alpha_sv.data.corpus.name_form`.
    exclusions : sequence of str
        Speakers of the trees, or files with one in the first column of each line.
    valid_lists : sequence of (path, Trials)
        Development trial lists; their speakers do not train either.

    Returns
    -------
    split_of : dict
        ID → "train", "valid" or "test", of the files in use, in the order of `files`.
    left_out : dict
        Reason → files.

    Raises
    ------
    ValueError
        A trial names a file that is not there, an exclusion, or a line of its file,
        is no speaker of the trees, or test and development trials share speakers.

    Example
    -------
    >>> names = ("s1/a.wav", "s1/b.wav", "s1/c.wav", "s2/a.wav")
    >>> files = [AudioFile(name, f"/data/{name}", 0, 0) for name in names]
    >>> assign_roles(files, [("trials.txt", Trials(["s1/a.wav"], ["s1/b.wav"], [True]))], [])[0]
    {'s1/a.wav': 'test', 's1/b.wav': 'test', 's2/a.wav': 'train'}
    """
    speaker_of = {file.utt_id: file.speaker for file in files}
    listed: dict[str, str] = {}
    speakers: dict[str, set[str]] = {"test": set(), "valid": set()}
    for split, group in (("test", lists), ("valid", valid_lists)):
        for path, trials in group:
            named = set(trials.enroll.tolist()).union(trials.test.tolist())
            _check_listed(path, named, speaker_of)
            _check_labels(path, trials, speaker_of)
            listed |= dict.fromkeys(named, split)
            speakers[split] |= {speaker_of[utt_id] for utt_id in named}
    if shared := sorted(speakers["test"] & speakers["valid"]):
        raise ValueError(
            f"{len(shared)} speakers are in the test and in the development trials ({', '.join(shared[:3])}): a model "
            "chosen on them has seen the test; take them out of one of the lists"
        )
    trial_speakers = speakers["test"] | speakers["valid"]
    excluded = _excluded(exclusions, set(speaker_of.values()))
    split_of: dict[str, str] = {}
    left_out: dict[str, list[AudioFile]] = {"other files of trial speakers": [], "excluded speakers": []}
    for file in files:
        if file.utt_id in listed:
            split_of[file.utt_id] = listed[file.utt_id]
        elif file.speaker in trial_speakers:
            left_out["other files of trial speakers"].append(file)
        elif file.speaker in excluded:
            left_out["excluded speakers"].append(file)
        else:
            split_of[file.utt_id] = "train"
    return split_of, left_out


def _check_listed(path: str, named: set[str], speaker_of: dict[str, str]) -> None:
    missing = sorted(named - speaker_of.keys())
    if not missing:
        return
    by_stem = {os.path.splitext(utt_id)[0]: utt_id for utt_id in speaker_of}
    below = {utt_id.partition("/")[2]: utt_id for utt_id in speaker_of}
    hint = "paths in a trial list are relative to the data folder, with their extension"
    for utt_id in missing:
        near = by_stem.get(os.path.splitext(utt_id)[0]) or below.get(utt_id)
        near = near or (utt_id.partition("/")[2] in speaker_of and utt_id.partition("/")[2])
        if near:
            hint = f"{utt_id} may be {near}: {hint}"
            break
    raise ValueError(
        f"{path}: {len(missing)} of the {len(named)} files it names are not in the data folders "
        f"({some(missing)}); {hint}"
    )


def _check_labels(path: str, trials: Trials, speaker_of: dict[str, str]) -> None:
    same = [a for a, b in zip(trials.enroll.tolist(), trials.test.tolist(), strict=True) if a == b]
    if same:
        logger.warning(
            "%s: %d of %d trials compare a file with itself (such as %s), which is no test; take them out",
            *(path, len(same), len(trials), same[0]),
        )
    if trials.labels is None:
        return
    rows = zip(trials.enroll.tolist(), trials.test.tolist(), trials.labels.tolist(), strict=True)
    odd = [(a, b) for a, b, target in rows if (speaker_of[a] == speaker_of[b]) != target]
    if odd:
        logger.warning(
            "%s: %d of %d labels contradict the speaker folders (such as %s %s); labels the wrong way "
            "round, or a data folder at the wrong level?",
            *(path, len(odd), len(trials), *odd[0]),
        )


def _excluded(exclusions: Sequence[str], speakers: set[str]) -> set[str]:
    excluded: set[str] = set()
    for item in exclusions:
        path = os.path.expanduser(item)
        if as_word(item) in speakers:
            excluded.add(as_word(item))
        elif os.path.isfile(path):
            excluded |= _listed(path, speakers)
        else:
            raise ValueError(
                f"exclude_speakers: {item!r} is neither a speaker of the data folders (such as {min(speakers)!r}) nor "
                "a file; correct the name"
            )
    return excluded


def _listed(path: str, speakers: set[str]) -> set[str]:
    """The speakers that a file names. All must be there: a name that is misspelt would train."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a list of speakers must be text in UTF-8 ({error}); convert it") from error
    named, unknown = set(), []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        word = one_form(re.split(r"[\s,]", line, maxsplit=1)[0])
        if as_word(line) in speakers:  # a speaker whose name has a space
            named.add(as_word(line))
        elif word in speakers:
            named.add(word)
        elif line and not (number == 1 and word.lower() in _HEADER):
            unknown.append(f"{path}:{number}: {word!r}")
    if unknown:
        raise ValueError(
            f"exclude_speakers: {len(unknown)} of the {len(named) + len(unknown)} speakers of the list are not in the "
            f"data folders ({'; '.join(unknown[:3])}{'; ...' if len(unknown) > 3 else ''}): correct the names (such as "
            f"{min(speakers)!r}), or take those lines out"
        )
    return named
