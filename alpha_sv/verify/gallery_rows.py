"""The rows of a gallery: names that may stand in it,
samples as columns, all of it exported, or embedded anew."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import os
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alpha_sv.files import parse_json, sha256_file
from alpha_sv.verify.decision import Sample
from alpha_sv.verify.gallery_file import GalleryError, GalleryFile, damaged, get, put
from alpha_sv.verify.waveforms import Recording

if TYPE_CHECKING:
    from alpha_sv.verify.model import SpeakerModel

LONGEST_NAME = 200
COLUMNS = "person, sha256, path, seconds, quality, embedding"
_DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they make a name look like another


def checked_name(name: object) -> str:
    """A person's name in NFC, without white space around it; GalleryError if it cannot be one.

    >>> checked_name(" Zoe\\u0308 ") == "Zo\\u00eb"
    True
    """
    if not isinstance(name, str):
        raise GalleryError(f"a name is a text, got {name!r}")
    name = unicodedata.normalize("NFC", name[: 4 * LONGEST_NAME]).strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise GalleryError(f"a name has 1 to {LONGEST_NAME} characters, got {len(name)}")
    bad = [c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _DIRECTIONS]
    if bad:
        raise GalleryError(f"the name {ascii(name)} has a control character, {ascii(bad[0])}; leave it out")
    return name


def stored_name(gallery: Path, name: object) -> str:
    """A name as it was read; GalleryError if `checked_name` would never have let it in."""
    try:
        if checked_name(name) == name:
            return name
    except GalleryError:
        pass
    raise damaged(gallery, f"{ascii(name)[:80]} is no name")


class Row(NamedTuple):
    """A stored sample with its person's name; `path` is None where it did not come from a file."""

    name: str
    number: int
    path: bytes | None
    sha256: str
    seconds: float
    quality: str
    embedding: bytes

    @property
    def file(self) -> str | None:
        return os.fsdecode(self.path) if self.path else None


_KINDS = Row(str, int, (bytes, type(None)), str, float, str, bytes)  # SQLite keeps any type in any column


def stored_rows(gallery: Path, db: sqlite3.Connection) -> Iterator[Row]:
    """All samples, by name and age; GalleryError if one is not as `columns` made it."""
    for found in db.execute(
        "SELECT name, samples.id, path, sha256, seconds, quality, embedding FROM samples JOIN people "
        "ON people.id = person ORDER BY name, samples.id"
    ):
        row = Row(*found)
        wrong = [field for field in Row._fields if not isinstance(getattr(row, field), getattr(_KINDS, field))]
        if not wrong and not 0 < row.seconds < math.inf:
            wrong = ["seconds"]
        if not wrong:
            try:
                parse_json(row.quality, gallery, like=dict)
            except ValueError:
                wrong = ["quality"]
        if wrong:
            raise damaged(gallery, f"{wrong[0]} of sample {row.number} is {ascii(getattr(row, wrong[0]))[:40]}")
        stored_name(gallery, row.name)
        yield row


def digest(item: Recording) -> str:
    """SHA-256 of a recording: of the file's bytes, or of the samples and the rate of an array."""
    if item.path is not None:
        return sha256_file(item.path)
    return hashlib.sha256(f"{item.sample_rate} ".encode() + item.array.astype("<f4").tobytes()).hexdigest()


def columns(sample: Sample) -> tuple[bytes | None, float, str, bytes]:
    """A sample's path, seconds, quality and embedding as they are stored."""
    path = None if sample.path is None else os.fsencode(os.path.abspath(sample.path))
    return path, sample.quality.seconds, json.dumps(dataclasses.asdict(sample.quality)), _blob(sample.embedding)


def vectors(gallery: Path, blobs: Sequence[bytes], dim: int | None = None) -> np.ndarray:
    """Stored embeddings as float64 [S, D];
    GalleryError unless all are of one length (`dim`), finite and not zero."""
    length = len(blobs[0]) if blobs and dim is None else 4 * (dim or 0)
    if any(len(blob) != length or not blob or len(blob) % 4 for blob in blobs):
        raise damaged(gallery, f"its embeddings have different lengths{'' if dim is None else f', not {dim} numbers'}")
    found = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1 if blobs else 0).astype(np.float64)
    if not (np.isfinite(found).all() and found.any(axis=1).all()):
        raise damaged(gallery, "an embedding is zero or not finite")
    return found


def put_model(db: sqlite3.Connection, model: SpeakerModel, fingerprint: str) -> None:
    """Write down whose embeddings the gallery has."""
    for key, value in (
        ("fingerprint", fingerprint),
        ("model", model.name),
        ("weights", os.path.abspath(model.weights)),
    ):
        put(db, key, value)


def export(file: GalleryFile) -> dict:
    """Everything that is stored, as JSON values; embeddings are little-endian float32 in base64."""
    with file.transaction() as db:
        people = {}
        for row in stored_rows(file.path, db):
            entry = {"file": row.file, "sha256": row.sha256, "seconds": row.seconds}
            entry |= {"quality": json.loads(row.quality), "embedding": base64.b64encode(row.embedding).decode()}
            people.setdefault(row.name, []).append(entry)
        return {"model": get(db, "model"), "fingerprint": get(db, "fingerprint"), "people": people}


def reembed(file: GalleryFile, model: SpeakerModel) -> int:
    """Embed every sample anew with another model; returns how many.

    Raises
    ------
    GalleryError
        A file is not there any more, or has changed, or a sample never had one; all are named.
    """
    with file.transaction() as db:
        rows = list(stored_rows(file.path, db))
    paths = [row.file for row in rows]
    lost = []
    for path, row in zip(paths, rows, strict=True):
        if path is None:
            lost.append(f"sample {row.number} did not come from a file")
        elif not os.path.isfile(path) or sha256_file(path) != row.sha256:
            lost.append(f"{path} is gone or has changed")
    if lost:
        raise GalleryError(
            f"{file.path} keeps its model: {'; '.join(lost)}; remove these people, or bring the files back"
        )
    embeddings = model.embed(paths) if paths else []
    fingerprint = model.embedder.fingerprint()
    with file.transaction(write=True) as db:
        if list(stored_rows(file.path, db)) != rows:
            raise GalleryError(f"{file.path} was changed meanwhile; run it again")
        for row, embedding in zip(rows, embeddings, strict=True):
            db.execute("UPDATE samples SET embedding = ? WHERE id = ?", (_blob(embedding), row.number))
        put_model(db, model, fingerprint)
        put(db, "scrub", "1")
    file.scrub()
    return len(rows)


def _blob(embedding: np.ndarray) -> bytes:
    return np.asarray(embedding, dtype="<f4").tobytes()
