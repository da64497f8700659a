"""Trial lists to verify on: called by their published names,
refused to a model that has heard their speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.corpus.voxceleb import published_list
from alpha_sv.data.trials.files import read_trials
from alpha_sv.data.trials.tables import Trials
from alpha_sv.pipeline.speakers import sides_speakers
from alpha_sv.sb.trained_run import TrainedRun


@dataclass(frozen=True)
class Listed:
    """A labelled trial list and its speakers;
    `title` is the published name of a list as long as the published one."""

    path: Path
    title: str
    trials: Trials
    speakers: frozenset[str]


def read_list(path: Path) -> Listed:
    """Read a labelled list of utterances named <speaker>/<video>/<file>."""
    trials = read_trials(path)
    if trials.labels is None:
        raise ValueError(f"{path} has no labels, so there is no error to count; give the published list")
    published = published_list(path)
    whole = published is not None and published.trials == len(trials)
    title = published.name if whole else f"{path.stem} ({len(trials):,} trials)"
    enroll, test = sides_speakers(trials)
    return Listed(path, title, trials, frozenset(enroll.tolist() + test.tolist()))


def refuse_heard(run: TrainedRun, lists: Sequence[Listed], calibration: Sequence[Listed] = ()) -> None:
    """ValueError for lists with speakers that trained the model, or that calibrate it."""
    found = []
    for one in [*lists, *calibration]:
        if heard := sorted(one.speakers & run.heard):
            some = ", ".join(heard[:3]) + (", …" if len(heard) > 3 else "")
            found.append(f"{one.path.name}: {len(heard):,} of its {len(one.speakers):,} speakers ({some})")
            if (published := published_list(one.path)) and published.sees_dev:
                found[-1] += f"; {published.name} needs a model that never saw VoxCeleb1 dev (prepare.py --train vox2)"
    if found:
        raise ValueError(
            f"{run.folder} was trained on speakers of these lists, and errors on speakers it knows mean nothing. Leave "
            f"the lists out, or train without their speakers. {'. '.join(found)}"
        )
    for one in lists:
        for other in calibration:
            if shared := sorted(one.speakers & other.speakers):
                raise ValueError(
                    f"{other.path.name} has {len(shared):,} speakers of {one.path.name} ({', '.join(shared[:3])}): "
                    "calibrate with other speakers than those tested"
                )


def require_prepared(lists: Sequence[Listed], heldout: Sequence[Utterance]) -> None:
    """ValueError for a list with utterances that are not among those held out from training."""
    known = {utterance.utt_id for utterance in heldout}
    for one in lists:
        named = set(one.trials.enroll.tolist()).union(one.trials.test.tolist())
        if missing := sorted(named - known):
            raise ValueError(
                f"{one.path}: {len(missing):,} of its {len(named):,} utterances are no test utterances of the prepared "
                f"folder (such as {', '.join(missing[:3])}); run prepare.py with this list among its --trials"
            )
