"""Resampling speakers: against lists written out person by person,
and against how results really scatter."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2

from alpha_sv.metrics import act_dcf, cllr, eer, evaluate, fnr_at_fpr, min_cllr, min_dcf, speaker_bootstrap

MEASURES = {
    "eer": lambda t, n: eer(t, n)[0],
    "min_dcf 0.01": lambda t, n: min_dcf(t, n, 0.01)[0],
    "min_dcf 0.05": lambda t, n: min_dcf(t, n, 0.05)[0],
    "fnr at fpr 1e-2": lambda t, n: fnr_at_fpr(t, n, 1e-2)[0],
    "fnr at fpr 1e-3": lambda t, n: fnr_at_fpr(t, n, 1e-3)[0],
    "fnr at fpr 1e-4": lambda t, n: fnr_at_fpr(t, n, 1e-4)[0],
    "min_cllr": min_cllr,
    "act_dcf 0.01": lambda t, n: act_dcf(t, n, 0.01)[0],
    "act_dcf 0.05": lambda t, n: act_dcf(t, n, 0.05)[0],
    "cllr": cllr,
}


def random_list(seed, speakers=12, trials=400, systems=2, levels=None):
    """An irregular list: not every speaker on both sides,
    repeats, both orders; scores [systems, trials]."""
    rng = np.random.default_rng(seed)
    names = np.array([f"id{k:02d}" for k in rng.permutation(speakers)])
    enroll = rng.integers(0, speakers - 1, trials)
    test = np.where(rng.random(trials) < 0.4, enroll, rng.integers(1, speakers, trials))
    labels = enroll == test
    scores = 2.5 * labels + rng.normal(0, 2, (systems, trials)) + rng.normal(0, 0.5, speakers)[enroll]
    return (np.round(scores * levels) / levels if levels else scores), names[enroll], names[test], labels


def written_out(scores, enroll, test, labels, persons):
    """Target and nontarget scores of the list that has a row for each pair of persons."""
    sides = {True: [], False: []}
    for score, a, b, label in zip(scores, enroll, test, labels, strict=True):
        for i in np.flatnonzero(persons == a):
            for j in np.flatnonzero(persons == b):
                if i == j or not label:  # a target trial is of one person; copies of a speaker are two persons
                    sides[bool(label)].append(score)
    return sides[True], sides[False]


@pytest.mark.parametrize("levels", [None, 1])
def test_a_replicate_is_the_list_of_the_persons_drawn(levels):
    scores, enroll, test, labels = random_list(0, levels=levels)
    boot = speaker_bootstrap(scores, enroll, test, labels, replicates=12, seed=5, llr=True)
    assert set(boot.metrics) == set(MEASURES) and boot.undefined == 0
    names = np.unique(np.concatenate([enroll, test]))
    counts = np.random.default_rng(5).multinomial(names.size, np.full(names.size, 1 / names.size), size=12)
    for draw, count in zip(boot.draws, counts, strict=True):
        persons = np.repeat(names, count)
        for system in range(2):
            sides = written_out(scores[system], enroll, test, labels, persons)
            expected = [MEASURES[metric](*sides) for metric in boot.metrics]
            np.testing.assert_allclose(draw[system], expected, rtol=0, atol=1e-12)


def test_what_was_observed_is_what_evaluate_says():
    scores, enroll, test, labels = random_list(1, trials=3000)
    boot = speaker_bootstrap(scores, enroll, test, labels, replicates=2, llr=True)
    for row, observed, supported in zip(scores, boot.observed, boot.supported, strict=True):
        target, nontarget = row[labels], row[~labels]
        np.testing.assert_allclose(observed, [MEASURES[m](target, nontarget) for m in boot.metrics], atol=1e-13)
        fnr = [entry["supported"] for entry in evaluate(target, nontarget)["fnr_at_fpr"]]
        assert fnr == supported[[boot.metrics.index(f"fnr at fpr 1e-{k}") for k in (2, 3, 4)]].tolist()
        assert fnr == [True, False, False]


@pytest.mark.parametrize("levels", [None, 1])
def test_neither_the_order_of_the_file_nor_of_the_sides_matters(levels):
    scores, enroll, test, labels = random_list(2, levels=levels)
    expected = speaker_bootstrap(scores, enroll, test, labels, replicates=20, llr=True)
    order = np.random.default_rng(0).permutation(labels.size)
    mixed = speaker_bootstrap(scores[:, order], enroll[order], test[order], labels[order], replicates=20, llr=True)
    swapped = speaker_bootstrap(scores, test, enroll, labels, replicates=20, llr=True)
    for other in (mixed, swapped):
        np.testing.assert_array_equal(other.draws, expected.draws)
        np.testing.assert_array_equal(other.observed, expected.observed)
    another = speaker_bootstrap(scores, enroll, test, labels, replicates=20, seed=1, llr=True)
    assert (another.draws != expected.draws).any()


def test_a_rising_map_leaves_every_draw():
    scores, enroll, test, labels = random_list(3)
    expected = speaker_bootstrap(scores, enroll, test, labels, replicates=20)
    mapped = speaker_bootstrap(np.arctan(scores), enroll, test, labels, replicates=20)
    np.testing.assert_array_equal(mapped.draws, expected.draws)


def test_intervals_are_percentiles_of_the_draws_and_json():
    scores, enroll, test, labels = random_list(4, trials=3000)
    boot = speaker_bootstrap(scores, enroll, test, labels, replicates=200, level=0.9, llr=True)
    result = json.loads(json.dumps(boot.intervals(1), allow_nan=False))
    assert result["resampled"] == "speakers" and result["speakers"] == 12
    assert (result["replicates"], result["level"], result["seed"], result["undefined"]) == (200, 0.9, 1234, 0)
    column = boot.draws[:, 1, boot.metrics.index("min_dcf 0.05")]
    low, high = result["min_dcf"][1]
    assert low < high and np.mean((column >= low) & (column <= high)) == pytest.approx(0.9, abs=0.01)
    assert (column < low).sum() == pytest.approx((column > high).sum(), abs=2)
    assert [bounds is None for bounds in result["fnr_at_fpr"]] == [False, True, True]
    assert len(result["act_dcf"]) == 2 and len(result["cllr"]) == 2


def test_without_likelihood_ratios_no_interval_is_given_for_their_costs():
    scores, enroll, test, labels = random_list(5)
    result = speaker_bootstrap(scores[0], enroll, test, labels, replicates=40).intervals()
    assert result["cllr"] is None and result["act_dcf"] is None


def test_a_draw_without_nontarget_trials_is_counted_and_left_out():
    # ten speakers are compared in five couples only: a draw may have no whole couple
    names = list("abcdefghij")
    enroll, test, labels = [*names, *names[::2]], [*names, *names[1::2]], np.arange(15) < 10
    boot = speaker_bootstrap(np.arange(15.0), enroll, test, labels, replicates=4000)
    counts = np.random.default_rng(1234).multinomial(10, np.full(10, 0.1), size=4000)
    assert boot.undefined == (counts[:, ::2] * counts[:, 1::2] == 0).all(axis=1).sum() > 0
    assert len(boot.draws) == 4000 - boot.undefined and np.isfinite(boot.draws).all()
    with pytest.raises(ValueError, match="none of 1 draws of 10 speakers"):
        for seed in range(200):
            speaker_bootstrap(np.arange(15.0), enroll, test, labels, replicates=1, seed=seed)


@pytest.mark.parametrize("targets", [1, 9])
def test_too_few_speakers_are_no_certainty(targets):
    # Two speakers gave intervals of no width:
    # of one kind of trials all draws are alike. Many impostors do not help.
    names = [f"s{k:02d}" for k in range(30)]
    enroll, test = [*names[:targets], *names], [*names[:targets], *names[1:], names[0]]
    scores, labels = np.arange(targets + 30.0), np.arange(targets + 30) < targets
    with pytest.raises(ValueError, match=f"^{targets} speakers have target and 30 nontarget trials.*needs 10"):
        speaker_bootstrap(scores, enroll, test, labels)


def test_draws_that_do_not_reach_the_bounds_of_an_interval_give_none():
    arguments = random_list(4)
    assert speaker_bootstrap(*arguments, replicates=40).intervals()["eer"]
    with pytest.raises(ValueError, match="39 usable replicates .* 95 % interval; take at least 40"):
        speaker_bootstrap(*arguments, replicates=39).intervals()
    assert speaker_bootstrap(*arguments, replicates=20, level=0.9).intervals()["eer"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": [True, True, False]}, "row 1 .*target trial of two speakers, b and c"),
        ({"test": ["a", "b", "c"]}, "row 1 .*nontarget trial of one speaker, b and b"),
        ({"test": ["a", "c"]}, "one value a trial, got shapes"),
        ({"scores": [[1.0, 0.0]]}, "one value a trial, got shapes"),
        ({"scores": [[1.0, np.nan, 0.0]]}, r"scores\[0\]: 1 of 3 scores are NaN .*first at index 1"),
        ({"enroll": ["b", "b", "b"], "labels": [False] * 3}, "0 speakers have target and 3 nontarget"),
        ({"scores": [], "enroll": [], "test": [], "labels": []}, r"scores\[0\] is empty"),
        ({"replicates": 0}, "replicates"),
        ({"level": 1.0}, "level"),
    ],
)
def test_unusable_input_is_refused_with_its_row(change, expected):
    good = {
        "scores": [1.0, 0.0, 0.5],
        "enroll": ["a", "b", "c"],
        "test": ["a", "c", "a"],
        "labels": [True, False, False],
    }
    arguments = good | {"replicates": 3, "level": 0.95} | change
    with pytest.raises(ValueError, match=expected):
        speaker_bootstrap(*arguments.values())


def test_progress_sees_every_replicate():
    seen = []
    scores, enroll, test, labels = random_list(6)
    speaker_bootstrap(
        scores, enroll, test, labels, replicates=7, progress=lambda draws: map(lambda d: seen.append(d) or d, draws)
    )
    assert len(seen) == 7


def test_memory_does_not_grow_with_replicates_times_trials():
    scores, enroll, test, labels = random_list(7, speakers=50, trials=20_000, systems=1)
    tracemalloc.start()
    speaker_bootstrap(scores, enroll, test, labels, replicates=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 400  # 100 weights a trial alone would be twice that


def speaker_lists(lists, speakers=25, utterances=5, dim=6, within=0.5):
    """Trial lists of a two-covariance model: speaker N(0, I),
    utterance + N(0, within^2 I), score -distance^2."""
    rng = np.random.default_rng(8)
    first, second = np.triu_indices(speakers * utterances, 1)
    who = np.repeat([f"s{k:02d}" for k in range(speakers)], utterances)
    for _ in range(lists):
        voices = rng.normal(size=(speakers, dim)).repeat(utterances, axis=0)
        voices += within * rng.normal(size=voices.shape)
        yield -((voices[first] - voices[second]) ** 2).sum(axis=1), who[first], who[second]


@pytest.mark.slow
def test_intervals_cover_the_population_and_resampling_trials_would_not():
    # The distance^2 of two utterances is 2 within^2 chi2
    # for one speaker and 2 (1 + within^2) chi2 for two.
    dim, within, lists = 6, 0.5, 40
    one, two = chi2(dim, scale=2 * within**2), chi2(dim, scale=2 * (1 + within**2))
    truth = one.sf(brentq(lambda threshold: one.sf(threshold) - two.cdf(threshold), 1e-3, 100))
    rng = np.random.default_rng(9)
    hits, widths, estimates, naive_hits, naive_widths = 0, [], [], 0, []
    for scores, enroll, test in speaker_lists(lists, dim=dim, within=within):
        labels = enroll == test
        boot = speaker_bootstrap(scores, enroll, test, labels, replicates=100)
        low, high = boot.intervals()["eer"]
        hits += low <= truth <= high
        widths.append(high - low)
        estimates.append(boot.observed[0, 0])
        target, nontarget = scores[labels], scores[~labels]
        trials = [eer(rng.choice(target, target.size), rng.choice(nontarget, nontarget.size))[0] for _ in range(40)]
        low, high = np.quantile(trials, [0.025, 0.975])
        naive_hits += low <= truth <= high
        naive_widths.append(high - low)
    assert 0.85 * lists <= hits
    # 95 % of normal estimates lie within 2 x 1.96 standard deviations;
    # 40 lists know theirs to a tenth
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(estimates), rel=0.3)
    assert naive_hits <= 0.75 * lists
    assert np.mean(naive_widths) < 0.65 * np.mean(widths)
