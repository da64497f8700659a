"""VoxCeleb1 and VoxCeleb2 as they come, prepared as any speaker tree:
converted, split by the published trial lists.

VoxCeleb1 (Nagrani et al., Interspeech 2017) is split into dev and the 40 test speakers of
VoxCeleb1-O; its E and H lists (Chung et al., Interspeech 2018) test its dev speakers too, so a
model for them trains on VoxCeleb2 dev alone. Nothing is dropped quietly to make a list fit: who
asks for a test on training speakers is told so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.data.corpus.convert import convert_tree
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.corpus.voxceleb_folders import VOXCELEB1, VOXCELEB2, speaker_folders, unconverted
from alpha_sv.data.trials.files import read_trials
from alpha_sv.files import Paths, as_list

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialList:
    """A published trial list of VoxCeleb1.

    Parameters
    ----------
    name : str
        As tables of results call it.
    trials : int
        Published number of trials.
    sees_dev : bool
        It tests speakers of VoxCeleb1 dev, so that no model trained on them can be tested with it.
    """

    name: str
    trials: int
    sees_dev: bool


# https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html;
# the lists whose names end in 2 are the cleaned ones
TRIAL_LISTS = {
    "veri_test": TrialList("VoxCeleb1-O", 37720, False),
    "veri_test2": TrialList("VoxCeleb1-O (cleaned)", 37611, False),
    "list_test_all": TrialList("VoxCeleb1-E", 581480, True),
    "list_test_all2": TrialList("VoxCeleb1-E (cleaned)", 579818, True),
    "list_test_hard": TrialList("VoxCeleb1-H", 552536, True),
    "list_test_hard2": TrialList("VoxCeleb1-H (cleaned)", 550894, True),
}
TEST_SPEAKERS = tuple(f"id{number}" for number in range(10270, 10310))
TRAINING = {"vox1": (VOXCELEB1,), "vox2": (VOXCELEB2,), "vox1+vox2": (VOXCELEB1, VOXCELEB2)}


def published_list(path: str | os.PathLike) -> TrialList | None:
    """The published list of this file name, whatever its folder; None for other lists.

    >>> published_list("lists/veri_test2.txt").name
    'VoxCeleb1-O (cleaned)'
    """
    return TRIAL_LISTS.get(Path(path).stem)


def prepare_voxceleb(
    output_folder: str | os.PathLike,
    train: str = "vox2",
    voxceleb1: str | os.PathLike | None = None,
    voxceleb2: str | os.PathLike | None = None,
    trials: Paths = (),
    num_valid_speakers: int = 40,
    seed: int = 1234,
    workers: int | None = None,
    audit: str = "headers",
    converted: str | os.PathLike | None = None,
    audio_format: str = "wav",
    like: str | os.PathLike | None = None,
    progress: bool = True,
) -> Path:
    """Prepare VoxCeleb; the outputs are those of `alpha_sv.data.corpus.prepare.prepare_tree`.

    Parameters
    ----------
    output_folder : path-like
        For manifest.csv, valid_trials.txt and the rest; made if need be.
    train : {"vox1", "vox2", "vox1+vox2"}
        Who trains: VoxCeleb1 without its 40 test speakers, VoxCeleb2 dev, or both.
    voxceleb1, voxceleb2 : path-like, optional
        The folders they were unpacked into (`voxceleb_folders` has the shapes).
        VoxCeleb1 is needed to train on and for trials.
    trials : path-like or sequence of path-like
        Lists such as veri_test2.txt; their utterances become the split "test".
    num_valid_speakers, seed, workers, audit, like, progress
        As in `prepare_tree`; validation speakers are drawn from the training speakers.
    converted : path-like, optional
        Folder for VoxCeleb2's converted files; if None,
        beside its folder `aac`, called as the format.
    audio_format : {"wav", "flac"}
        Format of the converted files; "flac" takes about half the disk and more time to read.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    ValueError
        A corpus that is needed is not given, or one that is not used is; a folder holds the other
        corpus; a trial list tests speakers who train; ffmpeg is missing or fails on some files; and
        what `prepare_tree` raises.

    Example
    -------
    >>> prepare_voxceleb(
    ...     "results/prepared",
    ...     "vox2",
    ...     "/corpora/voxceleb1",
    ...     "/corpora/voxceleb2",
    ...     trials=["veri_test2.txt", "list_test_hard2.txt"],
    ... )  # doctest: +SKIP
    """
    if train not in TRAINING:
        raise ValueError(f"train must be one of {', '.join(TRAINING)}, got {train!r}")
    trials = list(map(os.path.expanduser, as_list(trials)))
    _check_roots(train, voxceleb1, voxceleb2, trials)
    roots = {VOXCELEB1: voxceleb1, VOXCELEB2: voxceleb2}
    folders = {corpus: speaker_folders(root, corpus) for corpus, root in roots.items() if root is not None}
    speakers = {corpus: sorted(set().union(*found.values())) for corpus, found in folders.items()}
    strangers = [s for s in speakers.get(VOXCELEB1, ()) if train == "vox2" or s in TEST_SPEAKERS]
    for corpus, names in speakers.items():
        if len(names) < corpus.num_speakers:
            logger.warning("%s: %d of its %d speakers are there", corpus.name, len(names), corpus.num_speakers)
    training = set().union(*(speakers[corpus] for corpus in TRAINING[train])).difference(strangers)
    lists = [_checked_list(path, train, training) for path in trials]

    data_folders = list(folders.get(VOXCELEB1, ()))
    if VOXCELEB2 in folders:
        data_folders += _converted(folders[VOXCELEB2], converted, audio_format, workers, progress)
    return prepare_tree(
        data_folders,
        output_folder,
        trials=trials,
        exclude_speakers=strangers,
        num_valid_speakers=num_valid_speakers,
        audit=audit,
        seed=seed,
        workers=workers,
        progress=progress,
        like=like,
        notes={"train": train, "speakers": {c.name: len(s) for c, s in speakers.items()}, "trial_lists": lists},
    )


def _check_roots(train: str, voxceleb1, voxceleb2, trials: Sequence[str]) -> None:
    if voxceleb1 is None and (VOXCELEB1 in TRAINING[train] or trials):
        raise ValueError(f"voxceleb1 is not given: {'the trials test' if trials else f'{train} trains on'} VoxCeleb1")
    if voxceleb2 is None and VOXCELEB2 in TRAINING[train]:
        raise ValueError(f"voxceleb2 is not given: {train} trains on VoxCeleb2; give its folder, or train on vox1")
    if voxceleb2 is not None and VOXCELEB2 not in TRAINING[train]:
        raise ValueError("voxceleb2 is given, but vox1 does not train on it; leave it out, or train on vox1+vox2")


def _checked_list(path: str, train: str, training: set[str]) -> dict[str, object]:
    """Refuse a list that tests training speakers,
    on either side; say what it is, for prepare.json."""
    if not os.path.isfile(path):
        raise ValueError(
            f"{path}: no such trial list; the published ones are at "
            "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html"
        )
    trials, name = read_trials(path), os.path.basename(path)
    tested = {utt_id.split("/", 1)[0] for side in (trials.enroll, trials.test) for utt_id in set(side.tolist())}
    # of VoxCeleb1 dev, those too that were not downloaded
    dev = {s for s in tested if s.startswith(VOXCELEB1.prefix) and s not in TEST_SPEAKERS}
    if VOXCELEB1 in TRAINING[train] and dev:
        raise ValueError(
            f"{name} tests {len(dev):,} speakers of VoxCeleb1 dev (such as {min(dev)}), which {train} trains on: "
            "VoxCeleb1-E and -H need a model that never saw VoxCeleb1 dev; train on vox2, or leave the list out"
        )
    if leaked := tested & training:
        raise ValueError(
            f"{name} tests {len(leaked):,} speakers that {train} trains on (such as {min(leaked)}); give another list"
        )
    published = published_list(path)
    if published and len(trials) != published.trials:
        logger.warning(
            "%s: %d trials, %s has %d; an incomplete download? Results on it are not those of %s",
            *(path, len(trials), published.name, published.trials, published.name),
        )
    facts = {"name": published.name, "published": published.trials} if published else {"name": None, "published": None}
    return {"file": name, "trials": len(trials), **facts}


def _converted(folders, converted, audio_format: str, workers: int | None, progress: bool) -> list[Path]:
    """VoxCeleb2's folders of readable audio, after its m4a files have been converted."""
    source = unconverted(folders)
    if source is None:
        return list(folders)
    target = source.parent / (audio_format if source.name == "aac" else f"{source.name}_{audio_format}")
    target = Path(os.path.abspath(os.path.expanduser(converted or target)))
    others = [folder for folder in folders if folder not in (source, target)]
    if others and converted is None:
        raise ValueError(
            f"VoxCeleb2 is there as m4a ({source}) and in {', '.join(map(str, others))}; give that folder itself to "
            "use it, or say where the m4a files are to be converted to"
        )
    count = convert_tree(source, target, audio_format, workers, progress)
    logger.info("%s: %d files converted now", target, count)
    return [target]
