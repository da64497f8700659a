"""The audit of noises and impulse responses:
every file is decoded before it is drawn, and found again in a journal."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from alpha_sv.data.audio.augment import Augmenter
from alpha_sv.data.audio.folder import audio_files
from alpha_sv.data.audio.recordings import Recording, Recordings
from alpha_sv.data.corpus.audit import Finding, summary
from alpha_sv.data.corpus.audit_journal import examine_files
from alpha_sv.data.corpus.tree import ABSENT, AudioFile
from alpha_sv.files import file_state

logger = logging.getLogger(__name__)


def audit_augmentation(
    augmenter: Augmenter, journal: str | os.PathLike, workers: int | None = None, progress: bool = True
) -> None:
    """Leave out what cannot be used, and say how many files of each folder are in use.

    Parameters
    ----------
    augmenter : Augmenter
        Its lists of files are set anew. Training on several processes, each of them calls this,
        one after the other or with a journal of its own: the lists must be the same.
    journal : path-like
        As in `alpha_sv.data.corpus.audit_journal`; made if need be.
    workers : int, optional
        Threads; one per available core if None.

    Raises
    ------
    ValueError
        No file of a folder is usable.

    Example
    -------
    >>> audit_augmentation(
    ...     Augmenter("musan/noise", "rirs"), "results/augment.journal"
    ... )  # doctest: +SKIP
    """
    if augmenter.noise_folder is not None:
        augmenter.noises = _audited(augmenter, augmenter.noise_folder, False, journal, workers, progress)
    if augmenter.rir_folder is not None:
        augmenter.rirs = _audited(augmenter, augmenter.rir_folder, True, journal, workers, progress)


def _audited(augmenter: Augmenter, folder: str, rir: bool, journal, workers, progress: bool) -> Recordings:
    files = list(_listed(folder))
    arguments = (augmenter.sample_rate, 0.0, True, workers, progress, augmenter.resample, rir)
    examined = examine_files(files, journal, *arguments).results
    found = [Finding(f.utt_id, *problem) for f, e in zip(files, examined, strict=True) for problem in e.problems]
    found = [finding for finding in found if finding.leaves_out]
    bad = {finding.utt_id for finding in found}
    kept = [
        Recording(file.path, result.num_samples, result.sample_rate)
        for file, result in zip(files, examined, strict=True)
        if file.utt_id not in bad
    ]
    if not kept:
        raise ValueError(f"{folder}: none of its {len(files)} files is usable; {summary(found, len(files))}")
    if found:
        logger.warning("%s: %s", folder, summary(found, len(files)))
    kind = "impulse response" if rir else "noise"
    logger.info("%s: %d of %d files are in use as %s", folder, len(kept), len(files), kind)
    return Recordings(kept)


def _listed(folder: str) -> Iterator[AudioFile]:
    for path in audio_files(folder):
        yield AudioFile(os.path.relpath(path, folder), path, *(file_state(path) or ABSENT))
