"""Any speaker tree → manifest: who trains, who validates, who is tested; seeded, sorted, audited, cached.

    <output>/manifest.csv        every usable utterance with its split
    <output>/valid_trials.txt    `label enroll test`, if validation speakers are asked for
    <output>/audit.csv           what is wrong with which file
    <output>/split.txt.gz        the split to publish: no paths, the same on every machine (see `published_split`)
    <output>/audit.journal       what was read of each file, so that it is not read again (see `audit_journal`)
    <output>/prepare.json        written last: what all this was made from, and how much it is

Speakers on either side of any trial never train. The same inputs give the same files, whatever the order
of the file system or the number of workers; a changed input, the trial lists included, makes them anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import soundfile

from alpha_sv.data.corpus.assign_splits import assign_roles
from alpha_sv.data.corpus.audit import Examined, Finding, findings, summary, write_audit
from alpha_sv.data.corpus.audit_journal import examine_files
from alpha_sv.data.corpus.development import draw_speakers, eligible_speakers, validation_trials
from alpha_sv.data.corpus.manifest import SPLITS, Utterance, manifest_hash, write_manifest
from alpha_sv.data.corpus.published_split import check_lengths, read_split, take_over, write_split
from alpha_sv.data.corpus.tree import AudioFile, find_files, fingerprint
from alpha_sv.data.trials.files import read_trials, write_trials
from alpha_sv.files import Paths, as_list, atomic_write, input_key, is_fresh, sha256_file, write_stamp

logger = logging.getLogger(__name__)

FORMAT = "alpha_sv.prepare/2"  # raise the number whenever the same inputs would give other outputs
_OUTPUTS = ("manifest.csv", "audit.csv", "valid_trials.txt", "split.txt.gz")


def prepare_tree(
    data_folders: Paths,
    output_folder: str | os.PathLike,
    trials: Paths = (),
    exclude_speakers: Paths = (),
    num_valid_speakers: int = 0,
    sample_rate: int = 16000,
    min_duration: float = 0.3,
    audit: str = "full",
    seed: int = 1234,
    workers: int | None = None,
    progress: bool = True,
    valid_trials: str | os.PathLike | None = None,
    like: str | os.PathLike | None = None,
    notes: Mapping[str, object] | None = None,
    check: Callable[[str, str], None] | None = None,
) -> Path:
    """Prepare one or several pooled speaker trees (see `alpha_sv.data.corpus.tree` for the layout).

    Parameters
    ----------
    data_folders : path-like or sequence of path-like
        Folders whose subfolders are the speakers.
    output_folder : path-like
        Made if need be.
    trials : path-like or sequence of path-like
        Trial lists, with paths relative to the data folders. The utterances they name become the split
        "test"; the other files of those speakers are left out.
    exclude_speakers : str, path-like or sequence of them
        Speakers not to train on: names, or files with one in the first column of each line.
    num_valid_speakers : int
        Speakers drawn from the training speakers for the split "valid"; 0 for none, else 2 or more.
    sample_rate : int
        Hz. Files with another rate are left out; nothing is resampled.
    min_duration : float
        Seconds; shorter files are left out.
    audit : {"full", "headers"}
        Whether every sample is decoded and checked, or only the headers (see `alpha_sv.data.corpus.audit`).
    seed : int
        Of the validation speakers and trials; not negative.
    workers : int, optional
        Threads; one per available core if None.
    valid_trials : path-like, optional
        A labelled development trial list of your own, instead of one drawn from `num_valid_speakers` (then unused): its
        utterances become the split "valid", and its speakers do not train.
    like : path-like, optional
        A published `split.txt.gz`: exactly its utterances, in exactly its splits (`num_valid_speakers` is then unused).
        Give it the trial lists, exclusions and seed that it was published with.
    notes : mapping, optional
        Facts (of JSON's types) to keep in prepare.json among the arguments.
    check : callable, optional
        Called with the hashes of the manifest and of the development trials ("" without any) before anything but the
        journal is written; what it raises leaves an earlier preparation as it was.

    Returns
    -------
    Path
        Of the manifest.

    Raises
    ------
    ValueError
        An argument is out of range; the folders do not have the layout; a trial list names a file that is not
        there or not usable; an excluded name is unknown; too few speakers or no usable file are left; the files differ
        from those of `like`.

    Example
    -------
    >>> prepare_tree("data/wav", "results/prepared", trials="data/trials.txt")  # doctest: +SKIP
    """
    _check_arguments(num_valid_speakers, sample_rate, min_duration, audit, seed, workers)
    data_folders, trial_lists, exclusions = map(as_list, (data_folders, trials, exclude_speakers))
    output = Path(output_folder)
    valid_lists = [] if valid_trials is None else [os.fspath(valid_trials)]
    published_lists = [] if like is None else [os.fspath(like)]
    if valid_lists or published_lists:
        num_valid_speakers = 0
    for path in trial_lists + valid_lists + published_lists:
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such {'split' if path in published_lists else 'trial list'}; check the path")
        if os.path.abspath(path) in [os.path.abspath(output / name) for name in _OUTPUTS]:
            raise ValueError(f"{path}: would be overwritten by what is prepared; give another output folder")
    files = find_files(data_folders)
    arguments = {
        "data_folders": [os.path.abspath(folder) for folder in data_folders],
        "trials": [sha256_file(path) for path in trial_lists],
        "valid_trials": [sha256_file(path) for path in valid_lists],
        "exclude_speakers": [sha256_file(item) if os.path.isfile(item) else item for item in exclusions],
        "num_valid_speakers": num_valid_speakers,
        "sample_rate": sample_rate,
        "min_duration": min_duration,
        "audit": audit,
        "seed": seed,
        "like": [sha256_file(path) for path in published_lists],
        "notes": dict(notes or {}),
    }
    # a name that is both a file and a speaker is the speaker: which one it was must be in the key
    key = input_key([FORMAT, soundfile.__libsndfile_version__, arguments, exclusions, fingerprint(files)])
    manifest, stamp = output / "manifest.csv", output / "prepare.json"
    if is_fresh(stamp, key):
        logger.info("%s: prepared from these very inputs already, reused", output)
        return manifest
    lists = [(path, read_trials(path)) for path in trial_lists]
    own_valid = [(path, read_trials(path)) for path in valid_lists]
    if own_valid and own_valid[0][1].labels is None:
        raise ValueError(f"{valid_lists[0]}: development trials need labels (1 enroll test)")
    split_of, left_out = assign_roles(files, lists, exclusions, own_valid)
    published = read_split(like) if published_lists else {}
    if published:
        before, split_of = len(split_of), take_over(like, published, split_of)
        left_out["not in the published split"] = before - len(split_of)
    used = [file for file in files if file.utt_id in split_of]
    _check_enough([f.speaker for f in used if split_of[f.utt_id] == "train"], num_valid_speakers, left_out)

    journal = output / "audit.journal"
    examined = examine_files(used, journal, sample_rate, min_duration, audit == "full", workers, progress)
    speed = examined.speed
    logger.info("%(read)d files read in %(seconds).1f s, %(files_per_second)d files/s; %(known)d known already", speed)
    found = findings([f.utt_id for f in used], [f.speaker for f in used], examined.results)
    if not stamp.exists():  # there is no earlier preparation that it could contradict: should this one fail, it helps
        write_audit(output / "audit.csv", found)
    logger.log(logging.WARNING if found else logging.INFO, summary(found, len(used)))
    utterances = _usable(used, examined.results, found, split_of)
    left_out["unusable (see audit.csv)"] = len(used) - len(utterances)
    check_lengths(like, published, utterances)
    _check_enough([u.speaker for u in utterances if u.split == "train"], num_valid_speakers, left_out)

    if num_valid_speakers:
        utterances = _with_validation(utterances, num_valid_speakers, seed)
    valid = [u for u in utterances if u.split == "valid"]
    development = io.StringIO()
    if valid:
        write_trials(development, own_valid[0][1] if own_valid else validation_trials(valid, seed))
    if check is not None:
        text = development.getvalue().encode()
        check(manifest_hash(utterances), hashlib.sha256(text).hexdigest() if valid else "")

    # all is known: nothing older may pass for this result while it is written
    for name in ("prepare.json", *_OUTPUTS):
        (output / name).unlink(missing_ok=True)
    write_audit(output / "audit.csv", found)
    if valid:
        with atomic_write(output / "valid_trials.txt") as file:
            file.write(development.getvalue())
    write_manifest(manifest, utterances)
    counts = {split: _count(utterances, split) for split in SPLITS}
    facts = {
        "format": FORMAT,
        "arguments": arguments,
        "trial_lists": trial_lists,
        "manifest_hash": manifest_hash(utterances),
        "split_sha256": write_split(output / "split.txt.gz", utterances),
        "counts": counts,
    }
    outputs = [name for name in _OUTPUTS if (output / name).exists()]
    write_stamp(stamp, key, outputs, **facts, left_out=left_out, reading=speed)
    for split, count in counts.items():
        logger.info("%s: %d speakers, %d utterances, %.2f hours", split, *count.values())
    logger.info("files left out: %s", _listing(left_out))
    return manifest


def _usable(
    files: Sequence[AudioFile],
    results: Sequence[Examined],
    found: Sequence[Finding],
    split_of: dict[str, str],
) -> list[Utterance]:
    bad = {finding.utt_id: finding for finding in found if finding.leaves_out}
    if len(bad) == len(files):
        raise ValueError(f"no usable file is left.\n{summary(found, len(files))}\nRepair or convert the files")
    needed = [finding for utt_id, finding in bad.items() if split_of[utt_id] != "train"]
    if needed:
        some = "; ".join(f"{finding.utt_id}: {finding.problem}: {finding.detail}" for finding in needed[:3])
        raise ValueError(
            f"{len(needed)} files that trials need are not usable "
            f"({some}{'; ...' if len(needed) > 3 else ''}); repair them, or take their trials out of the list"
        )
    return [
        Utterance(
            utt_id=file.utt_id,
            path=file.path,
            speaker=file.speaker,
            session=file.session,
            num_samples=result.num_samples,
            sample_rate=result.sample_rate,
            channels=result.channels,
            split=split_of[file.utt_id],
        )
        for file, result in zip(files, results, strict=True)
        if file.utt_id not in bad
    ]


def _with_validation(utterances: list[Utterance], count: int, seed: int) -> list[Utterance]:
    chosen = set(draw_speakers([u.speaker for u in utterances if u.split == "train"], count, seed))
    return [dataclasses.replace(u, split="valid") if u.speaker in chosen else u for u in utterances]


def _check_arguments(num_valid_speakers, sample_rate, min_duration, audit, seed, workers) -> None:
    for good, problem in (
        (audit in ("full", "headers"), f"audit must be 'full' or 'headers', got {audit!r}"),
        (num_valid_speakers >= 0, f"num_valid_speakers must not be negative, got {num_valid_speakers}"),
        (
            num_valid_speakers != 1,
            "num_valid_speakers=1 leaves no nontarget trial; ask for 0, or for 2 or more",
        ),
        (sample_rate > 0, f"sample_rate must be positive (Hz), got {sample_rate}"),
        (0 <= min_duration < float("inf"), f"min_duration must be 0 s or more, got {min_duration}"),
        (seed >= 0, f"seed must not be negative, got {seed}"),
        (workers is None or workers > 0, f"workers must be positive or None, got {workers}"),
    ):
        if not good:
            raise ValueError(f"prepare_tree: {problem}")


def _check_enough(train: list[str], num_valid_speakers: int, left_out: dict[str, int]) -> None:
    try:
        eligible_speakers(train, num_valid_speakers)
    except ValueError as error:
        raise ValueError(f"{error}. Files left out so far: {_listing(left_out)}") from None


def _count(utterances: Iterable[Utterance], split: str) -> dict[str, float]:
    members = [u for u in utterances if u.split == split]
    hours = sum(u.duration for u in members) / 3600
    return {
        "speakers": len({u.speaker for u in members}),
        "utterances": len(members),
        "hours": round(hours, 4),
    }


def _listing(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "none"
