"""Validation speakers and trials: distinct, true, hard, and the same from the same seed."""

import numpy as np
import pytest

from alpha_sv.data.corpus.development_trials import draw_speakers, validation_trials
from alpha_sv.data.corpus.manifest import Utterance

RATE = 16000


def population(sizes, root="/data"):
    """sizes: speaker -> number of utterances in each session."""
    return [
        Utterance(f"{s}/{session}/{i}.wav", f"{root}/{s}/{session}/{i}.wav", s, str(session), RATE, RATE, 1, "valid")
        for s, counts in sizes.items()
        for session, count in enumerate(counts)
        for i in range(count)
    ]


def test_validation_trials_are_distinct_true_and_within_one_folder():
    people = population({"a": (3, 3), "b": (4,), "c": (30, 30)}) + population({"d": (5,), "e": (1, 1)}, "/other")
    trials = validation_trials(people, seed=0)
    pairs = list(zip(trials.enroll.tolist(), trials.test.tolist(), strict=True))
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) and all(a != b for a, b in pairs)
    speakers = [(a[0], b[0]) for a, b in pairs]
    assert trials.labels.tolist() == [a == b for a, b in speakers]
    assert not {"ad", "ae", "bd", "be", "cd", "ce"} & {"".join(sorted(pair)) for pair in speakers}
    targets = [a for (a, b) in speakers if a == b]
    assert {s: targets.count(s) for s in "abcde"} == {"a": 15, "b": 6, "c": 50, "d": 10, "e": 1}
    # the first folder has 6*4 + 6*60 + 4*60 = 624 nontarget pairs,
    # fewer than ten times its 71 targets; the other 10
    assert (~trials.labels).sum() == 624 + 10


def test_nontarget_pairs_are_ten_times_the_targets_and_cover_all_speakers():
    trials = validation_trials(population({s: (20, 20) for s in "abcdefgh"}), seed=0)
    assert trials.labels.sum() == 8 * 50 and (~trials.labels).sum() == 8 * 500
    sides = np.concatenate([trials.enroll[~trials.labels], trials.test[~trials.labels]])
    counts = np.unique([side[0] for side in sides], return_counts=True)[1]
    again = validation_trials(population({s: (20, 20) for s in "abcdefgh"}), seed=1)
    assert again.enroll.tolist() != trials.enroll.tolist()
    assert len(counts) == 8 and counts.min() > 800  # 1000 each if uniform over pairs; sd 28


def test_target_pairs_cross_sessions_first():
    def crossing(sizes):
        trials = validation_trials(population({"a": sizes, "b": (1,)}), seed=0)
        pairs = zip(trials.enroll[trials.labels].tolist(), trials.test[trials.labels].tolist(), strict=True)
        crosses = [a.split("/")[1] != b.split("/")[1] for a, b in pairs]
        return sum(crosses), len(crosses)

    assert crossing((10, 10)) == (50, 50)  # 100 cross, enough of them
    assert crossing((20, 2)) == (40, 50)  # all 40 that cross, then others
    assert crossing((3,)) == (0, 3)  # one session: there is nothing to cross


def test_validation_needs_nontarget_pairs():
    people = population({"a": (3,)}) + population({"b": (3,)}, "/other")
    with pytest.raises(ValueError, match="no nontarget trials"):
        validation_trials(people, seed=0)


def test_speakers_with_one_utterance_stay_in_training():
    speakers = ["once"] + [name for name in "abcdef" for _ in range(2)]
    draws = {tuple(draw_speakers(speakers, 3, seed)) for seed in range(40)}
    assert set().union(*draws) == set("abcdef") and len(draws) > 5
    assert draw_speakers(speakers, 3, 7) == draw_speakers(speakers[::-1], 3, 7)
