"""The manifest: one row per utterance, as a CSV that SpeechBrain's `DynamicItemDataset.from_csv` reads."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from alpha_sv.files import atomic_write

SPLITS = ("train", "valid", "test")
COLUMNS = ("ID", "duration", "wav", "spk_id", "session", "num_samples", "sample_rate", "channels", "split")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker.

    Parameters
    ----------
    utt_id : str
        Path relative to the data folder, '/' between its parts, with extension: what trial lists name.
    path : str
        Absolute path.
    speaker : str
        First part of `utt_id` in a speaker tree.
    session : str
        Recording session within the speaker; '' if there is none.
    num_samples, sample_rate, channels : int
        Samples per channel; Hz; count.
    split : {"train", "valid", "test"}

    Example
    -------
    >>> Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train").duration
    1.5
    """

    utt_id: str
    path: str
    speaker: str
    session: str
    num_samples: int
    sample_rate: int
    channels: int
    split: str

    def __post_init__(self) -> None:
        if not self.utt_id or not self.speaker:
            raise ValueError(f"an utterance needs an ID and a speaker, got {self.utt_id!r} and {self.speaker!r}")
        if not os.path.isabs(self.path):
            raise ValueError(f"the path of {self.utt_id!r} must be absolute, got {self.path!r}")
        if min(self.num_samples, self.sample_rate, self.channels) < 1:
            raise ValueError(
                f"{self.utt_id!r}: num_samples, sample_rate and channels must be positive, got "
                f"{self.num_samples}, {self.sample_rate}, {self.channels}"
            )
        if self.split not in SPLITS:
            raise ValueError(f"{self.utt_id!r}: split must be one of {', '.join(SPLITS)}, got {self.split!r}")

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_samples / self.sample_rate


def write_manifest(path: str | os.PathLike, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, atomically; rows keep their order. ValueError if two utterances share an ID.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "manifest.csv")
    >>> write_manifest(path, [Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")])
    >>> print(open(path).read(), end="")
    ID,duration,wav,spk_id,session,num_samples,sample_rate,channels,split
    s1/a.wav,1.5,/data/s1/a.wav,s1,,24000,16000,1,train
    >>> read_manifest(path, split="train")[0].speaker
    's1'
    """
    seen: set[str] = set()
    with atomic_write(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for utterance in utterances:
            if utterance.utt_id in seen:
                raise ValueError(f"{path}: two utterances have the ID {utterance.utt_id!r}; rename one")
            seen.add(utterance.utt_id)
            rows.writerow(
                (
                    utterance.utt_id,
                    repr(utterance.duration),
                    utterance.path,
                    utterance.speaker,
                    utterance.session,
                    utterance.num_samples,
                    utterance.sample_rate,
                    utterance.channels,
                    utterance.split,
                )
            )


def read_manifest(path: str | os.PathLike, split: str | None = None) -> list[Utterance]:
    """Read a manifest, or one split of it; the whole file is checked either way.

    Parameters
    ----------
    path : path-like
        CSV with at least the columns of `COLUMNS`, in any order.
    split : {"train", "valid", "test"}, optional
        Every row if None.

    Raises
    ------
    ValueError
        A column is missing, a row is malformed or repeats an ID (named file:line), or `split` is no split.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"{path}: split must be one of {', '.join(SPLITS)} or None, got {split!r}")
    utterances: list[Utterance] = []
    line_of: dict[str, int] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise ValueError(
                f"{path}:1: no column {', '.join(missing)}; a manifest has the columns {','.join(COLUMNS)}: "
                "write it with `alpha-sv prepare`"
            )
        where = [header.index(column) for column in COLUMNS]
        for row in rows:
            if not row:
                continue
            try:
                if len(row) != len(header):
                    raise ValueError(f"{len(row)} fields where the header has {len(header)}")
                utterance = _parse(*(row[column] for column in where))
                if utterance.utt_id in line_of:
                    raise ValueError(f"the ID {utterance.utt_id!r} is that of line {line_of[utterance.utt_id]} too")
            except ValueError as error:
                raise ValueError(f"{path}:{rows.line_num}: {error}; repair the line or prepare again") from error
            line_of[utterance.utt_id] = rows.line_num
            if split is None or utterance.split == split:
                utterances.append(utterance)
    return utterances


def manifest_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 of who says what in which split: the same on every machine that holds the same data.

    Over (utt_id, speaker, num_samples, split), sorted by ID; neither the order of the rows nor where the files
    lie counts.

    >>> a = Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")
    >>> b = Utterance("s1/a.wav", "/mnt/s1/a.wav", "s1", "", 24000, 16000, 1, "train")
    >>> manifest_hash([a]) == manifest_hash([b])
    True
    """
    digest = hashlib.sha256()
    for u in sorted(utterances, key=attrgetter("utt_id")):  # IDs are unique; no copy of a million rows
        digest.update(json.dumps((u.utt_id, u.speaker, u.num_samples, u.split)).encode() + b"\n")
    return digest.hexdigest()


def _parse(utt_id, duration, path, speaker, session, num_samples, sample_rate, channels, split) -> Utterance:
    utterance = Utterance(utt_id, path, speaker, session, int(num_samples), int(sample_rate), int(channels), split)
    if not abs(float(duration) - utterance.duration) < 1e-3:
        raise ValueError(f"duration {duration} s, but num_samples / sample_rate is {utterance.duration} s")
    return utterance
