"""What a container says of its own length, beside the bytes that are there; nothing is decoded.

libsndfile believes the header of a file: a download that broke off passes for a
shorter recording, and what follows the samples that a header counts is never read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

_UNKNOWN_BYTES = 0x7FFFF000  # at and above: what wav writers put as the size when they write to a pipe
_MOST_CHUNKS = 10_000  # of a wav file, or tags of an mp3: beyond, a file is a trap
_TAIL = 1 << 16  # bytes: no Ogg page (65,307) and hardly a FLAC frame (8,192 of 4,096 samples) is longer
_MP3_SLACK = 2048  # bytes: some encoders do not count the frame that the count stands in, at most 1,441 bytes


def missing_bytes(file: BinaryIO, size: int) -> int:
    """How many bytes a wav, Ogg or mp3 file of `size` bytes
    lacks of what its headers announce; 0 for other formats."""
    magic = _at(file, 0, 4)
    if magic in (b"RIFF", b"RF64"):
        return max(0, _end_of_data(file, magic) - size)
    if magic == b"OggS":
        # RFC 3533: a page is 27 bytes, the last of them a count n,
        # then n segment lengths, then the segments
        tail = _at(file, max(0, size - _TAIL), _TAIL)
        start = tail.rfind(b"OggS\0")
        if start < 0:
            return 0
        page = tail[start:]
        if len(page) < 27:
            return 27 - len(page)
        return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))
    missing = _end_of_mp3(file) - size
    return missing if missing > 128 else 0  # some encoders count the tag of so many bytes at the end


def uncounted(file: BinaryIO, size: int) -> str:
    """What follows the samples that the header of a wav,
    FLAC, Ogg or mp3 file counts; '' if nothing does.

    Tags and other chunks that a format allows behind its samples, and padding with
    zeros, are nothing. The last page, frame or chunk is enough for wav, FLAC and mp3;
    an Ogg file is read once.
    """
    magic = _at(file, 0, 4)
    if magic in (b"RIFF", b"RF64"):
        return _behind_data(file, size, _end_of_data(file, magic))
    if magic == b"fLaC":
        return _behind_flac(file, size)
    if magic == b"OggS":
        return "another stream" if _second_stream(file) else ""
    end = _end_of_mp3(file)
    more = end and size - end > _MP3_SLACK and (_at(file, end, 3) == b"ID3" or _at(file, end, 2) >= b"\xff\xe0")
    return f"{size - end} bytes" if more else ""


def m4a_seconds(path: str | os.PathLike) -> float:
    """The length an MPEG-4 file promises, from its boxes (ISO/IEC 14496-12);
    0 for a fragmented one, which gives none.

    Raises
    ------
    ValueError
        The file is no MPEG-4, or ends before its boxes do:
        ffmpeg converts the rest of such a file without an error.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        boxes = {kind: (begin, end) for kind, begin, end in _boxes(file, 0, size)}
        if b"ftyp" not in boxes:
            raise ValueError(f"{path}: no MPEG-4 audio in these {size} bytes; download it again")
        longest = max(end for _, end in boxes.values())
        if longest > size or b"moov" not in boxes:
            missing = f"{longest - size} bytes" if longest > size else "the index ('moov')"
            raise ValueError(f"{path}: truncated: {missing} missing at the end; copy or download it again")
        for kind, begin, _ in _boxes(file, *boxes[b"moov"]):
            if kind == b"mvhd":  # version and flags, two times, timescale (1/s), duration; 64-bit in version 1
                file.seek(begin)
                long = file.read(1) == b"\1"
                file.seek(begin + (20 if long else 12))
                scale, duration = struct.unpack(">IQ" if long else ">II", file.read(12 if long else 8))
                unknown = duration in (2**32 - 1, 2**64 - 1) or not scale
                return 0.0 if unknown else duration / scale
    raise ValueError(f"{path}: no 'mvhd' box: damaged; download it again")


def _boxes(file, position: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin of the content, end) of the boxes in [position,
    stop); the last may end beyond `stop`."""
    while position + 8 <= stop:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:  # a 64-bit length follows
            length, header = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0], 16
        elif length == 0:  # up to the end of the file
            length = stop - position
        if length < header:
            return
        yield kind, position + header, position + length
        position += length


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    """Up to `count` bytes; a raw file may give fewer than asked for before its end."""
    file.seek(position)
    found = b""
    while len(found) < count and (more := file.read(count - len(found))):
        found += more
    return found


def _end_of_data(file: BinaryIO, magic: bytes) -> int:
    """Where the samples of a wav file should end; 0 if it does not say."""
    # RIFF: chunks of a 4-byte name, a little-endian length and that many bytes, padded to
    # an even count; RF64 (EBU Tech 3306) has the length of `data` in 64 bits in a chunk
    # `ds64`, behind that of the file
    position, long = 12, 0
    for _ in range(_MOST_CHUNKS):
        if len(header := _at(file, position, 8)) < 8:
            break
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"ds64" and magic == b"RF64" and len(sizes := _at(file, position + 8, 16)) == 16:
            long = struct.unpack("<QQ", sizes)[1]
        if name == b"data":
            length = long if length == 0xFFFFFFFF and long else length
            return position + 8 + length if length < _UNKNOWN_BYTES or long else 0
        position += 8 + length + length % 2
    return 0


def _behind_data(file: BinaryIO, size: int, position: int) -> str:
    if not position:
        return ""
    position += position % 2
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size:
            break
        name, length = struct.unpack("<4sI", _at(file, position, 8))
        plain = all(32 <= byte < 127 for byte in name) and position + 8 + length <= size + 1
        if not plain or name in (b"RIFF", b"RF64", b"data"):
            rest = size - position
            file.seek(position)
            padding = all(not any(block) for block in iter(lambda: file.read(_TAIL), b""))
            tag = name[:3] in (b"TAG", b"ID3") or name == b"APET"  # tags of mp3 files, put behind wav files too
            return "" if padding or tag else f"{rest} bytes"
        position += 8 + length + length % 2
    return ""


def _second_stream(file: BinaryIO) -> bool:
    """Whether a stream of an Ogg file begins (flag 2 of a
    page) after another has ended (flag 4): "chained"."""
    file.seek(0)
    before, ended = b"", False
    while block := file.read(1 << 20):
        text = before + block
        start = 0
        while (start := text.find(b"OggS\0", start)) >= 0 and start + 5 < len(text):
            flags = text[start + 5]
            if ended and flags & 2:
                return True
            ended |= bool(flags & 4)
            start += 5
        before = text[-5:]
    return False


def _end_of_mp3(file: BinaryIO) -> int:
    """Where an mp3 file should end by the length in its
    first frame ("Xing" or "Info"); 0 if it has none."""
    start = 0
    for _ in range(_MOST_CHUNKS):
        if (tag := _at(file, start, 10))[:3] != b"ID3" or len(tag) < 10:
            break
        # its size has 7 bits a byte
        start += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    frame = _at(file, start, 64)
    if frame[:1] != b"\xff" or frame[1:2] < b"\xe0":
        return 0
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or len(frame) < place + 16 or frame[place + 7] & 3 != 3:  # flags: number of frames 1, of bytes 2
        return 0
    length = struct.unpack(">I", frame[place + 12 : place + 16])[0]
    return start + length if length else 0


def _behind_flac(file: BinaryIO, size: int) -> str:
    """Samples beyond those that STREAMINFO counts,
    from the number in the header of the last frame (RFC 9639)."""
    head = _at(file, 0, 26)
    if len(head) < 26 or head[4] & 127:
        return ""
    counted = (head[21] & 15) << 32 | struct.unpack(">I", head[22:26])[0]
    fixed = struct.unpack(">H", head[8:10])[0]
    tail = _at(file, max(0, size - _TAIL), _TAIL)
    start = len(tail)
    while counted and (start := tail.rfind(b"\xff", 0, start)) >= 0:
        end = _flac_frame_end(tail[start : start + 16], fixed)
        if end == counted:
            return ""
        if end and not _crc(tail[start:], 16, 0x8005):  # the frame ends with the file: no chance pattern
            return f"{end - counted} samples" if end > counted else ""
    return ""


def _flac_frame_end(header: bytes, fixed: int) -> int:
    """The sample after the frame that begins with these bytes; 0 if none does."""
    if len(header) < 16 or header[1] & 0xFE != 0xF8 or header[3] & 1:
        return 0
    size_code, rate_code = header[2] >> 4, header[2] & 15
    # the number of the frame, or with variable sizes of its
    # first sample, is coded as in UTF-8, in up to 7 bytes
    ones = 8 - (header[4] ^ 0xFF).bit_length()
    if ones in (1, 8) or not size_code or rate_code == 15:
        return 0
    number = header[4] & (0x7F >> ones)
    for byte in header[5 : 4 + max(ones, 1)]:
        if byte & 0xC0 != 0x80:
            return 0
        number = number << 6 | byte & 0x3F
    position = 4 + max(ones, 1)
    samples = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}
    if size_code in (6, 7):
        width = size_code - 5
        samples[size_code] = int.from_bytes(header[position : position + width], "big") + 1
        position += width
    position += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if position >= len(header) or _crc(header[: position + 1], 8, 0x07):
        return 0
    return samples[size_code] + (number if header[1] & 1 else number * fixed)


def _crc(content: bytes, width: int, polynomial: int) -> int:
    """0 for bytes that end with their own CRC."""
    top, mask, value = 1 << width - 1, (1 << width) - 1, 0
    for byte in content:
        value ^= byte << width - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
    return value
