"""Copies of files at the wanted sample rate, beside the manifest:
`<folder>/<ID>.flac`, one channel, 16 bits.

They are made once, at the preparation, rather than at each read: a crop then is the slice of a full
read, costs no filter, and everything after the preparation still reads what it finds. A copy has
the modification time of its source, so the next preparation knows it again; an interrupted one goes
on with the copies that it lacks.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path

import soundfile

from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.audio.resample import resample, resampled_length
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.corpus.threads import on_threads
from alpha_sv.files import atomic_write


def as_resampled(utterance: Utterance, folder: str | os.PathLike, sample_rate: int) -> Utterance:
    """The row of an utterance's copy; the utterance itself if it has the wanted rate.

    Example
    -------
    >>> row = Utterance("s1/a.mp3", "/data/s1/a.mp3", "s1", "", 44100, 44100, 2, "train")
    >>> copy = as_resampled(row, "/prepared/resampled", 16000)
    >>> copy.path, copy.num_samples, copy.channels
    ('/prepared/resampled/s1/a.mp3.flac', 16000, 1)
    """
    if utterance.sample_rate == sample_rate:
        return utterance
    return dataclasses.replace(
        utterance,
        path=f"{os.path.abspath(folder)}/{utterance.utt_id}.flac",
        num_samples=resampled_length(utterance.num_samples, utterance.sample_rate, sample_rate),
        sample_rate=sample_rate,
        channels=1,
    )


def write_resampled(
    utterances: Sequence[Utterance],
    folder: str | os.PathLike,
    sample_rate: int,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Make the copies that are not there yet;
    AudioError for a source that changed since it was examined."""
    pairs = [(u, as_resampled(u, folder, sample_rate)) for u in utterances if u.sample_rate != sample_rate]
    waiting = [pair for pair in pairs if not _is_copy(*pair)]
    if waiting:
        for _ in on_threads(
            functools.partial(_write, rate=sample_rate), waiting, workers, "resample", "file", progress
        ):
            pass


def _is_copy(source: Utterance, copy: Utterance) -> bool:
    try:
        status = os.stat(copy.path)
    except FileNotFoundError:
        return False
    return status.st_size > 0 and status.st_mtime_ns == os.stat(source.path).st_mtime_ns


def _write(pair: tuple[Utterance, Utterance], rate: int) -> None:
    source, copy = pair
    status = os.stat(source.path)
    signal = read_audio(source.path, 0, source.num_samples, source.sample_rate)
    Path(copy.path).parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()  # libsndfile would print a traceback of its own where the disk is full
    soundfile.write(content, resample(signal, source.sample_rate, rate), rate, format="FLAC", subtype="PCM_16")
    with atomic_write(copy.path, "wb") as file:
        file.write(content.getbuffer())
    os.utime(copy.path, ns=(status.st_atime_ns, status.st_mtime_ns))
