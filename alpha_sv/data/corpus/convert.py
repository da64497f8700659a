"""m4a → 16 kHz mono 16-bit wav or flac, by ffmpeg,
for libsndfile reads no AAC: in parallel, resumable, never half.

    <source>/<speaker>/<video>/00001.m4a   →   <target>/<speaker>/<video>/00001.wav

A file is converted under a temporary name, given the modification time of its source and renamed.
So a file that is there is whole, and one with its source's time was made from that source: it is
kept at the cost of a look at the folder, without a list that could be lost. Anything else that
stands where a file belongs is nobody's to overwrite: an error. A file that ffmpeg refuses, that
ends before its own boxes do, or that gives less sound than it promises does not stop the others;
all of them are listed in `<target>/conversion_failures.txt`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from pathlib import Path

from alpha_sv.data.audio.containers import m4a_seconds
from alpha_sv.data.audio.read import AudioError, read_header
from alpha_sv.data.corpus.threads import SLAB, on_threads
from alpha_sv.data.corpus.tree import AudioFile, find_files
from alpha_sv.files import atomic_write, clear_parts

SAMPLE_RATE = 16000
CODECS = {"wav": ("-c:a", "pcm_s16le"), "flac": ("-c:a", "flac", "-sample_fmt", "s16")}
FAILURES = "conversion_failures.txt"
_HEADER_BYTES = 44  # of a wav file: one without more was lost with the power before its data reached the disk
_LONGEST_CONVERSION = 3600.0  # s, of one file; what is half written for longer was left by a killed run
_TIME_TOLERANCE = 2.0  # s, the coarsest clock of a file system (FAT)
# seconds that may lack: the priming samples of an AAC encoder, which a decoder drops,
# are at most 0.15 s; less where ffmpeg complains, which it does of damage that it goes on after
_LACKING, _LACKING_AFTER_COMPLAINTS = 0.5, 0.15


def convert_tree(
    source: str | os.PathLike,
    target: str | os.PathLike,
    audio_format: str = "wav",
    workers: int | None = None,
    progress: bool = True,
) -> int:
    """Convert every m4a file of a speaker tree that is not converted yet.

    Parameters
    ----------
    source, target : path-like
        Folders of speaker folders; `target` is made if need be.
    audio_format : {"wav", "flac"}
        flac takes about half the disk and decodes to the same samples.
    workers : int, optional
        ffmpeg processes at a time; one per available core if None.

    Returns
    -------
    int
        Files converted now.

    Raises
    ------
    ValueError
        The format is unknown, ffmpeg is not installed, the target holds other files under the
        names to be written, or some files could not be converted (the others are, and stay).

    Example
    -------
    >>> convert_tree("voxceleb2/dev/aac", "voxceleb2/dev/wav")  # doctest: +SKIP
    """
    if audio_format not in CODECS:
        raise ValueError(f"audio_format must be one of {', '.join(CODECS)}, got {audio_format!r}")
    source, target = (Path(os.path.abspath(os.path.expanduser(folder))) for folder in (source, target))
    files = find_files([source], (".m4a",))
    clear_parts(target, older_than=_LONGEST_CONVERSION)
    waiting = _waiting(files, target, audio_format)
    if not waiting:
        return 0
    if shutil.which("ffmpeg") is None:
        raise ValueError(
            f"ffmpeg is not on the PATH, and {len(waiting)} .m4a files of {source} wait to be converted; install it "
            "(apt install ffmpeg, or conda install -c conda-forge ffmpeg, or brew install ffmpeg) and run the same "
            "command again, or give the folder of wav or flac files converted elsewhere"
        )
    for folder in {_output(file, target, audio_format).parent for file in waiting}:
        folder.mkdir(parents=True, exist_ok=True)
    task = functools.partial(_attempt, target=target, audio_format=audio_format)
    failures: list[str] = []
    for done, failure in enumerate(on_threads(task, waiting, workers, "ffmpeg", progress=progress), 1):
        if failure:
            failures.append(failure)
            if len(failures) == done == SLAB:  # a full disk, or an ffmpeg without AAC: the others would fail too
                break
    report = target / FAILURES
    report.unlink(missing_ok=True)
    if failures:
        with atomic_write(report) as file:
            file.writelines(f"{failure}\n" for failure in failures)
        raise ValueError(
            f"{len(failures)} of {len(waiting)} files were not converted; the first: {failures[0]}. All are in "
            f"{report}: copy or download them again, or delete them to do without; then run the same command, which "
            "keeps what is converted"
        )
    return len(waiting)


def convert_file(source: str | os.PathLike, output: str | os.PathLike, audio_format: str = "wav") -> None:
    """Convert one file, atomically; `output` gets the modification time of `source`.

    Raises
    ------
    ValueError
        The source is cut short, ffmpeg refuses it,
        or what ffmpeg wrote is not what the source promises.
    """
    output = Path(output)
    seconds = m4a_seconds(source)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", os.fspath(source), "-map", "0:a:0"]
    command += ["-map_metadata", "-1", "-ac", "1", "-ar", str(SAMPLE_RATE), *CODECS[audio_format]]
    command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-f", audio_format, os.fspath(temporary)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace")
        said = " ".join(run.stderr.split())[-300:]
        if run.returncode:
            raise ValueError(f"{source}: ffmpeg fails ({said or f'exit code {run.returncode}'})")
        try:
            num_samples, rate, channels = read_header(temporary)
        except AudioError as error:
            raise ValueError(f"{source}: ffmpeg wrote no audio ({error.problem}) {said}") from error
        lacking = seconds - num_samples / rate
        if (rate, channels) != (SAMPLE_RATE, 1) or lacking > (_LACKING_AFTER_COMPLAINTS if said else _LACKING):
            raise ValueError(
                f"{source}: damaged: ffmpeg wrote {num_samples / rate:.2f} s at {rate} Hz in {channels} channels, the "
                f"file promises {seconds:.2f} s {said}"
            )
        status = os.stat(source)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(temporary, output)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _attempt(file: AudioFile, target: Path, audio_format: str) -> str:
    """What went wrong with one file, '' if nothing did."""
    try:
        convert_file(file.path, _output(file, target, audio_format), audio_format)
    except (ValueError, OSError) as error:  # reported by the caller, in the list of failures
        return " ".join(str(error).split())
    return ""


def _output(file: AudioFile, target: Path, audio_format: str) -> Path:
    return target / f"{os.path.splitext(file.utt_id)[0]}.{audio_format}"


def _waiting(files: list[AudioFile], target: Path, audio_format: str) -> list[AudioFile]:
    """The files without their conversion;
    ValueError for files in the way that are no conversion of them."""
    waiting, foreign = [], []
    for file in files:
        output = _output(file, target, audio_format)
        try:
            status = output.stat()
        except FileNotFoundError:
            waiting.append(file)
            continue
        if status.st_size <= _HEADER_BYTES:
            waiting.append(file)
        elif abs(status.st_mtime - file.mtime_ns / 1e9) > _TIME_TOLERANCE:
            foreign.append(output)
    if foreign:
        raise ValueError(
            f"{target}: {len(foreign)} of the {len(files)} files to be converted are there already and do not have the "
            f"time of their source (such as {foreign[0]}): made by another tool, copied without times, or of a source "
            "that has changed. Give this folder itself as the data if it is complete, or another folder for what "
            "is converted, or delete these files"
        )
    return waiting
