"""People by their voices: enrol, identify, remove; one file, see `alpha_sv.verify.gallery_file`."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.decision import check_request, choose_point, listen, sounds
from alpha_sv.verify.evidence import require_model, require_pairs
from alpha_sv.verify.gallery_check import GalleryCheck, check_voices, own_threshold
from alpha_sv.verify.gallery_file import GalleryError, GalleryFile, get, put
from alpha_sv.verify.gallery_rows import COLUMNS, checked_name, columns, digest, export, put_model, reembed, stored_name
from alpha_sv.verify.gallery_voices import Voices, stored_voices
from alpha_sv.verify.open_set import Identification, Threshold, decide, gallery_threshold
from alpha_sv.verify.waveforms import recordings

if TYPE_CHECKING:
    from alpha_sv.verify.model import SpeakerModel


@dataclass(frozen=True)
class Enrolment:
    """What `enrol` did: recordings added, those that were there, warnings of the quality rules."""

    name: str
    added: tuple[str, ...]
    known: tuple[str, ...]
    warnings: tuple[str, ...]


class Gallery:
    """Enrolled people in one SQLite file.

    Parameters
    ----------
    path : path-like
        Made (mode 0600) with its first sample, if it is not there and a model is given.
    model : SpeakerModel, optional
        Needed to enrol and identify. Another than that of the first sample is refused.
    calibrator : Calibrator, optional
        Instead of the model's own.

    Raises
    ------
    GalleryError
        A ValueError: no such file, no gallery, damaged, in use for long; of another model.

    Example
    -------
    >>> import tempfile
    >>> import numpy as np
    >>> from alpha_sv.embedding import SpeakerEmbedder
    >>> from alpha_sv.verify.model import load_model
    >>> folder = tempfile.mkdtemp()
    >>> SpeakerEmbedder(
    ...     "campplus", 16, channels=4, init_channels=8, block_sizes=[1], growth=4
    ... ).save(folder)
    >>> gallery = Gallery(folder + "/people.sqlite", load_model(folder))
    >>> noise = np.random.default_rng(0).standard_normal((3, 32000)).astype(np.float32) / 9
    >>> gallery.enrol("Ann", noise[0]).added, gallery.enrol("Bob", list(noise[1:])).name
    (('the input',), 'Bob')
    >>> gallery.identify(noise[0], threshold=0.99999).verdict in ("known", "too close")
    True
    >>> gallery.remove("Ann")
    1
    """

    def __init__(
        self,
        path: str | os.PathLike,
        model: SpeakerModel | None = None,
        *,
        create: bool = True,
        calibrator: Calibrator | None = None,
    ):
        self.file = GalleryFile(path, create=create and model is not None)
        self.model = model
        self.calibrator = calibrator or (model.calibrator if model is not None else None)
        require_pairs(self.calibrator)
        require_model(self.calibrator, model)
        self._lock, self._cached = threading.Lock(), (None, None)
        with self.file.transaction() as db:
            if model is not None and get(db, "fingerprint") is not None:
                self._require_model(db)

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def model_source(self) -> str | None:
        """What `load_model` takes for its model; None if nobody has been enrolled yet."""
        with self.file.transaction() as db:
            name, weights = get(db, "model"), get(db, "weights")
        if weights is None:
            return None
        weights = Path(weights)
        source = weights if weights.suffix == ".onnx" and weights.name != "model.onnx" else weights.parent
        return str(source) if source.exists() else name

    def names(self) -> list[str]:
        """Everybody, sorted."""
        with self.file.transaction() as db:
            return [stored_name(self.path, row[0]) for row in db.execute("SELECT name FROM people ORDER BY name")]

    def counts(self) -> dict[str, int]:
        """Samples of each person, sorted by name."""
        query = "SELECT name, count(*) FROM people JOIN samples ON person = people.id GROUP BY people.id ORDER BY name"
        with self.file.transaction() as db:
            return {stored_name(self.path, name): count for name, count in db.execute(query)}

    def enrol(
        self, name: str, inputs: object, sample_rate: int | None = None, *, allow_poor: bool = False
    ) -> Enrolment:
        """Add recordings of a person, all or none.

        Parameters
        ----------
        name : str
            1 to 200 characters, no control characters; compared in Unicode's form NFC.
        inputs : path, array, tensor, or a list of these
            As for `SpeakerModel.embed`.
        allow_poor : bool
            Enrol recordings that the quality rules refuse, too.

        Raises
        ------
        ValueError
            No name, no model; a recording is refused, unreadable, or somebody else's.
        """
        name = checked_name(name)
        model = self._model()
        items = recordings(inputs, sample_rate, model.sample_rate)
        digests = [digest(item) for item in items]
        samples = listen(model, items)
        refused = [text for sample in samples for text in sample.refusals]
        if refused and not allow_poor:
            raise GalleryError(f"nothing was enrolled, because of {'; '.join(refused)}")
        added, known = [], []
        with self.file.transaction(write=True, first=True) as db:
            if get(db, "fingerprint") is None:
                put_model(db, model, self._fingerprint)
            self._require_model(db)
            db.execute("INSERT INTO people (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            person = db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()[0]
            for sample, sha256 in zip(samples, digests, strict=True):
                query = "SELECT name FROM samples JOIN people ON people.id = person WHERE sha256 = ?"
                owner = db.execute(query, (sha256,)).fetchone()
                if owner and owner[0] != name:
                    raise GalleryError(
                        f"{sample.name} is already enrolled as {owner[0]!r}, so not as {name!r}; remove that first"
                    )
                if owner:
                    known.append(sample.name)
                    continue
                row = (person, sha256, *columns(sample))
                db.execute(f"INSERT INTO samples ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", row)
                added.append(sample.name)
        warnings = [text for sample in samples for text in sample.warnings] + refused
        return Enrolment(name, tuple(added), tuple(known), tuple(warnings))

    def remove(self, name: str) -> int:
        """Forget a person, for good (see `gallery_file`); returns how many samples went.

        ValueError if nobody has that name.
        """
        name = checked_name(name)
        with self.file.transaction(write=True) as db:
            row = db.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise GalleryError(f"nobody called {name!r} is enrolled in {self.path}; `gallery list` names them")
            count = db.execute("DELETE FROM samples WHERE person = ?", row).rowcount
            db.execute("DELETE FROM people WHERE id = ?", row)
            put(db, "scrub", "1")
        self._cached = (None, None)
        self.file.scrub()
        return count

    def identify(
        self,
        inputs: object,
        sample_rate: int | None = None,
        *,
        point: str | None = None,
        threshold: float | None = None,
        check_quality: bool = True,
    ) -> Identification:
        """Who speaks; several recordings are taken to be of one person.
        The rules are in `alpha_sv.verify.open_set`.

        Parameters
        ----------
        point : str, optional
            Of the calibrator; by default "fpr 1e-2", raised by ln N for N people.
        threshold : float, optional
            On the cosine, instead.
        check_quality : bool
            False: identify recordings that the quality rules refuse, too.

        Raises
        ------
        ValueError
            As `SpeakerModel.verify`.
        """
        check_request(point, threshold)
        voices = self._voices()
        if point is not None:
            choose_point(self.calibrator, point)  # an unknown one is an error, also in an empty gallery
        samples = listen(self._model(), inputs, sample_rate)
        refused = [text for sample in samples for text in sample.refusals]
        warnings = [text for sample in samples for text in sample.warnings] + ([] if check_quality else refused)
        limit = self.threshold(point) if threshold is None else _given(threshold)
        if refused and check_quality:
            limit = Threshold(None, limit.unit, "; ".join(refused))
        candidates, margin = voices.ranked(sounds(samples), self.calibrator, limit.unit) if voices.names else ([], None)
        return decide(candidates, limit, margin, warnings)

    def threshold(self, point: str | None = None) -> Threshold:
        """From where on somebody is known; or why nobody is.

        The higher of two, where both are there: the calibrator's point raised by
        ln N nats for N people, and that of the gallery's own voices (see `check`).
        """
        voices = self._voices()
        own, why = own_threshold(voices, calibrator=self.calibrator)
        found = gallery_threshold(self.calibrator, point, len(voices.names))
        if own is not None and (found.value is None or own > found.value):
            return Threshold(own, found.unit, "the gallery's own voices")
        if found.value is None:
            return Threshold(None, found.unit, f"no threshold was measured: {found.basis}; {why}")
        return found

    def check(self, cohort: object = None, point: str | None = None, threshold: float | None = None) -> GalleryCheck:
        """How well the enrolled people are told apart; see `gallery_check.check_voices`.

        `cohort` are recordings of strangers, each of another person.
        """
        check_request(point, threshold)
        strangers = None if cohort is None else sounds(listen(self._model(), cohort))
        limit = self.threshold(point) if threshold is None else _given(threshold)
        calibrator = self.calibrator if limit.unit == "nats" else None
        return check_voices(self._voices(), limit, strangers, calibrator)

    def export(self) -> dict:
        """Everything that is stored, as JSON values; see `gallery_rows.export`."""
        return export(self.file)

    def reembed(self, model: SpeakerModel) -> int:
        """Embed every sample anew with another model; see `gallery_rows.reembed`."""
        self._cached = (None, None)
        return reembed(self.file, model)

    def _model(self) -> SpeakerModel:
        if self.model is None:
            raise GalleryError("this needs a model: Gallery(path, alpha_sv.load_model(...))")
        return self.model

    @functools.cached_property
    def _fingerprint(self) -> str:
        return self._model().embedder.fingerprint()

    def _require_model(self, db) -> None:
        if get(db, "fingerprint") != self._fingerprint:
            raise GalleryError(
                f"{self.path} was made with another model, {get(db, 'model')!r}, so {self.model.name!r} cannot be used "
                f"with it; use that one, or embed the files anew: alpha-sv gallery {self.path.name} reembed --model ..."
            )

    def _voices(self) -> Voices:
        with self._lock, self.file.transaction() as db:
            if self.model is not None and get(db, "fingerprint") is not None:
                self._require_model(db)  # another process may have changed it
            changes = get(db, "changes")
            if self._cached[0] != changes or changes is None:
                self._cached = changes, stored_voices(self.path, db, self.model and self.model.embedding_dim)
            return self._cached[1]


def _given(threshold: float) -> Threshold:
    return Threshold(float(threshold), "cosine", "your own threshold")
