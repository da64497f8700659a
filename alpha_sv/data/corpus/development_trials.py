"""Validation speakers drawn from the training speakers, and a trial list over their utterances.

Validation trials watch training, so they should be as hard as the test: target pairs cross sessions
where a speaker has several, and both sides of a nontarget pair come from the same data folder,
because two corpora differ in everything but the speaker too.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.trials.files import Trials

TARGETS_PER_SPEAKER = 50
NONTARGETS_PER_TARGET = 10
# A speaker's target pairs are drawn among at most so many utterances:
# half a million pairs are enough.
_MOST_UTTERANCES = 1000


def eligible_speakers(speakers: Sequence[str], count: int) -> list[str]:
    """Training speakers that can validate, sorted:
    those with a target pair, that is, two utterances.

    Parameters
    ----------
    speakers : sequence of str
        The speaker of every training utterance.
    count : int
        How many validation speakers are to be drawn.

    Raises
    ------
    ValueError
        Fewer than `count` speakers are eligible,
        or fewer than 2 speakers would be left for training.
    """
    number = Counter(speakers)
    eligible = sorted(speaker for speaker, n in number.items() if n >= 2)
    most = max(0, min(len(eligible), len(number) - 2))
    if len(number) < 2:
        raise ValueError(f"{len(number)} training speakers; training takes 2 at least: add data or exclude fewer")
    if count > most:
        raise ValueError(
            f"{count} validation speakers asked for: of {len(number)} training speakers {len(eligible)} have "
            f"the two usable utterances that takes, and 2 speakers must stay for training; ask for {most} or "
            "fewer, or add data"
        )
    return eligible


def draw_speakers(speakers: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw `count` of the `eligible_speakers`, sorted; arguments and errors are theirs.

    The draw depends on the seed and on the set of
    eligible speakers, not on the order of `speakers`.

    >>> draw_speakers(list("abcdabc"), 1, seed=0) == draw_speakers(list("dccbbaa"), 1, seed=0)
    True
    """
    eligible = eligible_speakers(speakers, count)
    chosen = np.random.default_rng([seed, 0]).choice(len(eligible), count, replace=False)
    return sorted(eligible[index] for index in chosen)


def validation_trials(utterances: Sequence[Utterance], seed: int) -> Trials:
    """Make trials over the utterances of the validation speakers.

    Every speaker gives up to 50 target pairs; every data folder gives ten times as many nontarget
    pairs as target pairs, or all it has. All pairs are distinct, an utterance is never paired with
    itself, and (a, b) excludes (b, a).

    Raises
    ------
    ValueError
        No data folder holds two of these speakers, so that there is no nontarget pair.

    Example
    -------
    >>> rows = [(f"s{speaker}/{name}.wav", f"s{speaker}") for speaker in "12" for name in "ab"]
    >>> made = [
    ...     Utterance(utt, f"/data/{utt}", who, "", 16000, 16000, 1, "valid")
    ...     for utt, who in rows
    ... ]
    >>> trials = validation_trials(made, seed=1234)
    >>> len(trials), int(trials.labels.sum())
    (6, 2)
    """
    rng = np.random.default_rng([seed, 1])
    by_root = defaultdict(list)
    for utterance in sorted(utterances, key=lambda u: (u.speaker, u.utt_id)):
        by_root[data_root(utterance)].append(utterance)
    targets, nontargets = [], []
    # roots in the order of their first utterance, not of their name, which differs between machines
    for members in sorted(by_root.values(), key=lambda group: (group[0].speaker, group[0].utt_id)):
        groups = [list(group) for _, group in itertools.groupby(members, key=lambda u: u.speaker)]
        found = [pair for group in groups for pair in _target_pairs(group, rng)]
        targets += found
        nontargets += _nontarget_pairs(groups, NONTARGETS_PER_TARGET * len(found), rng)
    if not nontargets:
        raise ValueError(
            f"no nontarget trials: the {len(targets)} target trials come from data folders with one "
            "validation speaker each; draw more validation speakers"
        )
    pairs = targets + nontargets
    labels = np.arange(len(pairs)) < len(targets)
    return Trials([a.utt_id for a, _ in pairs], [b.utt_id for _, b in pairs], labels)


def data_root(utterance: Utterance) -> str:
    """The data folder of an utterance:
    its path without as many parts as its ID has, which may be in another form."""
    return str(Path(utterance.path).parents[utterance.utt_id.count("/")])


def _target_pairs(group: list[Utterance], rng: np.random.Generator) -> list[tuple[Utterance, Utterance]]:
    if len(group) > _MOST_UTTERANCES:
        group = [group[index] for index in np.sort(rng.choice(len(group), _MOST_UTTERANCES, replace=False))]
    first, second = np.triu_indices(len(group), k=1)
    _, session = np.unique([utterance.session for utterance in group], return_inverse=True)
    # a random order, then the pairs of two sessions before those of one:
    # the stable sort keeps the order within both
    order = rng.permutation(len(first))
    order = order[np.argsort(session[first[order]] == session[second[order]], kind="stable")]
    return [(group[first[k]], group[second[k]]) for k in np.sort(order[:TARGETS_PER_SPEAKER])]


def _nontarget_pairs(
    groups: list[list[Utterance]], wanted: int, rng: np.random.Generator
) -> list[tuple[Utterance, Utterance]]:
    # Number the pairs without listing them: with the utterances in order of speaker, utterance i
    # pairs with every one from the end of its own speaker's on, so pair k belongs to the last i
    # whose pairs start at or before k.
    members = [utterance for group in groups for utterance in group]
    sizes = np.array([len(group) for group in groups])
    ends = np.repeat(np.cumsum(sizes), sizes)
    partners = len(members) - ends
    starts = np.cumsum(partners) - partners
    total = int(partners.sum())
    if total == 0:
        return []
    chosen = np.sort(rng.choice(total, min(wanted, total), replace=False))
    i = np.searchsorted(starts, chosen, side="right") - 1
    j = ends[i] + chosen - starts[i]
    return [(members[a], members[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
