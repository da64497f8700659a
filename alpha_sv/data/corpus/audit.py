"""The audit: what is wrong with the files of a corpus,
found before training rather than in the middle of it.

    left out     unreadable, empty, truncated, nan, too-large, silent, wrong-rate, too-short,
                 no-impulse-response
    reported     multichannel, resampled, uncounted, clipped, twin, duplicate,
                 duplicate-across-speakers

`silent`: no sample reaches 1e-4 of full scale (-80 dB); all zeros included. `clipped`: at least
0.1 % of the samples reach 0.999 of full scale in some channel; clean speech touches its peak a few
times a second, clipped speech sits there. `duplicate`: exactly the samples of an earlier file, so a
target pair of the two is no test at all; across two speakers, one of the labels is wrong. `twin`:
the name of an earlier file in another format. `uncounted`: more lies behind the samples that the
header counts, so that the rest of the recording is not used.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alpha_sv.data.audio.augment import read_first_channel
from alpha_sv.data.audio.impulse import LONGEST, named_noise, why_no_impulse_response
from alpha_sv.data.audio.read import SILENCE_PEAK, AudioError, mix, read_blocks, read_header, uncounted_in
from alpha_sv.data.audio.resample import HIGHEST, LOWEST
from alpha_sv.data.corpus.name_form import is_unicode
from alpha_sv.data.corpus.threads import on_threads
from alpha_sv.files import atomic_write

LEFT_OUT = ("unreadable", "empty", "truncated", "nan", "too-large", "silent", "wrong-rate", "too-short")
LEFT_OUT += ("no-impulse-response",)
REPORTED = ("multichannel", "resampled", "uncounted", "clipped", "twin", "duplicate", "duplicate-across-speakers")
LARGEST_PEAK = 1e9  # of samples in floating point; the power of the next few would not fit into float32
CLIP_LEVEL, CLIP_FRACTION = 0.999, 1e-3


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one file; `problem` is a word of `LEFT_OUT` or `REPORTED`."""

    utt_id: str
    problem: str
    detail: str

    @property
    def leaves_out(self) -> bool:
        return self.problem in LEFT_OUT


@dataclass(frozen=True, slots=True)
class Examined:
    """One file: its header, its problems,
    and a hash of its samples if they were decoded and are usable."""

    num_samples: int = 0
    sample_rate: int = 0
    channels: int = 0
    problems: tuple[tuple[str, str], ...] = ()
    digest: str | None = None


def examine(
    path: str | os.PathLike,
    sample_rate: int,
    min_duration: float,
    decode: bool = True,
    resample: bool = False,
    rir: bool = False,
) -> Examined:
    """Examine one file.

    Parameters
    ----------
    path : path-like
        Need not exist: that is a problem like any other.
    sample_rate : int
        Hz, wanted.
    min_duration : float
        Seconds, wanted.
    decode : bool
        Read every sample, block by block; only the header if False.
    resample : bool
        Another rate is no reason to leave the file out.
    rir : bool
        The file must be an impulse response, in its first channel.

    Returns
    -------
    Examined
        Without a header if that cannot be read.
        The first reason to leave a file out ends its examination.
    """
    header, digest = (0, 0, 0), None
    problems: list[tuple[str, str]] = []
    try:
        if not is_unicode(os.fspath(path)):
            raise AudioError(f"{path}: its name is not Unicode (UTF-8), so no list can name it; rename it")
        header = num_samples, rate, channels = read_header(path)
        if channels > 1 and not rir:
            problems.append(("multichannel", f"{channels} channels, read as their mean"))
        if rate != sample_rate and not (resample and LOWEST <= rate <= HIGHEST):
            way = f"ffmpeg -i IN -ar {sample_rate} OUT.wav"
            problems.append(("wrong-rate", f"{rate} Hz, {sample_rate} Hz wanted: resample (--resample), or {way}"))
            return Examined(*header, tuple(problems))
        if rate != sample_rate:
            bound = f"; nothing above {rate // 2} Hz" if rate < sample_rate else ""
            problems.append(("resampled", f"from {rate} Hz{bound}"))
        if num_samples < min_duration * rate:
            problems.append(("too-short", f"{num_samples / rate:.3f} s, at least {min_duration:g} s wanted"))
        elif rir:
            problems += _as_rir(path, header)
        elif decode:
            if more := uncounted_in(path):
                problems.append(("uncounted", f"{more} behind the {num_samples} samples of its header; write it again"))
            digest = _listen(path, header, problems)
    except AudioError as error:
        problems.append((error.problem, str(error).removeprefix(f"{path}: ")))
    except OSError as error:  # it vanished, or its disk fails
        problems.append(("unreadable", str(error.strerror)))
    return Examined(*header, tuple(problems), digest)


def _as_rir(path: str | os.PathLike, header: tuple[int, int, int]) -> list[tuple[str, str]]:
    reason = "it is called a noise" if named_noise(path) else ""
    if header[0] > LONGEST * header[1]:
        reason = f"longer than {LONGEST} s"
    reason = reason or why_no_impulse_response(read_first_channel(path, header[1]), header[1])
    return [("no-impulse-response", reason)] if reason else []


def _listen(path, header: tuple[int, int, int], problems: list[tuple[str, str]]) -> str | None:
    digest, low, high, full_scale = hashlib.blake2b(digest_size=16), np.inf, -np.inf, 0
    for block in read_blocks(path, sample_rate=header[1]):
        magnitude = np.abs(block).max(axis=1)
        full_scale += int(np.count_nonzero(magnitude >= CLIP_LEVEL))
        signal = mix(block)
        low, high = min(low, float(signal.min())), max(high, float(signal.max()))
        digest.update(np.ascontiguousarray(signal))
    if max(-low, high) > LARGEST_PEAK:
        problems.append(("too-large", f"peak {max(-low, high):.1e} of full scale; scale it, or make the file again"))
        return None
    if (peak := (high - low) / 2) < SILENCE_PEAK:  # a constant is silence too
        problems.append(("silent", f"peak {peak:.1e} of full scale"))
        return None
    if full_scale >= CLIP_FRACTION * header[0]:
        problems.append(("clipped", f"{full_scale / header[0]:.2%} of the samples at full scale"))
    return digest.hexdigest()


def examine_all(
    paths: Sequence[str],
    sample_rate: int,
    min_duration: float,
    decode: bool = True,
    workers: int | None = None,
    progress: bool = True,
    resample: bool = False,
    rir: bool = False,
) -> Iterator[Examined]:
    """`examine` on threads (libsndfile reads and decodes outside Python's lock);
    results in the order of `paths`."""
    task = functools.partial(
        examine, sample_rate=sample_rate, min_duration=min_duration, decode=decode, resample=resample, rir=rir
    )
    return on_threads(task, paths, workers, "audit" if decode else "headers", progress=progress)


def findings(utt_ids: Sequence[str], speakers: Sequence[str], results: Sequence[Examined]) -> list[Finding]:
    """All problems, those between files included, in the order of `utt_ids`.

    Example
    -------
    >>> same = Examined(16000, 16000, 1, digest="d41d8c")
    >>> for finding in findings(["s1/a", "s1/b", "s2/c"], ["s1", "s1", "s2"], [same] * 3):
    ...     print(finding.utt_id, finding.problem, "|", finding.detail)
    s1/b duplicate | same samples as s1/a
    s2/c duplicate-across-speakers | same samples as s1/a
    """
    found: list[Finding] = []
    stems: dict[str, str] = {}
    earlier: dict[str, dict[str, str]] = {}  # digest -> speaker -> the first of their files with these samples
    for utt_id, speaker, result in zip(utt_ids, speakers, results, strict=True):
        found += [Finding(utt_id, problem, detail) for problem, detail in result.problems]
        if any(problem in LEFT_OUT for problem, _ in result.problems):
            continue
        first = stems.setdefault(os.path.splitext(utt_id)[0], utt_id)
        if first != utt_id:
            found.append(Finding(utt_id, "twin", f"same name as {first}; both are used, so keep one of them"))
        if result.digest is None:
            continue
        owners = earlier.setdefault(result.digest, {})
        if speaker in owners:
            found.append(Finding(utt_id, "duplicate", f"same samples as {owners[speaker]}"))
        if others := [first for owner, first in owners.items() if owner != speaker]:
            found.append(Finding(utt_id, "duplicate-across-speakers", f"same samples as {others[0]}"))
        owners.setdefault(speaker, utt_id)
    return found


def summary(found: Sequence[Finding], num_files: int) -> str:
    """A table of the findings: problem, files, what happens to them, one example.

    >>> print(summary([Finding("s1/a.wav", "silent", "peak 0.0e+00 of full scale")], 10))
    audit of 10 files:
      silent                             1  left out   s1/a.wav (peak 0.0e+00 of full scale)
    >>> print(summary([], 10))
    audit of 10 files: no findings
    """
    counts = Counter(finding.problem for finding in found)
    if not counts:
        return f"audit of {num_files} files: no findings"
    lines = [f"audit of {num_files} files:"]
    for problem in (*LEFT_OUT, *REPORTED):
        if counts[problem]:
            first = next(finding for finding in found if finding.problem == problem)
            fate = "left out" if first.leaves_out else "kept"
            lines.append(f"  {problem:<26}{counts[problem]:>10}  {fate:<9}  {first.utt_id} ({first.detail})")
    return "\n".join(lines)


def write_audit(path: str | os.PathLike, found: Sequence[Finding]) -> None:
    """Write `utt_id,problem,detail`, atomically."""
    with atomic_write(path) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("utt_id", "problem", "detail"))
        rows.writerows((finding.utt_id, finding.problem, finding.detail) for finding in found)
