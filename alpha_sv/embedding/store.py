"""Embeddings on disk: a float32 matrix that is memory-mapped,
an index of its rows, and what they were made from.

    <store>/embeddings.npy   float32 [N, D]
    <store>/index.csv        ID,spk_id,split, one line per row
    <store>/meta.json        written last: a store without it is unfinished

While it is being filled, the matrix is `embeddings.part.npy` and `done.part.npy` flags its finished
rows; a writer with the key in `key.part` continues there, one with another key starts afresh. A
finished store of another key that is there already stays until every row of the new one is written:
then meta.json goes first and the new one comes last, so that a kill in between leaves an unfinished
store, which the same command completes.
"""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpha_sv.files import InputError, atomic_write, read_json, read_npy, read_text, reading, spelled

FORMAT = "alpha_sv.embeddings/1"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingStore:
    """A finished store; `matrix` is read from disk as it is used.

    Example
    -------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> writer = StoreWriter(
    ...     folder, ["a", "b"], ["s1", "s2"], ["test", "test"], dim=3, key="model-1"
    ... )
    >>> writer.write([0, 1], np.eye(3, dtype="float32")[:2])
    >>> store = writer.finish()
    >>> store.matrix[store.rows(["b"])]
    array([[0., 1., 0.]], dtype=float32)
    """

    path: Path
    ids: list[str]
    speakers: list[str]
    splits: list[str]
    matrix: np.ndarray
    meta: dict

    @classmethod
    def open(cls, path: str | os.PathLike) -> EmbeddingStore:
        """Open a finished store; ValueError if it is missing, unfinished or inconsistent."""
        store = cls._open(Path(path))
        if _begun(store.path) not in (None, store.meta.get("key")):
            logger.warning(
                "%s is the store of an earlier extraction: a later one has begun there and is not finished; run that "
                "again, or delete its *.part* files",
                path,
            )
        return store

    @classmethod
    def _open(cls, path: Path) -> EmbeddingStore:
        if not (path / "meta.json").is_file():
            state = "unfinished: run the same `alpha-sv extract` again, it continues" if path.is_dir() else "not there"
            state = "a file; give the folder that `alpha-sv extract` wrote" if path.is_file() else state
            raise ValueError(f"embedding store {path} is {state}")
        try:
            meta = read_json(path / "meta.json", like={"format": str})
            if meta["format"] != FORMAT:
                raise ValueError(f"meta.json does not have the format {FORMAT!r}")
            with reading(path / "index.csv"), open(path / "index.csv", newline="", encoding="utf-8") as file:
                lines = csv.DictReader(file, strict=True)
                rows = [(line["ID"], line["spk_id"], line["split"]) for line in lines]
                if any(None in row for row in rows) or len({row[0] for row in rows}) < len(rows):
                    raise ValueError("index.csv has a line without all columns, or an ID twice")
            matrix = read_npy(path / "embeddings.npy")
            if matrix.ndim != 2 or matrix.shape[0] != len(rows) or not rows or matrix.dtype != np.float32:
                raise ValueError(f"embeddings {matrix.dtype} {matrix.shape} for {len(rows)} lines in index.csv")
        except (ValueError, KeyError, OSError) as error:
            raise InputError(f"embedding store {path} is damaged ({error}); delete it and extract again") from error
        ids, speakers, splits = (list(column) for column in zip(*rows, strict=True))
        return cls(path, ids, speakers, splits, matrix, meta)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers [len(ids)] int64; ValueError naming ids that are not in the store."""
        where = {utt_id: row for row, utt_id in enumerate(self.ids)}
        ids = spelled(map(str, ids), where)
        missing = sorted(set(ids) - where.keys())
        if missing:
            raise ValueError(
                f"{len(missing)} utterances are not in the store {self.path}: {', '.join(missing[:5])}"
                f"{', …' if len(missing) > 5 else ''}; extract them, or check that ids are relative to the same root"
            )
        return np.fromiter((where[utt_id] for utt_id in ids), dtype=np.int64, count=len(ids))

    def split_rows(self, split: str) -> np.ndarray:
        """Row numbers of one split."""
        return np.flatnonzero(np.asarray(self.splits) == split)


class StoreWriter:
    """Fill a store row by row, in any order, over any number of runs.

    Parameters
    ----------
    path : path-like
        Folder of the store.
    ids, speakers, splits : sequences of str
        The index, one entry a row. Ids must be distinct.
    dim : int
        D.
    key : str
        Hash of everything the embeddings depend on.
        A part written under another key is discarded; a finished store stays until `finish`.

    Attributes
    ----------
    finished : EmbeddingStore or None
        The store, if a whole one with this very key is there already;
        then there is nothing to write.
    """

    def __init__(self, path, ids, speakers, splits, dim: int, key: str):
        self.path, self.ids, self.speakers, self.splits = Path(path), list(ids), list(speakers), list(splits)
        self.dim, self.key = dim, key
        if not self.ids:
            raise ValueError(f"nothing to extract into {path}: the list of utterances is empty")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"the ids of a store must be distinct; {len(self.ids) - len(set(self.ids))} are repeated")
        self._part, self._done_file = self.path / "embeddings.part.npy", self.path / "done.part.npy"
        self._key_file, self._meta_file = self.path / "key.part", self.path / "meta.json"
        self.path.mkdir(parents=True, exist_ok=True)
        self.finished = self._whole()
        if self.finished is not None:
            if _begun(self.path) in (None, key):
                self._tidy_up()  # of a run that was killed when all but this was done
            return
        if not self._resumes():
            self._key_file.unlink(missing_ok=True)
            if not self._meta_file.exists():  # then embeddings.npy is of no store, and must not pass for our part
                (self.path / "embeddings.npy").unlink(missing_ok=True)
            _allocate(self._part, np.float32, (len(self.ids), dim))
            _allocate(self._done_file, np.uint8, (len(self.ids),))
            with atomic_write(self._key_file) as file:
                file.write(key)
            self._open_part()

    def _resumes(self) -> bool:
        """Open a part of this very key that an earlier run left;
        False if there is none, or it is damaged."""
        finished = self.path / "embeddings.npy"
        try:
            if _begun(self.path) != self.key:
                return False
            if finished.is_file() and not self._part.exists() and not self._meta_file.exists():
                # killed in `finish`, after the rename
                os.replace(finished, self._part)
            self._open_part()
        except (OSError, ValueError):
            return False
        matrix, done = ((part.dtype, part.shape) for part in (self._matrix, self._done))
        return matrix == (np.float32, (len(self.ids), self.dim)) and done == (np.uint8, (len(self.ids),))

    def _open_part(self) -> None:
        self._matrix, self._done = read_npy(self._part, mode="r+"), read_npy(self._done_file, mode="r+")

    def _whole(self) -> EmbeddingStore | None:
        try:
            store = EmbeddingStore._open(self.path)
        except ValueError:  # missing, unfinished or damaged: to be made
            return None
        return store if store.meta.get("key") == self.key else None

    def missing(self) -> np.ndarray:
        """Rows still to be written."""
        return np.flatnonzero(self._done == 0)

    def write(self, rows: Sequence[int], embeddings: np.ndarray) -> None:
        """Write embeddings [len(rows), D]; refused as a whole if any is not finite or is zero."""
        with np.errstate(over="ignore", under="ignore"):
            embeddings = np.asarray(embeddings).astype(self._matrix.dtype)  # first: what float32 cannot hold is bad
        bad = ~np.isfinite(embeddings).all(-1) | ~np.any(embeddings, axis=-1)
        if bad.any():
            names = [self.ids[row] for row in np.asarray(rows)[bad]]
            raise ValueError(f"the model gives a NaN, infinite or zero embedding for {', '.join(names[:5])}")
        self._matrix[rows] = embeddings
        self._done[rows] = 1  # after the row: a killed run never leaves a flagged half row

    def finish(self, **facts) -> EmbeddingStore:
        """Turn the part into a store; `facts` go into meta.json."""
        if len(self.missing()):
            raise ValueError(f"{len(self.missing())} rows of {self.path} have not been written")
        self._matrix.flush()
        del self._matrix, self._done
        if self._meta_file.exists():
            self._meta_file.unlink()  # from here on there is no store but the new one
        with atomic_write(self.path / "index.csv") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(("ID", "spk_id", "split"))
            lines.writerows(zip(self.ids, self.speakers, self.splits, strict=True))
        os.replace(self._part, self.path / "embeddings.npy")
        with atomic_write(self._meta_file) as file:
            json.dump({"format": FORMAT, "key": self.key, "dim": self.dim, **facts}, file, indent=1)
        self._tidy_up()
        return EmbeddingStore.open(self.path)

    def _tidy_up(self) -> None:
        for leftover in (self._part, self._done_file, self._key_file):
            leftover.unlink(missing_ok=True)


def _begun(folder: Path) -> str | None:
    """The key of the store that is being filled in a folder, if one is."""
    try:
        return read_text(folder / "key.part")
    except (OSError, ValueError):
        return None


def _allocate(path: Path, dtype, shape) -> None:
    """A zero-filled .npy file whose blocks exist:
    a full disk is an OSError here, not a crash in a memory map later."""
    np.lib.format.open_memmap(path, "w+", dtype, shape).flush()
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
