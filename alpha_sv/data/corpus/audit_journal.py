"""The journal of an audit: what was found in which
file is written down at once, so no file is read twice.

One line of JSON a usable file is appended as soon as the file was examined. Its key is a hash of
the path, size and modification time and of what was asked of it: a file that changed, or another
question, finds no line. An interrupt costs the files in flight; a line that a crash cut short is
dropped. The journal stays when all is done, because another trial list, seed or split of the same
corpus then costs no reading; it may be deleted at any time. Files with a problem that leaves them
out are not written down: they are looked at again, for the problem may have been the disk's.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from alpha_sv.data.corpus.audit import LEFT_OUT, Examined, examine_all
from alpha_sv.data.corpus.tree import AudioFile
from alpha_sv.files import input_key

logger = logging.getLogger(__name__)
_DIGITS = 24  # of a key: 96 bits


@dataclass(frozen=True)
class Examination:
    """`results` in the order of the files;
    `known` of them from the journal, the rest read in `seconds`."""

    results: list[Examined]
    known: int
    seconds: float

    @property
    def speed(self) -> dict[str, float]:
        """Files read, files known, seconds, files/s: for prepare.json."""
        read = len(self.results) - self.known
        rate = read / self.seconds if read else 0.0
        return {"read": read, "known": self.known, "seconds": round(self.seconds, 2), "files_per_second": round(rate)}


def examine_files(
    files: Sequence[AudioFile],
    journal: str | os.PathLike,
    sample_rate: int,
    min_duration: float,
    decode: bool = True,
    workers: int | None = None,
    progress: bool = True,
    resample: bool = False,
    rir: bool = False,
) -> Examination:
    """Examine the files that the journal does not know yet;
    arguments as `alpha_sv.data.corpus.audit.examine_all`.

    Parameters
    ----------
    journal : path-like
        Made, with its folder, if need be. Lines are appended to it.

    Example
    -------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> soundfile.write(root / "a.wav", [0.5, -0.5] * 8000, 16000)
    >>> files = [AudioFile("s1/a.wav", str(root / "a.wav"), 32044, 1)]
    >>> examine_files(files, root / "j", 16000, 0.3, progress=False).known
    0
    >>> examine_files(files, root / "j", 16000, 0.3, progress=False).known
    1
    """
    started = time.perf_counter()
    journal = Path(journal)
    journal.parent.mkdir(parents=True, exist_ok=True)
    asked = (sample_rate, min_duration, decode, resample, rir, soundfile.__libsndfile_version__)
    keys = [input_key(["3", file.path, file.size, file.mtime_ns, *asked])[:_DIGITS] for file in files]
    results: list[Examined | None] = [None] * len(files)
    if journal.is_file():
        place = {key: index for index, key in enumerate(keys)}
        for key, examined in _entries(journal):
            if key in place:
                results[place[key]] = examined
    unknown = [index for index, examined in enumerate(results) if examined is None]
    paths = [files[index].path for index in unknown]
    with open(journal, "a", encoding="utf-8", buffering=1) as log:  # every line reaches the system when it is whole
        examined_now = examine_all(paths, sample_rate, min_duration, decode, workers, progress, resample, rir)
        for index, examined in zip(unknown, examined_now, strict=True):
            results[index] = examined
            if not any(problem in LEFT_OUT for problem, _ in examined.problems):
                log.write(_line(keys[index], examined))
    return Examination(results, len(files) - len(unknown), time.perf_counter() - started)


def _line(key: str, examined: Examined) -> str:
    header = (examined.num_samples, examined.sample_rate, examined.channels)
    return json.dumps([key, *header, examined.problems, examined.digest], separators=(",", ":")) + "\n"


def _entries(journal: Path) -> Iterator[tuple[str, Examined]]:
    """The whole lines; a cut last line is taken off the file,
    so that the next one does not continue it."""
    whole, damaged = 0, 0
    with open(journal, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                damaged += 1
                break
            whole += len(line)
            try:
                key, num_samples, sample_rate, channels, problems, digest = json.loads(line)
                problems = tuple((str(problem), str(detail)) for problem, detail in problems)
                header = (num_samples, sample_rate, channels)
                if not isinstance(key, str) or not all(type(n) is int and 0 <= n < 2**63 for n in header):
                    raise TypeError("not a line of this journal")
            except (ValueError, TypeError, RecursionError):  # neither JSON nor of this form
                damaged += 1
                continue
            yield key, Examined(num_samples, sample_rate, channels, problems, digest)
    os.truncate(journal, whole)
    if damaged:
        logger.warning("%s: %d damaged lines, as after a crash; their files are read again", journal, damaged)
