"""FPIR, FNIR, thresholds and the check of a gallery
against what their definitions say, written out as loops."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from alpha_sv.scoring.calibrator import Calibrator, Quality
from alpha_sv.verify.evidence import Sounds
from alpha_sv.verify.gallery_check import Voices, check_voices, own_threshold, strangers
from alpha_sv.verify.open_set import (
    MIN_MARGIN,
    Candidate,
    Threshold,
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
        margin = None if slope is None else slope * (best - second)
        two = [Candidate("a", best, None), Candidate("b", second, None)]
        return decide(two, Threshold(threshold, "cosine", "b"), margin).verdict

    step = MIN_MARGIN / 10
    assert verdict(0.5, 0.5 - step - 1e-9) == "known" and verdict(0.49, -1) == "unknown"
    assert verdict(0.9, 0.9 - step + 1e-9) == "too close"
    assert verdict(0.9, 0.49, slope=None) == "known" and verdict(0.9, 0.5, slope=None) == "too close"
    assert math.exp(MIN_MARGIN) / (1 + math.exp(MIN_MARGIN)) == pytest.approx(0.95)
    alone = decide([Candidate("a", 0.6, None)], Threshold(0.5, "cosine", "b"))
    assert (alone.verdict, alone.name, alone.margin) == ("known", "a", None)
    assert decide([Candidate("a", 0.6, 4.9)], Threshold(5.0, "nats", "b")).verdict == "unknown"
    nothing = decide([Candidate("a", 1.0, None)], Threshold(None, "cosine", "nobody measured"))
    assert (nothing.verdict, nothing.name, nothing.reason) == ("unknown", None, "nobody measured")
    assert decide([], Threshold(0.5, "cosine", "b")).verdict == "unknown"


NONE = Threshold(None, "cosine", "none was measured")
LINE = Calibrator(20.0, -9.0, (Quality("log_duration_min", 0.5, 0.4, 0.7), Quality("log_duration_max", 1.0, 0.5, -1.1)))


def world(people, samples, spread, seed=0, dim=16):
    """Names (not sorted), files, embeddings and lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dim))
    names = [f"p{i}" for i in range(people) for _ in range(samples)]
    vectors = np.repeat(centres, samples, axis=0) + spread * rng.normal(size=(people * samples, dim))
    return names, [f"f{i}" for i in range(len(names))], vectors, rng.uniform(1, 9, len(names))


def value(a, b, seconds_a, seconds_b, line):
    score = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    if line is None:
        return score
    low, high = np.log(min(seconds_a, seconds_b)), np.log(max(seconds_a, seconds_b))
    return -9 + 20 * score + 0.7 * (low - 0.5) / 0.4 - 1.1 * (high - 1.0) / 0.5


@pytest.mark.parametrize(("line", "threshold"), [(None, 0.6), (LINE, 2.5)])
@pytest.mark.parametrize(("people", "samples", "spread"), [(5, 3, 0.7), (8, 1, 0.7), (1, 3, 0.5), (12, 4, 1.5)])
def test_check_is_every_sample_left_out_in_turn(people, samples, spread, line, threshold):
    names, files, vectors, seconds = world(people, samples, spread)
    mixed = np.random.default_rng(1).permutation(len(names))  # the order in which they come does not matter
    names, files = [names[i] for i in mixed], [files[i] for i in mixed]
    vectors, seconds = vectors[mixed], seconds[mixed]
    cohort, lengths = np.random.default_rng(9).normal(size=(7, 16)), np.linspace(1, 5, 7)
    unit = "cosine" if line is None else "nats"
    voices = Voices.of(names, files, vectors, seconds)
    found = check_voices(voices, Threshold(threshold, unit, "given"), Sounds.of(cohort, lengths), line)

    def mean(vector, length, name, without=None):
        rows = [j for j, m in enumerate(names) if m == name and j != without]
        return np.mean([value(vector, vectors[j], length, seconds[j], line) for j in rows]) if rows else np.nan

    false_positives = searches = missed = mates = 0
    confused, misfits = {}, set()
    for i, name in enumerate(names):
        others = {n: mean(vectors[i], seconds[i], n) for n in set(names) - {name}}
        best, top = max(others.items(), key=lambda item: item[1]) if others else (None, -np.inf)
        own = mean(vectors[i], seconds[i], name, without=i)
        searches += bool(others)
        false_positives += top >= threshold
        if not np.isnan(own):
            mates += 1
            missed += not (own >= threshold and own > top)
        if others and (top >= own or top >= threshold):
            pair = tuple(sorted((name, best)))
            confused[pair] = confused.get(pair, 0) + 1
        if top >= own:
            misfits.add(files[i])
    for vector, length in zip(cohort, lengths, strict=True):
        searches += 1
        false_positives += max(mean(vector, length, n) for n in set(names)) >= threshold
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
    names, files, vectors, seconds = world(12, 4, 0.3)
    vectors[5] = vectors[0]  # a recording of p0 under p1
    found = check_voices(Voices.of(names, files, vectors, seconds), NONE)
    assert [misfit.file for misfit in found.misfits] == ["f5"] and found.misfits[0].nearest == "p0"
    assert [(pair.first, pair.second) for pair in found.overlaps] == [("p0", "p1")]


def test_no_threshold_where_the_people_do_not_support_one():
    names, files, vectors, seconds = world(20, 5, 0.3)
    voices = Voices.of(names, files, vectors, seconds)
    threshold, needs = own_threshold(voices)
    assert threshold is None and "39 more" in needs  # 59 people for 5 %; samples of one person do not count twice
    assert check_voices(voices, NONE).intervals == {"fpir": None, "fnir": None}
    cohort = Sounds.of(np.random.default_rng(3).normal(size=(39, 16)), np.ones(39))
    threshold, needs = own_threshold(voices, cohort)
    assert needs == "" and threshold > strangers(voices, cohort)[0].max()
    found = check_voices(voices, NONE, cohort)
    assert found.threshold == found.own_threshold == threshold and found.rates["fpir"][0] == 0
    with pytest.raises(ValueError, match="16"):
        check_voices(voices, NONE, Sounds.of(np.ones((3, 4)), np.ones(3)))
    with pytest.raises(ValueError, match="cosine"):
        check_voices(voices, Threshold(1.0, "nats", ""))


@pytest.mark.parametrize("people", [0, 1])
def test_nobody_or_one_person_is_no_error(people):
    voices = Voices.of(*world(people, 2, 0.1))
    assert "no threshold" in str(check_voices(voices, NONE))


def test_more_recordings_do_not_let_more_strangers_through():
    """The mean over pairs has the expectation of one pair
    and no more spread; the cosine with a mean has not."""
    rng = np.random.default_rng(0)
    common = 0.7 * rng.normal(size=16)  # so that strangers' cosines are not 0 on average
    passed = {}
    for takes in (1, 8):
        names, files, vectors, seconds = world(200, takes, 1.0, seed=1)
        voices = Voices.of(names, files, vectors + common, seconds)
        strangers_ = Sounds.of(rng.normal(size=(200, 16)) * np.sqrt(2) + common, np.ones(200))
        scores = voices.sums(voices.evidence(strangers_, None)) / voices.counts
        passed[takes] = scores.mean(), scores.std()
    assert passed[8][0] == pytest.approx(passed[1][0], abs=0.02)
    assert passed[8][1] < passed[1][1]
