"""Where face images lie: folders `<identity>/<image>`,
insightface's record files, and its files of pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np

from alpha_sv.data.trials import Trials
from alpha_sv.face.images import SUFFIXES, check_header, read_image
from alpha_sv.face.pair_file import read_pairs
from alpha_sv.face.recordio import RecordFile
from alpha_sv.files import input_key, sha256_file


class ImageSource(Protocol):
    """Numbered images: `identities` [N], str or int,
    says whose each is, `names` str [N] how it is called."""

    path: Path
    identities: np.ndarray
    names: np.ndarray

    def read(self, number: int, size: int) -> np.ndarray:
        """uint8 [size, size, 3]."""

    def digest(self) -> str:
        """SHA-256 of which images there are, and whose."""


class FolderSource:
    """A folder `<identity>/<image>`; a name is that path.
    Other files, and what begins with a dot, are passed over.

    Parameters
    ----------
    path : path-like
    check : bool
        Look at the first bytes of each image,
        so that a file that is none is found now and not hours later.

    Raises
    ------
    ValueError
        No image, or files that are no images (counted, and the first named).
    """

    def __init__(self, path: str | os.PathLike, check: bool = True):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{path} is no folder; faces lie in <identity>/<image>, or in a train.rec")
        folders = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
        names, identities, sizes = [], [], []
        for folder in folders:
            for entry in sorted(os.scandir(self.path / folder), key=lambda entry: entry.name):
                if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file():
                    names.append(f"{folder}/{entry.name}")
                    identities.append(folder)
                    sizes.append(entry.stat().st_size)
        if not names:
            raise ValueError(f"{path} has no image <identity>/<image> ({', '.join(SUFFIXES)})")
        bad = [problem for name in names if (problem := check_header(self.path / name))] if check else []
        if bad:
            raise ValueError(f"{len(bad)} of {len(names)} images cannot be read: {bad[0]}; remove or replace them")
        self.names, self.identities, self._sizes = np.array(names), np.array(identities), sizes

    def read(self, number: int, size: int) -> np.ndarray:
        return read_image(self.path / str(self.names[number]), size)

    def digest(self) -> str:
        return input_key(zip(self.names.tolist(), self._sizes, strict=True))


class RecordSource:
    """insightface's `train.rec` and `train.idx`; identities are numbers, names the keys."""

    def __init__(self, path: str | os.PathLike):
        self.path, self.records = Path(path), RecordFile(path)
        self.identities = self.records.labels  # as strings, those of tens of millions would not fit

    @property
    def names(self) -> np.ndarray:
        return self.records.keys.astype(str)

    def read(self, number: int, size: int) -> np.ndarray:
        return read_image(self.records.image(number), size, self.records.name(number))

    def digest(self) -> str:
        return input_key([sha256_file(self.path.with_suffix(".idx")), self.records.size])


class PairSource:
    """A `.bin` of pairs. It does not say who is who:
    the images of pair i are of the "people" i, or i and i-other.

    Example of the names: 17/a and 17/b are one person, 18/a and 18-other/b are two.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._images, labels = read_pairs(path)
        second = [f"{i}" if same else f"{i}-other" for i, same in enumerate(labels.tolist())]
        whose = [person for i, other in enumerate(second) for person in (f"{i}", other)]
        self.identities = np.array(whose)
        self.names = np.array([f"{person}/{'ab'[place % 2]}" for place, person in enumerate(whose)])
        self.trials = Trials(self.names[::2], self.names[1::2], labels)

    def read(self, number: int, size: int) -> np.ndarray:
        return read_image(self._images[number], size, f"{self.path}, image {number}")

    def digest(self) -> str:
        return sha256_file(self.path)


def open_source(path: str | os.PathLike, check: bool = True) -> ImageSource:
    """A folder, a `.rec` or a `.bin`, by its name."""
    suffix = Path(path).suffix.lower()
    if suffix in (".rec", ".bin"):
        return {".rec": RecordSource, ".bin": PairSource}[suffix](path)
    return FolderSource(path, check)
