"""A split that others can reproduce: who trains,
validates and is tested, in one small file without paths.

    train id00012/21Uxsk56VDQ/00001.wav 131072
    split utt_id num_samples, a line an utterance, sorted by utt_id, gzip-compressed

Its SHA-256 (of the text, because compressed bytes differ between versions of zlib:
`zcat split.txt.gz | sha256sum`) is the same on every machine that holds the same corpus.
Lengths are in samples, so files that were converted differently are told from those that the
split was published for.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from operator import attrgetter

from alpha_sv.data.corpus.manifest import SPLITS, Utterance
from alpha_sv.data.corpus.name_form import one_form
from alpha_sv.files import atomic_write


def write_split(path: str | os.PathLike, utterances: Iterable[Utterance]) -> str:
    """Write the split, atomically; returns the SHA-256 of its text.

    Example
    -------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "split.txt.gz")
    >>> _ = write_split(
    ...     path, [Utterance("s1/a.wav", "/data/s1/a.wav", "s1", "", 24000, 16000, 1, "train")]
    ... )
    >>> read_split(path)
    {'s1/a.wav': ('train', 24000)}
    """
    digest = hashlib.sha256()
    # no time and no name in the header of the gzip file: they would differ from run to run
    with atomic_write(path, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for utterance in sorted(utterances, key=attrgetter("utt_id")):
            line = f"{utterance.split} {utterance.utt_id} {utterance.num_samples}\n".encode()
            packed.write(line)
            digest.update(line)
    return digest.hexdigest()


def read_split(path: str | os.PathLike) -> dict[str, tuple[str, int]]:
    """ID → (split, number of samples), from a compressed or plain file.

    Raises
    ------
    ValueError
        The file is missing, damaged, empty, or has a malformed or repeated line (named file:line).
    """
    path, assigned = os.path.expanduser(path), {}
    for number, line in enumerate(_lines(path), 1):
        split, _, rest = line.rstrip("\n").partition(" ")
        utt_id, _, samples = rest.partition(" ")
        utt_id = one_form(utt_id)
        whole = samples.isascii() and samples.isdigit() and len(samples) < 19
        if split not in SPLITS or not utt_id or not whole or utt_id in assigned:
            fault = "is there twice" if utt_id in assigned else "is no line 'train|valid|test utt_id num_samples'"
            raise ValueError(f"{path}:{number}: {line.rstrip()[:200]!r} {fault}; get the published file again")
        assigned[utt_id] = (split, int(samples))
    if not assigned:
        raise ValueError(f"{path}: an empty split; get the published file again")
    return assigned


def take_over(
    path: str | os.PathLike, published: dict[str, tuple[str, int]], split_of: dict[str, str]
) -> dict[str, str]:
    """The published assignment in place of `split_of` (of
    `alpha_sv.data.corpus.assign_splits.assign_roles`).

    What trials and exclusions make of a file must agree with what was published; only which
    training speakers validate is free. Files that the split does not name are dropped,
    unless a trial needs them.

    Raises
    ------
    ValueError
        Files lack or have another role here: how many, and which.

    Example
    -------
    >>> take_over(
    ...     "split.txt.gz",
    ...     {"a": ("valid", 9), "b": ("train", 9)},
    ...     {"a": "train", "b": "train", "c": "train"},
    ... )
    {'a': 'valid', 'b': 'train'}
    """
    lacking = [utt_id for utt_id in published if utt_id not in split_of]
    if lacking:
        raise ValueError(
            f"{path}: {len(lacking)} of its {len(published)} files are not among the files to be used here "
            f"({_some(lacking)}): absent, or of a speaker that is excluded or tested here; complete the corpus, "
            "and give the trial lists and exclusions that the split was published with"
        )
    needed = [utt_id for utt_id, split in split_of.items() if split != "train" and utt_id not in published]
    differing = [
        utt_id
        for utt_id, (split, _) in published.items()
        if split != split_of[utt_id] and (split, split_of[utt_id]) != ("valid", "train")
    ]
    if needed or differing:
        example = f"{split_of[differing[0]]} here, {published[differing[0]][0]} there; " if differing else ""
        raise ValueError(
            f"{path}: the role of {len(needed + differing)} files differs ({_some(differing + needed)}; {example}"
            f"{len(needed)} are in trials and not in the split); give the trial lists that it was published with"
        )
    return {utt_id: published[utt_id][0] for utt_id in split_of if utt_id in published}


def check_lengths(
    path: str | os.PathLike, published: dict[str, tuple[str, int]], utterances: Iterable[Utterance]
) -> None:
    """ValueError unless every published file is usable here,
    with the length it was published with."""
    found = {utterance.utt_id: utterance.num_samples for utterance in utterances}
    unusable = [utt_id for utt_id in published if utt_id not in found]
    differing = [utt_id for utt_id in published if found.get(utt_id, published[utt_id][1]) != published[utt_id][1]]
    if unusable or differing:
        lengths = [f"{u}: {found[u]} samples, {published[u][1]} published; " for u in differing[:1]]
        raise ValueError(
            f"{path}: {len(differing)} of its {len(published)} files have another length here and {len(unusable)} are "
            f"not usable ({_some(differing + unusable)}; {''.join(lengths)}see audit.csv); get these files again, or "
            "convert them as the publisher did"
        )


def _lines(path: str | os.PathLike) -> Iterator[str]:
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such split file; check the path")
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path, "rt", encoding="utf-8") if packed else open(path, encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); get the published file again") from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
