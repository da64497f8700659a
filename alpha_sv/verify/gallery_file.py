"""The file of a gallery: SQLite that several processes share,
that says when it is not one, and that forgets.

    meta (key, value)     the model's name and fingerprint, the number of changes
    people (id, name)
    samples (id, person, path, sha256, seconds, quality, embedding)

An embedding is float32, little-endian; there is no audio.

The file comes into being with its first sample, in one transaction;
before, a gallery that may be made is empty.

Every operation opens the file, takes what it needs in one transaction and closes it, so that
threads, processes and killed processes do not matter. The journal is a write-ahead log;
SQLite recovers after a kill.

Forgetting. `secure_delete` overwrites deleted rows with zeros; VACUUM then writes the database
anew, so that nothing is left in the gaps of moved rows, and a checkpoint empties the write-ahead
log, which held the old pages. A mark that is set with the deletion and cleared after all of this
makes the next process finish what a killed one began. What a file system or a disk keeps of
overwritten blocks is out of reach from here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)
APPLICATION_ID, VERSION = 0x41535647, 1  # "ASVG"
BUSY_SECONDS = 30.0
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE samples (id INTEGER PRIMARY KEY, person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE, "
    "path BLOB, sha256 TEXT NOT NULL UNIQUE, seconds REAL NOT NULL, quality TEXT NOT NULL, embedding BLOB NOT NULL)",
)


class GalleryError(ValueError):
    """A gallery that cannot be used, or a change that was refused; nothing was changed."""


def damaged(path: Path, what: str) -> GalleryError:
    """The error for a file whose content cannot be right."""
    return GalleryError(f"{path} is damaged: {what}; take it from a backup")


class GalleryFile:
    """Open, check and scrub the file at `path`; with `create` it need not be there yet.

    Raises
    ------
    GalleryError
        There is no such file and `create` is false;
        it is not a gallery, or a damaged one, or of a later version.
    """

    def __init__(self, path: str | os.PathLike, create: bool = False):
        self.path = Path(os.path.abspath(Path(path).expanduser()))
        self._pending = create  # until the file has been seen
        if not self._absent():
            self._open()

    def _absent(self) -> bool:
        """Whether the file is still to be made."""
        if not self._pending:
            return False
        return not os.path.lexists(self.path) or (self.path.is_file() and not self.path.stat().st_size)

    def _open(self) -> None:
        if not self.path.is_file():
            raise GalleryError(f"{self.path}: no such gallery; `alpha-sv enrol {self.path.name} NAME FILES` makes one")
        if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
            logger.warning("%s can be read by others; voices are personal: chmod 600 %s", self.path, self.path)
        with self._translated(), self._connection() as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if self._absent():  # at that, SQLite has taken back a first enrolment that was killed
                return
            self._check(db, thorough=True)
            self._keep_a_log(db)
        self._pending = False
        with self.transaction() as db:
            unfinished = get(db, "scrub")
        if unfinished:
            logger.warning("%s: finishing a deletion that was interrupted", self.path)
            self.scrub()

    @contextlib.contextmanager
    def transaction(self, write: bool = False, first: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that is undone by an exception;
        a `write` counts as one change.

        `first`: what is written may be the first sample, so the file is made if it is not there.
        """
        with self._translated(), self._connection(first) as db:
            db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                if self._pending:
                    self._lay_out(db)
                self._check(db)
                yield db
                if write:
                    put(db, "changes", str(int(get(db, "changes") or 0) + 1))
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has undone it by itself after some errors
                    db.execute("ROLLBACK")
                raise
        if self._pending and not self._absent():
            self._open()

    def scrub(self) -> None:
        """Remove every trace of deleted rows from the file and its write-ahead log.

        Raises
        ------
        GalleryError
            Another process has been reading for 30 s: the rows are gone for every reader,
            but old pages are still in the log; the next use of the gallery finishes it.
        """
        if self._absent():
            return
        with self._translated(), self._connection() as db:
            deadline = time.monotonic() + BUSY_SECONDS
            db.execute("VACUUM")
            while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise GalleryError(
                        f"{self.path}: removed, but another process keeps the old pages in use; they are overwritten "
                        "when the gallery is next used without it"
                    )
                time.sleep(0.05)
            db.execute("DELETE FROM meta WHERE key = 'scrub'")

    def _lay_out(self, db: sqlite3.Connection) -> None:
        if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:  # another process was faster
            return
        for table in _SCHEMA:
            db.execute(table)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")

    def _keep_a_log(self, db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:  # this pragma does not wait for others by itself
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextlib.contextmanager
    def _connection(self, first: bool = False) -> Iterator[sqlite3.Connection]:
        where = f"{self.path.as_uri()}?mode=rw"
        if self._absent() and first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # -wal and -shm get its mode
        elif self._absent():
            where = "file::memory:"
        db = sqlite3.connect(where, timeout=BUSY_SECONDS, isolation_level=None, uri=True)
        try:
            # nothing of a prepared file runs or is trusted,
            # and no copy of a voice goes to a temporary file
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
                db.execute(f"PRAGMA {pragma}")
            for pragma in ("foreign_keys = ON", "secure_delete = ON", "synchronous = FULL"):
                db.execute(f"PRAGMA {pragma}")
            yield db
        finally:
            db.close()

    def _check(self, db: sqlite3.Connection, thorough: bool = False) -> None:
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if not application and not self._pending and not self.path.stat().st_size:
            raise GalleryError(f"{self.path} is empty: nobody has been enrolled; `alpha-sv enrol` does it")
        if application != APPLICATION_ID:
            raise GalleryError(f"{self.path} is a database of something else, not a gallery; give another file")
        if version != VERSION:
            raise GalleryError(
                f"{self.path} is a gallery of format {version}, this version reads {VERSION}; update alpha_sv"
            )
        if thorough:
            rows = db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
            if tuple(row[0] for row in rows) != _SCHEMA:
                raise GalleryError(f"{self.path} has other tables than a gallery has; take the file from a backup")
            if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise damaged(self.path, found)
        for key, value in db.execute("SELECT key, value FROM meta"):
            if not isinstance(value, str) or (key == "changes" and not re.fullmatch("[0-9]{1,18}", value)):
                raise damaged(self.path, f"{str(key)[:40]!r} in its table meta is {ascii(value)[:40]}")
        if get(db, "fingerprint") is None and db.execute("SELECT id FROM samples LIMIT 1").fetchone():
            raise damaged(self.path, "it does not say of which model its samples are")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text or "busy" in text:
                remedy = f"another process has held it for {BUSY_SECONDS:g} s; try again"
            elif "full" in text:
                remedy = "no space is left on the disk; nothing was changed"
            elif "readonly" in text or "unable to open" in text:
                remedy = "the file and its folder must be writable, with space left on the disk"
            elif "decode" in text:
                raise damaged(self.path, text) from error
            else:
                remedy = "nothing was changed; is there space left on the disk?"
            raise GalleryError(f"{self.path}: {text}; {remedy}") from error
        except sqlite3.DatabaseError as error:
            raise GalleryError(
                f"{self.path} is not a gallery, or a damaged one ({error}); give another file"
            ) from error


def get(db: sqlite3.Connection, key: str) -> str | None:
    """A value of the table meta."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def put(db: sqlite3.Connection, key: str, value: str) -> None:
    """Set a value of the table meta."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))
