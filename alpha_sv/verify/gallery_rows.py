"""The rows of a gallery: names that may stand in it, samples as columns, all of it exported, or embedded anew."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import sqlite3
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alpha_sv.files import sha256_file
from alpha_sv.verify.decision import Sample
from alpha_sv.verify.gallery_file import GalleryError, GalleryFile, get, put
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


def digest(item: Recording) -> str:
    """SHA-256 of a recording: of the file's bytes, or of the samples and the rate of an array."""
    if item.path is not None:
        return sha256_file(item.path)
    return hashlib.sha256(f"{item.sample_rate} ".encode() + item.array.astype("<f4").tobytes()).hexdigest()


def columns(sample: Sample) -> tuple[bytes | None, float, str, bytes]:
    """A sample's path, seconds, quality and embedding as they are stored."""
    path = None if sample.path is None else os.fsencode(os.path.abspath(sample.path))
    return path, sample.quality.seconds, json.dumps(dataclasses.asdict(sample.quality)), _blob(sample.embedding)


def vectors(gallery: Path, blobs: Sequence[bytes]) -> np.ndarray:
    """Stored embeddings as float64 [S, D]; GalleryError unless all are of one length, finite and not zero."""
    if any(len(blob) != len(blobs[0]) or not blob or len(blob) % 4 for blob in blobs):
        raise GalleryError(f"{gallery} is damaged: its embeddings have different lengths; take it from a backup")
    found = np.frombuffer(b"".join(blobs), "<f4").reshape(len(blobs), -1 if blobs else 0).astype(np.float64)
    if not (np.isfinite(found).all() and found.any(axis=1).all()):
        raise GalleryError(f"{gallery} is damaged: an embedding is zero or not finite; take it from a backup")
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
        for name, path, sha256, seconds, quality, embedding in db.execute(
            "SELECT name, path, sha256, seconds, quality, embedding FROM samples JOIN people ON people.id = person "
            "ORDER BY name, samples.id"
        ):
            row = {"file": os.fsdecode(path) if path else None, "sha256": sha256, "seconds": seconds}
            row |= {"quality": json.loads(quality), "embedding": base64.b64encode(embedding).decode()}
            people.setdefault(name, []).append(row)
        return {"model": get(db, "model"), "fingerprint": get(db, "fingerprint"), "people": people}


def reembed(file: GalleryFile, model: SpeakerModel) -> int:
    """Embed every sample anew with another model; returns how many.

    Raises
    ------
    GalleryError
        A file is not there any more, or has changed, or a sample never had one; all are named.
    """
    query = "SELECT id, path, sha256 FROM samples ORDER BY id"
    with file.transaction() as db:
        rows = db.execute(query).fetchall()
    paths = [os.fsdecode(path) if path else None for _, path, _ in rows]
    lost = []
    for path, (number, _, sha256) in zip(paths, rows, strict=True):
        if path is None:
            lost.append(f"sample {number} did not come from a file")
        elif not os.path.isfile(path) or sha256_file(path) != sha256:
            lost.append(f"{path} is gone or has changed")
    if lost:
        raise GalleryError(
            f"{file.path} keeps its model: {'; '.join(lost)}; remove these people, or bring the files back"
        )
    embeddings = model.embed(paths) if paths else []
    fingerprint = model.embedder.fingerprint()
    with file.transaction(write=True) as db:
        if db.execute(query).fetchall() != rows:
            raise GalleryError(f"{file.path} was changed meanwhile; run it again")
        for (number, *_), embedding in zip(rows, embeddings, strict=True):
            db.execute("UPDATE samples SET embedding = ? WHERE id = ?", (_blob(embedding), number))
        put_model(db, model, fingerprint)
        put(db, "scrub", "1")
    file.scrub()
    return len(rows)


def _blob(embedding: np.ndarray) -> bytes:
    return np.asarray(embedding, dtype="<f4").tobytes()
