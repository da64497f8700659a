"""Reading audio: the wanted samples of one file,
or an error that names the file, the problem and the remedy.

Files are read through libsndfile, block by block. Several channels become one by their mean.
Nothing is resampled, padded or repaired on the way: a file that is not what its header says is an
error here rather than a silent difference in a result.

A crop is the slice of a full read. Where every sample stands for itself or in a block of its own
(PCM, FLAC, A-law, µ-law, ADPCM), libsndfile seeks to it. The other codecs carry a state, and some
cannot seek (GSM 6.10, G.721). libsndfile's seek in the last page of Vorbis lands beside the
sample asked for, and that of mp3 starts without the bits that earlier frames hold. They are
decoded from the beginning, or from 30 s ahead of the crop where they can seek, which is beyond
the longest page of Vorbis at 16 kHz.

A path may also name a file inside a tar (see `alpha_sv.data.audio.tar_member`); it gives the very
samples of the loose file.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator

import numpy as np
import soundfile

from alpha_sv.data.audio.containers import missing_bytes, uncounted
from alpha_sv.data.audio.tar_member import file_on_disk, open_bytes, parse_member

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
SILENCE_PEAK = 1e-4  # of full scale, -80 dB: a recording that nowhere reaches it has nothing in it

_BLOCK = 1 << 18  # samples decoded at a time: 16 s at 16 kHz, so most files are one block
_UNKNOWN_FRAMES = 1 << 60  # libsndfile's count for a FLAC whose header gives none is 2^63 - 1
_STATELESS = ("FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")  # and PCM: seeking is exact
_LEAD = 30  # s
_LONGEST_NAME = 500  # bytes that libsndfile surely takes


class AudioError(ValueError):
    """A file that cannot be used as it is.

    Attributes
    ----------
    problem : str
        One of unreadable, empty, truncated, nan, silent, wrong-rate.
    """

    def __init__(self, message: str, problem: str = "unreadable"):
        super().__init__(message)
        self.problem = problem


def read_header(path: str | os.PathLike) -> tuple[int, int, int]:
    """Length and format of a file, without decoding it.

    Returns
    -------
    (num_samples, sample_rate, channels) : tuple of int
        Samples per channel; Hz; count.

    Raises
    ------
    AudioError
        The file is missing, no audio, not to be opened, without samples,
        or shorter than its own header says (wav, Ogg, mp3).
    """
    with _opened(path) as file:
        return file.frames, file.samplerate, file.channels


def read_audio(
    path: str | os.PathLike, start: int = 0, num_samples: int | None = None, sample_rate: int = 16000
) -> np.ndarray:
    """Read samples [start, start + num_samples) as one channel.

    Parameters
    ----------
    path : path-like
        wav, flac, ogg, opus or mp3; anything else that libsndfile knows is read too.
    start : int
        First sample, at least 0.
    num_samples : int, optional
        How many samples, at least 1; None reads up to the end of the file.
    sample_rate : int
        Hz. The file must have it.

    Returns
    -------
    ndarray of float32, shape [T]
        Full scale is 1 in magnitude. The mean over the channels where there are several.

    Raises
    ------
    AudioError
        As `read_header`; also another sample rate,
        fewer samples than asked for, a NaN or infinite sample.
    ValueError
        A negative `start`, or `num_samples` below 1.

    Example
    -------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "stereo.wav")
    >>> soundfile.write(path, np.array([[0.5, 0.0], [0.25, 0.25], [0.0, -0.5]]), 16000)
    >>> read_audio(path)
    array([ 0.25,  0.25, -0.25], dtype=float32)
    >>> read_audio(path, start=1, num_samples=1)
    array([0.25], dtype=float32)
    """
    blocks = [mix(block) for block in read_blocks(path, start, num_samples, sample_rate)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def read_blocks(
    path: str | os.PathLike, start: int = 0, num_samples: int | None = None, sample_rate: int = 16000
) -> Iterator[np.ndarray]:
    """The same samples as `read_audio`,
    as float32 blocks [T, channels] in bounded memory; same errors."""
    if start < 0 or (num_samples is not None and num_samples < 1):
        raise ValueError(f"{path}: cannot read {num_samples} samples from {start}; need start >= 0, num_samples >= 1")
    with _opened(path) as file:
        if file.samplerate != sample_rate:
            raise _wrong_rate(path, file.samplerate, sample_rate)
        stop = file.frames if num_samples is None else start + num_samples
        if start >= file.frames or stop > file.frames:
            raise AudioError(
                f"{path}: truncated: samples {start} to {stop} wanted, the file has {file.frames}; if it has "
                "changed since the manifest was written, prepare the data again",
                "truncated",
            )
        position, reason = 0, ""
        try:
            position = _approach(file, start)
            longest = max(1, _BLOCK // file.channels)
            while position < stop:
                wanted = (start if position < start else stop) - position
                block = file.read(min(longest, wanted), dtype="float32", always_2d=True)
                if not len(block):
                    break
                if position < start:
                    position += len(block)
                    continue
                if not np.isfinite(block).all():
                    first = position + int(np.argmin(np.isfinite(block).all(axis=1)))
                    raise AudioError(f"{path}: sample {first} is NaN or infinite; make the file again", "nan")
                yield block
                position += len(block)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, AudioError):
                raise
            reason = f" ({getattr(error, 'error_string', error)})"
        if position < stop:
            raise AudioError(
                f"{path}: truncated or damaged: decoding stops near sample {position} of the {file.frames} "
                f"its header promises{reason}; copy or download it again",
                "truncated",
            )


def uncounted_in(path: str | os.PathLike) -> str:
    """What lies behind the samples that a file's header counts,
    as "112000 bytes"; see `containers.uncounted`."""
    member = parse_member(path)
    with open_bytes(path) as file:
        return uncounted(file, member.size if member else os.path.getsize(path))


def mix(block: np.ndarray) -> np.ndarray:
    """One channel [T] from [T, channels]: their mean, in float32."""
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def check_signal(signal: np.ndarray, path: str | os.PathLike) -> None:
    """Raise AudioError if all samples of a signal are equal (or there are none).

    A silent signal has no direction in embedding space:
    features normalised by their own mean turn it into zeros.

    >>> check_signal(np.zeros(16000, dtype=np.float32), "a.wav")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    alpha_sv.data.audio.read.AudioError: a.wav: silent: all 16000 samples are equal; leave ...
    """
    if not np.size(signal) or not np.ptp(signal):
        raise AudioError(f"{path}: silent: all {np.size(signal)} samples are equal; leave the file out", "silent")


class _InOrder(soundfile.SoundFile):
    """soundfile seeks to the end of every block that it has read,
    unless the file says that it cannot: a codec with a state would begin each block anew.
    """

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        return super().seekable()


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[_InOrder]:
    """The opened file, once what can be told without decoding has been checked."""
    member, disk = parse_member(path), file_on_disk(path)
    if not os.path.isfile(disk):
        if os.path.exists(disk):
            raise AudioError(f"{path}: a folder, pipe or device, not a file; leave it out")
        raise AudioError(f"{path}: no such file; check the path, or prepare the data again")
    size = os.path.getsize(disk)
    if member:
        if member.offset + member.size > size:
            raise AudioError(
                f"{path}: truncated: the tar has {size} bytes and ends before byte {member.offset + member.size}; copy "
                "it again, or delete it and write the shards again",
                "truncated",
            )
        size = member.size
    if size == 0:
        raise AudioError(f"{path}: empty file (0 bytes); copy or download it again", "empty")
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(open_bytes(path))
            missing = missing_bytes(raw, size)
        except OSError as error:
            raise AudioError(f"{path}: unreadable: {error.strerror}; mend its permissions, or leave it out") from error
        if missing:
            raise AudioError(
                f"{path}: truncated: at least {missing} bytes are missing at the end; copy or download it again",
                "truncated",
            )
        raw.seek(0)
        try:
            # by name: without calls back to Python; as bytes, for a name need not be Unicode
            name = os.fsencode(path)
            file = _InOrder(raw if member or len(name) > _LONGEST_NAME else name)
        except (RuntimeError, TypeError, ValueError, OverflowError) as error:  # TypeError: an extension without header
            reason = getattr(error, "error_string", str(error)).strip()
            raise AudioError(f"{path}: unreadable: {reason}; known extensions: {' '.join(AUDIO_EXTENSIONS)}") from error
        with file:
            if file.frames == 0:
                raise AudioError(f"{path}: empty: the header counts no samples; record or convert it again", "empty")
            if file.frames >= _UNKNOWN_FRAMES:
                raise AudioError(
                    f"{path}: unreadable: the header gives no length; write it again: {_command(path, '')}"
                )
            yield file


def _approach(file: _InOrder, start: int) -> int:
    """Where to decode from, so that the samples from `start`
    on are those of a full read; the file is put there."""
    if file.subtype.startswith("PCM_") or file.subtype in _STATELESS:
        position = start
    else:
        position = max(0, start - _LEAD * file.samplerate)
    return file.seek(position) if position and file.can_seek() else 0


def _wrong_rate(path: str | os.PathLike, rate: int, wanted: int) -> AudioError:
    return AudioError(
        f"{path}: sampled at {rate} Hz, {wanted} Hz wanted; convert it: {_command(path, f'-ar {wanted} ')} "
        f"(or sox with `rate {wanted}`)",
        "wrong-rate",
    )


def _command(path: str | os.PathLike, options: str) -> str:
    if parse_member(path):
        return f"ffmpeg -i ORIGINAL {options}NEW.flac, then prepare and write the shards again"
    source = os.fspath(path)
    return f"ffmpeg -i {shlex.quote(source)} {options}{shlex.quote(os.path.splitext(source)[0] + '.new.flac')}"
