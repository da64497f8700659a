"""insightface's training sets: `train.rec` and `train.idx` in MXNet's RecordIO, read without MXNet.

train.idx   lines of "key offset"
train.rec   at each offset: 0xced7230a, kind and length (3 and 29 bits), that many bytes,
            filled up to four

The bytes are a header, <IfQQ: flag, label, id, id2, then `flag` further float32 labels, then the
image file. Where the data themselves hold the magic number at a multiple of four, it is left out
and the record split there (kinds 1 first, 2 middle, 3 last; 0 whole). Record 0 says
[first key after the images, …] in two labels, if it has a flag.
"""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import numpy as np

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEADER = struct.Struct("<IfQQ")
_START = np.dtype([("magic", "<u4"), ("kind_length", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2)])
_BLOCK = 65536
_MOST_LABELS = 1024


class RecordFile:
    """The images of a `.rec`, with the identity of each; the `.idx` lies beside it.

    Parameters
    ----------
    path : path-like
        The `.rec`.

    Attributes
    ----------
    keys, labels : int64 [N]
        Key and identity of each image, by key.

    Raises
    ------
    ValueError
        A file is missing, cut short or of another format; the message names file and record.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        index = self.path.with_suffix(".idx")
        for file in (self.path, index):
            if not file.is_file():
                raise ValueError(f"{file} is not there; a training set of insightface is train.rec with train.idx")
        self.size = self.path.stat().st_size
        if index.stat().st_size > self.size:  # a line is shorter than the smallest record
            raise ValueError(f"{index} is larger than {self.path.name}, so it is not the index of it")
        keys, self._offsets = _read_index(index, self.size)
        order = np.argsort(keys, kind="stable")
        self.keys, self._offsets = keys[order], self._offsets[order]
        if (self.keys[1:] == self.keys[:-1]).any():
            raise ValueError(f"{index}: a key stands twice")
        labels = self._first_labels()
        images = self._images()
        self.keys, self._offsets, self.labels = self.keys[images], self._offsets[images], labels[images]
        if len(self.keys) == 0:
            raise ValueError(f"{self.path} holds no image")

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> bytes:
        """The file of image `number`, from 0, as it was packed."""
        return self._unpacked(int(self._offsets[number]), self.name(number))[1]

    def name(self, number: int) -> str:
        """What to call image `number` in a message."""
        return f"{self.path}, record {self.keys[number]}"

    def _first_labels(self) -> np.ndarray:
        """The first label of each record, by blocks; every start is checked."""
        starts = np.memmap(self.path, np.uint8, "r")
        labels = np.zeros(len(self.keys))
        for first in range(0, len(self.keys), _BLOCK):
            rows = slice(first, first + _BLOCK)
            offsets = self._offsets[rows]
            start = starts[offsets[:, None] + np.arange(_START.itemsize)].view(_START)[:, 0]
            length = start["kind_length"] & 0x1FFFFFFF
            ends = offsets + 8 + length
            bad = (start["magic"] != MAGIC) | (ends > self.size) | (start["kind_length"] >> 29 > 1)
            if bad.any():
                key = self.keys[rows][bad][0]
                raise ValueError(f"{self.path}: record {key} is not where {self.path.stem}.idx says, or is cut short")
            first_labels, whole = start["label"].copy(), start["kind_length"] >> 29 == 0
            listed = np.flatnonzero(whole & (start["flag"] > 0) & (length >= _HEADER.size + 4))
            places = offsets[listed, None] + np.arange(8 + _HEADER.size, 12 + _HEADER.size)
            first_labels[listed] = starts[places].view("<f4")[:, 0]
            in_pieces_or_damaged = ~whole | (length < _HEADER.size + 4 * (start["flag"] > 0))
            for row in np.flatnonzero(in_pieces_or_damaged):
                found = self._unpacked(int(offsets[row]), f"{self.path}, record {self.keys[first + row]}")[0]
                first_labels[row] = found[0]
            labels[rows] = first_labels
        if (bad := ~((labels >= 0) & (labels < 2**31) & (np.floor(labels) == labels))).any():
            raise ValueError(f"{self.path}: record {self.keys[bad][0]} has the label {labels[bad][0]}, not an identity")
        return labels.astype(np.int64)

    def _images(self) -> np.ndarray:
        """Which records are images: those before the key
        that record 0 names, if it names one; else all."""
        if len(self.keys) and self.keys[0] == 0:
            found, content = self._unpacked(int(self._offsets[0]), f"{self.path}, record 0")
            if len(found) >= 2 and not content:
                return (self.keys > 0) & (self.keys < found[0])
        return np.ones(len(self.keys), dtype=bool)

    def _unpacked(self, offset: int, name: str) -> tuple[np.ndarray, bytes]:
        """(labels, content) of the record at `offset`."""
        parts = []
        with open(self.path, "rb") as file:
            file.seek(offset)
            while True:
                start = file.read(8)
                magic, kind_length = struct.unpack("<II", start) if len(start) == 8 else (0, 0)
                kind, length = kind_length >> 29, kind_length & 0x1FFFFFFF
                if magic != MAGIC or kind not in ((2, 3) if parts else (0, 1)) or file.tell() + length > self.size:
                    raise ValueError(f"{name} is damaged; get the file again")
                parts.append(file.read(length))
                if kind in (0, 3):
                    break
                file.seek(-length % 4, os.SEEK_CUR)
        data = _MAGIC_BYTES.join(parts)
        if len(data) < _HEADER.size:
            raise ValueError(f"{name} has {len(data)} bytes, fewer than its header; get the file again")
        flag, label, _, _ = _HEADER.unpack_from(data)
        if flag > _MOST_LABELS or len(data) < _HEADER.size + 4 * flag:
            raise ValueError(f"{name} promises {flag} labels that are not there; get the file again")
        labels = np.frombuffer(data, "<f4", flag, _HEADER.size) if flag else np.array([label])
        return labels, data[_HEADER.size + 4 * flag :]


def _read_index(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys, offsets) int64, each offset with a whole start of a record before `size`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file; a number that is none
            table = np.loadtxt(path, np.int64, comments=None, ndmin=2, encoding="ascii")
    except (ValueError, OverflowError, Warning) as error:
        raise ValueError(f"{path} is not the index of a .rec, lines of 'key offset': {error}") from error
    if table.shape[1] != 2 or (table < 0).any() or (table[:, 1] > size - _START.itemsize).any():
        raise ValueError(f"{path} is not the index of the .rec beside it: an offset lies outside of it")
    return table[:, 0], table[:, 1]
