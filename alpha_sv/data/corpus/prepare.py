"""Any speaker tree → manifest: who trains, who validates,
who is tested; seeded, sorted, audited, cached.

    <output>/manifest.csv        every usable utterance with its split
    <output>/valid_trials.txt    `label enroll test`, if validation speakers are asked for
    <output>/audit.csv           what is wrong with which file
    <output>/split.txt.gz        the split to publish, without paths (see `published_split`)
    <output>/audit.journal       what was read of each file, once (see `audit_journal`)
    <output>/resampled/          copies of the files of another rate (see `resampled`)
    <output>/prepare.json        written last: what all this was made from, and how much it is

Speakers on either side of any trial never train. The same inputs give the same files, whatever the
order of the file system or the number of workers; a changed input, the trial lists included, makes
them anew. Nothing but the journal is written before all is decided: what is refused leaves an
older preparation whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import soundfile

from alpha_sv.data.corpus.assign_splits import assign_roles
from alpha_sv.data.corpus.audit import findings, summary, write_audit
from alpha_sv.data.corpus.audit_journal import examine_files
from alpha_sv.data.corpus.development_trials import draw_speakers, validation_trials
from alpha_sv.data.corpus.manifest import SPLITS, Utterance, manifest_hash, read_manifest, write_manifest
from alpha_sv.data.corpus.name_form import trials_in_one_form
from alpha_sv.data.corpus.published_split import check_lengths, read_split, take_over, write_split
from alpha_sv.data.corpus.resampled import as_resampled, write_resampled
from alpha_sv.data.corpus.tree import find_files
from alpha_sv.data.corpus.usable import (
    check_enough,
    count,
    listing,
    num_speakers,
    samples_hash,
    usable_rows,
    warn_of_duplicates,
)
from alpha_sv.data.trials.files import read_trials, write_trials
from alpha_sv.files import Paths, as_list, atomic_write, input_key, is_fresh, sha256_file, write_stamp

logger = logging.getLogger(__name__)

FORMAT = "alpha_sv.prepare/3"  # raise the number whenever the same inputs would give other outputs
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
    resample: bool = False,
    check: Callable[[str, str, str], None] | None = None,
) -> Path:
    """Prepare one or several pooled speaker trees (see `alpha_sv.data.corpus.tree` for the layout).

    Parameters
    ----------
    data_folders : path-like or sequence of path-like
        Folders whose subfolders are the speakers.
    output_folder : path-like
        Made if need be.
    trials : path-like or sequence of path-like
        Trial lists, with paths relative to the data folders. The utterances they
        name become the split "test"; the other files of those speakers are left out.
    exclude_speakers : str, path-like or sequence of them
        Speakers not to train on: names, or files with one in the first column of each line.
    num_valid_speakers : int
        Speakers drawn from the training speakers for the split "valid"; 0 for none, else 2 or more.
    sample_rate : int
        Hz. Files with another rate are left out, unless `resample`.
    min_duration : float
        Seconds; shorter files are left out.
    audit : {"full", "headers"}
        Whether every sample is decoded and checked,
        or only the headers (see `alpha_sv.data.corpus.audit`).
    seed : int
        Seed of the draw of validation speakers and trials; not negative. Another one draws others.
    workers : int, optional
        Threads; one per available core if None.
    valid_trials : path-like, optional
        A labelled development trial list of your own, instead of one drawn from
        `num_valid_speakers` (then unused): its utterances become the split "valid", and
        its speakers do not train.
    like : path-like, optional
        A published `split.txt.gz`: exactly its utterances, in exactly its splits
        (`num_valid_speakers` is then unused). Give it the trial lists, exclusions and seed
        that it was published with.
    notes : mapping, optional
        Facts (of JSON's types) to keep in prepare.json among the arguments.
    resample : bool
        Make copies at `sample_rate` of the files that have another, in `<output>/resampled`, and
        use those. Speech from the telephone stays speech without its upper half: a model tells it
        from other speech by that.
    check : callable, optional
        Called with the hashes of the manifest, of the development trials ("" without any) and of
        the samples (see `samples_hash`) before anything but the journal is written; what it raises
        leaves an older preparation whole.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    ValueError
        An argument is out of range; the folders do not have the layout; a trial list names a file
        that is not there or not usable; an excluded name is unknown; too few speakers or no usable
        file are left; the files differ from those of `like`; and what `check` raises.

    Example
    -------
    >>> prepare_tree("data/wav", "results/prepared", trials="data/trials.txt")  # doctest: +SKIP
    """
    _check_arguments(num_valid_speakers, sample_rate, min_duration, audit, seed, workers)
    data_folders, trial_lists = (list(map(os.path.expanduser, as_list(paths))) for paths in (data_folders, trials))
    exclusions = as_list(exclude_speakers)
    output = Path(output_folder).expanduser()
    valid_lists, published_lists = ([] if path is None else [os.path.expanduser(path)] for path in (valid_trials, like))
    if valid_lists or published_lists:
        num_valid_speakers = 0
    for path in trial_lists + valid_lists + published_lists:
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such {'split' if path in published_lists else 'trial list'}; check the path")
        if os.path.realpath(path) in [os.path.realpath(output / name) for name in _OUTPUTS]:
            raise ValueError(f"{path}: would be overwritten by what is prepared; give another output folder")
    files = find_files(data_folders)
    arguments = {
        "data_folders": [os.path.abspath(folder) for folder in data_folders],
        "trials": [sha256_file(path) for path in trial_lists],
        "valid_trials": [sha256_file(path) for path in valid_lists],
        "exclude_speakers": [_digest_or_name(item) for item in exclusions],
        "num_valid_speakers": num_valid_speakers,
        "sample_rate": sample_rate,
        "min_duration": min_duration,
        "audit": audit,
        "seed": seed,
        "like": [sha256_file(path) for path in published_lists],
        "resample": resample,
        "notes": dict(notes or {}),
    }
    # a name that is both a file and a speaker is the speaker: which one it was must be in the key
    states = ((file.utt_id, file.path, file.size, file.mtime_ns) for file in files)
    key = input_key(itertools.chain([FORMAT, soundfile.__libsndfile_version__, arguments, exclusions], states))
    manifest, stamp = output / "manifest.csv", output / "prepare.json"
    if is_fresh(stamp, key) and not (resample and _lost(manifest)):
        logger.info("%s: prepared from these very inputs already, reused", output)
        return manifest
    lists, own_valid = (
        [(path, trials_in_one_form(read_trials(path))) for path in paths] for paths in (trial_lists, valid_lists)
    )
    if own_valid and own_valid[0][1].labels is None:
        raise ValueError(f"{valid_lists[0]}: development trials need labels (1 enroll test)")
    split_of, left_out = assign_roles(files, lists, exclusions, own_valid)
    published = read_split(published_lists[0]) if published_lists else {}
    if published:
        taken = take_over(like, published, split_of)
        left_out["not in the published split"] = [f for f in files if f.utt_id in split_of and f.utt_id not in taken]
        split_of = taken
    used = [file for file in files if file.utt_id in split_of]
    check_enough([f.speaker for f in used if split_of[f.utt_id] == "train"], num_valid_speakers, left_out)

    journal = output / "audit.journal"
    examined = examine_files(used, journal, sample_rate, min_duration, audit == "full", workers, progress, resample)
    speed = examined.speed
    logger.info("%(read)d files read in %(seconds).1f s, %(files_per_second)d files/s; %(known)d known already", speed)
    found = findings([f.utt_id for f in used], [f.speaker for f in used], examined.results)
    logger.log(logging.WARNING if found else logging.INFO, summary(found, len(used)))
    for path, trials_of_list in lists + own_valid:
        warn_of_duplicates(path, trials_of_list, used, examined.results)
    try:
        sources = usable_rows(used, examined.results, found, split_of)
        usable = {u.utt_id for u in sources}
        left_out["unusable (see audit.csv)"] = [file for file in used if file.utt_id not in usable]
        utterances = [as_resampled(u, output / "resampled", sample_rate) for u in sources]
        check_lengths(like, published, utterances)
        check_enough([u.speaker for u in utterances if u.split == "train"], num_valid_speakers, left_out)
        if num_valid_speakers:
            utterances = _with_validation(utterances, num_valid_speakers, seed)
        root_of = {u.utt_id: u.path for u in sources}  # trials are made within a data folder, wherever the copies are
        valid = [dataclasses.replace(u, path=root_of[u.utt_id]) for u in utterances if u.split == "valid"]
        trials_of_valid = own_valid[0][1] if own_valid else validation_trials(valid, seed) if valid else None
        development = io.StringIO()
        if trials_of_valid is not None:
            write_trials(development, trials_of_valid)
        samples = samples_hash({f.utt_id: e.digest for f, e in zip(used, examined.results, strict=True)}, usable)
        if check:
            text = development.getvalue().encode()
            check(
                manifest_hash(utterances), "" if trials_of_valid is None else hashlib.sha256(text).hexdigest(), samples
            )
    except ValueError:
        if not stamp.exists():  # that of an older preparation stays
            write_audit(output / "audit.csv", found)
        raise

    write_resampled(sources, output / "resampled", sample_rate, workers, progress)
    # all is known: nothing older may pass for this result while it is written
    for name in ("prepare.json", *_OUTPUTS):
        (output / name).unlink(missing_ok=True)
    write_audit(output / "audit.csv", found)
    if trials_of_valid is not None:
        with atomic_write(output / "valid_trials.txt") as file:
            file.write(development.getvalue())
    write_manifest(manifest, utterances)
    counts = {split: count(utterances, split) for split in SPLITS}
    facts = {
        "format": FORMAT,
        "arguments": arguments,
        "trial_lists": trial_lists,
        "manifest_hash": manifest_hash(utterances),
        "samples": samples,
        "split_sha256": write_split(output / "split.txt.gz", utterances),
        "counts": counts,
        "left_out": {reason: len(group) for reason, group in left_out.items()},
        "left_out_speakers": {reason: num_speakers(group) for reason, group in left_out.items()},
    }
    outputs = [name for name in _OUTPUTS if (output / name).exists()]
    write_stamp(stamp, key, outputs, **facts, reading=speed)
    for split, numbers in counts.items():
        logger.info("%s: %d speakers, %d utterances, %.2f hours", split, *numbers.values())
    logger.info("files left out: %s", listing(left_out))
    return manifest


def _digest_or_name(item: str) -> str:
    path = os.path.expanduser(item)
    return sha256_file(path) if os.path.isfile(path) else item


def _lost(manifest: Path) -> bool:
    """Whether somebody has deleted copies that were made for this manifest."""
    return not all(os.path.isfile(utterance.path) for utterance in read_manifest(manifest))


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
