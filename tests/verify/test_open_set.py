"""FPIR, FNIR, thresholds and the check of a gallery against what their definitions say, written out as loops."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from alpha_sv.verify.gallery_check import Voices, check_voices, own_threshold, strangers
from alpha_sv.verify.open_set import (
    MIN_MARGIN,
    Candidate,
    clopper_pearson,
    decide,
    open_set_rates,
    supported_threshold,
)


@pytest.mark.parametrize("seed", range(20))
def test_fpir_and_fnir_are_nists(seed):
    rng = np.random.default_rng(seed)
    searches, people = rng.integers(1, 30), rng.integers(1, 8)
    scores = rng.integers(-3, 4, (searches, people)) / 3  # with ties
    mates = rng.integers(-1, people, searches)
    for threshold in (-2, 0.0, 1 / 3, 2):
        for rank in (1, 2):
            false_positives = false_negatives = 0
            for row, mate in zip(scores, mates, strict=True):
                if mate < 0:
                    false_positives += any(score >= threshold for score in row)
                else:
                    place = 1 + sum(row[j] >= row[mate] for j in range(people) if j != mate)
                    false_negatives += not (row[mate] >= threshold and place <= rank)
            found = open_set_rates(scores, mates, threshold, rank)
            assert (found.false_positives, found.false_negatives) == (false_positives, false_negatives)
            assert found.stranger_searches == (mates < 0).sum() and found.mate_searches == (mates >= 0).sum()
            assert found.fpir is None if not (mates < 0).any() else found.fpir == false_positives / (mates < 0).sum()


def test_open_set_rates_refuses_what_it_cannot_count():
    for scores, mates, rank in (([[np.nan]], [0], 1), ([[1.0]], [1], 1), ([[1.0]], [-2], 1), ([[1.0]], [0], 0)):
        with pytest.raises(ValueError):
            open_set_rates(scores, mates, 0.0, rank)


@pytest.mark.parametrize("trials", [1, 7, 40])
@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_clopper_pearson_covers_the_truth_at_least_as_often_as_it_says(trials, rate):
    covered = sum(
        binom.pmf(errors, trials, rate)
        for errors in range(trials + 1)
        if clopper_pearson(errors, trials)[0] <= rate <= clopper_pearson(errors, trials)[1]
    )
    assert covered >= 0.95


@pytest.mark.parametrize("seed", range(10))
def test_a_supported_threshold_is_the_lowest_whose_bound_holds(seed):
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(80), rng.integers(1, 4, 80))
    tops = rng.normal(size=len(people)).round(1)  # with ties
    threshold, missing = supported_threshold(tops, people, 0.1)
    assert missing == 0

    def bound(at):
        errors = sum(np.mean(tops[people == person] >= at) for person in range(80))
        return clopper_pearson(errors, 80, level=0.9)[1]  # its upper end is one-sided 95 %

    assert bound(threshold) <= 0.1 + 1e-9
    below = tops[tops < threshold]
    assert bound(below.max()) > 0.1


@pytest.mark.parametrize("fpir", [0.5, 0.1, 0.05, 0.01])
def test_how_many_more_people_would_do_is_exact(fpir):
    def works(count):
        return supported_threshold(np.zeros(count), np.arange(count), fpir)[0] is not None

    missing = supported_threshold(np.zeros(1), np.zeros(1), fpir)[1]
    assert works(1 + missing) and not works(missing)
    assert (1 - fpir) ** (1 + missing) <= 0.05 < (1 - fpir) ** missing


def test_the_verdict_needs_the_threshold_and_a_lead_of_ln_19():
    def verdict(best, second, threshold=0.5, slope=10.0):
        return decide([Candidate("a", best, None), Candidate("b", second, None)], threshold, "b", slope).verdict

    step = MIN_MARGIN / 10
    assert verdict(0.5, 0.5 - step - 1e-9) == "known" and verdict(0.49, -1) == "unknown"
    assert verdict(0.9, 0.9 - step + 1e-9) == "too close"
    assert verdict(0.9, 0.49, slope=None) == "known" and verdict(0.9, 0.5, slope=None) == "too close"
    assert math.exp(MIN_MARGIN) / (1 + math.exp(MIN_MARGIN)) == pytest.approx(0.95)
    alone = decide([Candidate("a", 0.6, None)], 0.5, "b", 10.0)
    assert (alone.verdict, alone.name, alone.margin) == ("known", "a", None)
    nothing = decide([Candidate("a", 1.0, None)], None, "nobody measured", 10.0)
    assert (nothing.verdict, nothing.name, nothing.reason) == ("unknown", None, "nobody measured")
    assert decide([], 0.5, "b", None).verdict == "unknown"


def world(people, samples, spread, seed=0, dim=16):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dim))
    names = [f"p{i}" for i in range(people) for _ in range(samples)]
    vectors = np.repeat(centres, samples, axis=0) + spread * rng.normal(size=(people * samples, dim))
    return names, [f"f{i}" for i in range(len(names))], vectors


def cos(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize(("people", "samples", "spread"), [(5, 3, 0.7), (8, 1, 0.7), (1, 3, 0.5), (30, 4, 1.5)])
def test_check_is_every_sample_left_out_in_turn(people, samples, spread):
    names, files, vectors = world(people, samples, spread)
    cohort = np.random.default_rng(9).normal(size=(7, 16))
    found = check_voices(Voices.of(names, files, vectors), 0.6, "given", cohort)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    false_positives = searches = missed = mates = 0
    confused, misfits = {}, set()
    for i, name in enumerate(names):
        others = {n: sum(u for u, m in zip(units, names, strict=True) if m == n) for n in set(names) - {name}}
        rest = [u for j, (u, m) in enumerate(zip(units, names, strict=True)) if m == name and j != i]
        best = max(others, key=lambda n: cos(units[i], others[n])) if others else None
        top = cos(units[i], others[best]) if others else -np.inf
        own = cos(units[i], sum(rest)) if rest else np.nan
        searches += bool(others)
        false_positives += top >= 0.6
        if rest:
            mates += 1
            missed += not (own >= 0.6 and own > top)
        if others and (top >= own or top >= 0.6):
            pair = tuple(sorted((name, best)))
            confused[pair] = confused.get(pair, 0) + 1
        if top >= own:
            misfits.add(files[i])
    for vector in cohort:
        searches += 1
        false_positives += any(cos(vector, sum(units[np.array(names) == n])) >= 0.6 for n in set(names))
    assert found.rates == {"fpir": (false_positives, searches), "fnir": (missed, mates)}
    assert {(tuple(sorted((pair.first, pair.second))), pair.confused) for pair in found.overlaps} == set(
        confused.items()
    )
    assert misfits <= {misfit.file for misfit in found.misfits}
    assert found.single == (tuple(sorted(set(names))) if samples == 1 else ())
    low, high = found.intervals["fpir"]
    assert low <= false_positives / searches <= high or people == 1
    assert str(found).count("\n") >= 2


def test_a_sample_of_somebody_else_does_not_fit_and_its_pair_overlaps():
    names, files, vectors = world(12, 4, 0.3)
    vectors[5] = vectors[0]  # a recording of p0 under p1
    found = check_voices(Voices.of(names, files, vectors), None, "none")
    assert [misfit.file for misfit in found.misfits] == ["f5"] and found.misfits[0].nearest == "p0"
    assert [(pair.first, pair.second) for pair in found.overlaps] == [("p0", "p1")]


def test_no_threshold_where_the_people_do_not_support_one():
    names, files, vectors = world(20, 5, 0.3)
    voices = Voices.of(names, files, vectors)
    threshold, needs = own_threshold(voices)
    assert threshold is None and "39 more" in needs  # 59 people for 5 %; samples of one person do not count twice
    assert check_voices(voices, None, "no calibrator").intervals == {"fpir": None, "fnir": None}
    cohort = np.random.default_rng(3).normal(size=(39, 16))
    threshold, needs = own_threshold(voices, cohort)
    assert needs == "" and threshold > strangers(voices, cohort)[0].max()
    found = check_voices(voices, None, "no calibrator", cohort)
    assert found.threshold == found.own_threshold == threshold and found.rates["fpir"][0] == 0
    with pytest.raises(ValueError, match="16"):
        check_voices(voices, None, "", np.ones((3, 4)))


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_or_one_person_is_no_error(people):
    voices = Voices.of(*world(people, 2, 0.1))
    assert "no threshold" in str(check_voices(voices, None, "none was measured"))
