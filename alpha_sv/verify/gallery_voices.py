"""The voices of a gallery: its samples by person, the evidence for each person, who is nearest."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.evidence import Sounds, cosines, held, nats
from alpha_sv.verify.gallery_rows import stored_rows, vectors
from alpha_sv.verify.open_set import Candidate


@dataclass(frozen=True, eq=False)
class Voices:
    """The samples of a gallery, by person:
    `person` [S] is the row of `names` [N] that a sample belongs to."""

    names: tuple[str, ...]
    files: tuple[str, ...]
    sounds: Sounds
    person: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], files: Sequence[str], embeddings: np.ndarray, seconds: np.ndarray) -> Voices:
        """From one name, file, embedding and length for each sample."""
        known = sorted(set(names))
        person = _rows(known, names)
        order = np.argsort(person, kind="stable")
        sounds = Sounds.of(np.asarray(embeddings)[order], np.asarray(seconds)[order])
        return cls(tuple(known), tuple(files[i] for i in order), sounds, person[order])

    @property
    def counts(self) -> np.ndarray:
        """Samples of each person [N]."""
        return np.bincount(self.person, minlength=len(self.names))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values of samples [..., S] added up for each person [..., N]."""
        return np.add.reduceat(values, np.searchsorted(self.person, np.arange(len(self.names))), axis=-1)

    def ranked(self, heard: Sounds, calibrator: Calibrator | None, unit: str) -> tuple[list[Candidate], float | None]:
        """Everybody, the best first in this unit, and the lead of the best in nats."""
        scores = self.sums(self.evidence(heard, None).mean(axis=0)) / self.counts
        llrs = self.sums(self.evidence(heard, calibrator).mean(axis=0)) / self.counts if calibrator else None
        best = np.argsort(-(llrs if unit == "nats" else scores), kind="stable")
        lead = float(llrs[best[0]] - llrs[best[1]]) if calibrator and len(best) > 1 else None
        nats_of = [held(calibrator, float(llrs[i])) if calibrator else None for i in best]
        both = zip(best, nats_of, strict=True)
        return [Candidate(self.names[i], float(scores[i]), llr) for i, llr in both], lead

    def evidence(self, others: Sounds, calibrator: Calibrator | None) -> np.ndarray:
        """Of each of M recordings against each sample [M, S]:
        nats, or cosines without a calibrator."""
        scores = cosines(others, self.sounds)
        return scores if calibrator is None else nats(calibrator, scores, others, self.sounds)


def stored_voices(gallery: Path, db: sqlite3.Connection, dim: int | None = None) -> Voices:
    """All samples that a gallery holds, of `dim` dimensions if these are known."""
    rows = list(stored_rows(gallery, db))
    files = [row.file or f"sample {row.number}" for row in rows]
    embeddings = vectors(gallery, [row.embedding for row in rows], dim)
    return Voices.of([row.name for row in rows], files, embeddings, [row.seconds for row in rows])


def _rows(known: list[str], names: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(known)}
    return np.array([place[name] for name in names], dtype=int)
