"""From files and what the audit found in them to the
rows of a manifest, and what is said of the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import soundfile

from alpha_sv.data.corpus.audit import Examined, Finding, summary
from alpha_sv.data.corpus.development_trials import eligible_speakers
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.corpus.tree import AudioFile
from alpha_sv.data.trials.files import Trials
from alpha_sv.files import input_key

logger = logging.getLogger(__name__)


def usable_rows(
    files: Sequence[AudioFile],
    results: Sequence[Examined],
    found: Sequence[Finding],
    split_of: dict[str, str],
) -> list[Utterance]:
    """Rows of the files that the audit does not leave out;
    ValueError if it leaves out all, or one that trials need."""
    bad = {finding.utt_id: finding for finding in found if finding.leaves_out}
    if len(bad) == len(files):
        raise ValueError(f"no usable file is left.\n{summary(found, len(files))}\nRepair or convert the files")
    needed = [finding for utt_id, finding in bad.items() if split_of[utt_id] != "train"]
    if needed:
        some = "; ".join(f"{finding.utt_id}: {finding.problem}: {finding.detail}" for finding in needed[:3])
        raise ValueError(
            f"{len(needed)} files that trials need are not usable "
            f"({some}{'; ...' if len(needed) > 3 else ''}); repair them, or take their trials out of the list"
        )
    return [
        Utterance(
            utt_id=file.utt_id,
            path=file.path,
            speaker=file.speaker,
            session=file.session,
            num_samples=result.num_samples,
            sample_rate=result.sample_rate,
            channels=result.channels,
            split=split_of[file.utt_id],
        )
        for file, result in zip(files, results, strict=True)
        if file.utt_id not in bad
    ]


def warn_of_duplicates(path: str, trials: Trials, files: Sequence[AudioFile], results: Sequence[Examined]) -> None:
    """Warn of trials whose two files have the very same samples."""
    digest_of = {file.utt_id: result.digest for file, result in zip(files, results, strict=True)}
    pairs = zip(trials.enroll.tolist(), trials.test.tolist(), strict=True)
    same = [(a, b) for a, b in pairs if a != b and digest_of.get(a) and digest_of[a] == digest_of.get(b)]
    if same:
        logger.warning(
            "%s: %d of %d trials compare two files with the very same samples (such as %s %s), which is no test; "
            "take them out",
            *(path, len(same), len(trials), *same[0]),
        )


def check_enough(train: list[str], num_valid_speakers: int, left_out: Mapping[str, Sequence[AudioFile]]) -> None:
    """The errors of `eligible_speakers`, with what was left out so far."""
    try:
        eligible_speakers(train, num_valid_speakers)
    except ValueError as error:
        raise ValueError(f"{error}. Files left out so far: {listing(left_out)}") from None


def listing(left_out: Mapping[str, Sequence[AudioFile]]) -> str:
    """What was left out, in one line.

    >>> files = [AudioFile(name, f"/{name}", 0, 0) for name in ("s1/a", "s1/b")]
    >>> listing({"excluded speakers": files, "other": []})
    'excluded speakers: 2 files of 1 speakers'
    """
    counts = [(reason, len(group), num_speakers(group)) for reason, group in left_out.items() if group]
    return ", ".join(f"{reason}: {files} files of {speakers} speakers" for reason, files, speakers in counts) or "none"


def num_speakers(files: Sequence[AudioFile]) -> int:
    """How many speakers the files have."""
    return len({file.speaker for file in files})


def samples_hash(digest_of: Mapping[str, str | None], names: Iterable[str]) -> str:
    """What tells that a file was replaced by another of the same length:
    the decoder and a hash of all its samples.

    "" where the audit read headers only.

    >>> samples_hash({"a": "d41d8c", "b": None}, ["a"])[-64:-56]
    '3fb8e948'
    >>> samples_hash({"a": "d41d8c", "b": None}, ["a", "b"])
    ''
    """
    rows = [(name, digest_of[name]) for name in sorted(names)]
    return f"{soundfile.__libsndfile_version__} {input_key(rows)}" if all(digest for _, digest in rows) else ""


def count(utterances: Iterable[Utterance], split: str) -> dict[str, float]:
    """Speakers, utterances and hours of a split."""
    members = [u for u in utterances if u.split == split]
    hours = sum(u.duration for u in members) / 3600
    return {
        "speakers": len({u.speaker for u in members}),
        "utterances": len(members),
        "hours": round(hours, 4),
    }
