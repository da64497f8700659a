"""The manifest: one row per utterance, as a CSV that
SpeechBrain's `DynamicItemDataset.from_csv` reads."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from alpha_sv.data.corpus.name_form import one_form
from alpha_sv.files import atomic_write, input_key

SPLITS = ("train", "valid", "test")
_LONGEST = 16384  # characters of the names in a line; the path of a file has at most 4,096 bytes
COLUMNS = ("ID", "duration", "wav", "spk_id", "session", "num_samples", "sample_rate", "channels", "split")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker.

    Parameters
    ----------
    utt_id : str
        Path relative to the data folder, '/' between its parts,
        with extension: what trial lists name.
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
    """Write a manifest, atomically; rows keep their order.
    ValueError if two utterances share an ID.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "manifest.csv")
    >>> write_manifest(
    ...     path, [Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")]
    ... )
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
        The file is no CSV in UTF-8, a column is missing,
        a row is malformed or repeats an ID (named file:line), or `split` is no split.
    """
    path = os.path.expanduser(path)
    if split is not None and split not in SPLITS:
        raise ValueError(f"{path}: split must be one of {', '.join(SPLITS)} or None, got {split!r}")
    utterances: list[Utterance] = []
    line_of: dict[str, int] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, strict=True)
        line, where, width = 1, [], 0
        while True:
            try:
                row = next(rows, None)
                if row is None:
                    break
                if line == 1:
                    width, where = len(row), _columns(row)
                elif row:
                    utterance = _parse(row, width, where)
                    if utterance.utt_id in line_of:
                        raise ValueError(f"the ID {utterance.utt_id!r} is that of line {line_of[utterance.utt_id]} too")
                    line_of[utterance.utt_id] = line
                    if split is None or utterance.split == split:
                        utterances.append(utterance)
            except UnicodeDecodeError as error:
                line = _first_not_utf8(path)  # the reader was a block ahead
                raise ValueError(f"{path}:{line}: not UTF-8 ({error.reason}); write it again as UTF-8 text") from error
            except (ValueError, csv.Error) as error:
                raise ValueError(f"{path}:{line}: {error}; repair the line or prepare again") from error
            line = rows.line_num + 1
    if not where:
        raise ValueError(f"{path}:1: an empty file, no column {', '.join(COLUMNS)}; write it with `alpha-sv prepare`")
    return utterances


def manifest_hash(utterances: Iterable[Utterance]) -> str:
    """SHA-256 of who says what in which split: the same on every machine that holds the same data.

    Over (utt_id, speaker, num_samples, split), sorted by ID;
    neither the order of the rows nor where the files lie counts.

    >>> a = Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")
    >>> b = Utterance("s1/a.wav", "/mnt/s1/a.wav", "s1", "", 24000, 16000, 1, "train")
    >>> manifest_hash([a]) == manifest_hash([b])
    True
    """
    rows = sorted(utterances, key=attrgetter("utt_id"))  # IDs are unique; no copy of a million rows
    return input_key((u.utt_id, u.speaker, u.num_samples, u.split) for u in rows)


def few_of_each(utterances: Iterable[Utterance], most: int | None) -> list[Utterance]:
    """At most `most` utterances of each speaker, sorted by ID.

    Those whose SHA-256 of the ID is lowest: as good as drawn, the same on every
    machine and in any order of the manifest, and a larger `most` only adds to them.

    >>> rows = [
    ...     Utterance(f"s1/{i}.wav", f"/data/s1/{i}.wav", "s1", "", 16000, 16000, 1, "train")
    ...     for i in range(9)
    ... ]
    >>> [u.utt_id for u in few_of_each(rows, 2)]
    ['s1/6.wav', 's1/8.wav']
    """
    of: dict[str, list[Utterance]] = defaultdict(list)
    for u in utterances:
        of[u.speaker].append(u)
    drawn = (sorted(some, key=lambda u: hashlib.sha256(u.utt_id.encode()).digest())[:most] for some in of.values())
    return sorted((u for some in drawn for u in some), key=attrgetter("utt_id"))


def _first_not_utf8(path: str | os.PathLike) -> int:
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1  # it has changed since


def _columns(header: list[str]) -> list[int]:
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}; a manifest has the columns {','.join(COLUMNS)}")
    return [header.index(column) for column in COLUMNS]


def _parse(row: list[str], width: int, where: list[int]) -> Utterance:
    if len(row) != width:
        raise ValueError(f"{len(row)} fields where the header has {width}")
    utt_id, duration, path, speaker, session, num_samples, rate, channels, split = (row[column] for column in where)
    if len(utt_id) + len(path) + len(speaker) + len(session) > _LONGEST:
        raise ValueError(f"names of {max(map(len, row)):,} characters, at most {_LONGEST:,} in a line")
    if "\0" in utt_id or "\0" in path:
        raise ValueError("a NUL character in a name, which no file can have")
    numbers = (num_samples, rate, channels)
    # int() knows 1_000 and other scripts' digits
    if not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
        raise ValueError(f"one of {num_samples[:20]!r}, {rate[:20]!r} and {channels[:20]!r} is no whole number")
    if not duration.isascii() or "_" in duration:
        raise ValueError(f"{duration[:20]!r} is no number of seconds")
    utterance = Utterance(
        *(one_form(utt_id), path, sys.intern(one_form(speaker)), sys.intern(session)),
        *(int(num_samples), int(rate), int(channels), sys.intern(split)),
    )
    if not abs(float(duration) - utterance.duration) < 1e-3:
        raise ValueError(f"duration {duration} s, but num_samples / sample_rate is {utterance.duration} s")
    return utterance
