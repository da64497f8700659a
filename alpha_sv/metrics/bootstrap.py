"""Confidence intervals that resample speakers: the trials of one speaker are not independent.

A list of 550,000 trials has about a thousand speakers; one that is hard to tell from others spoils
thousands of trials together. Resampling trials pretends to 550,000 independent observations and
gives intervals several times too narrow. The bootstrap draws speakers instead, with replacement, as
many as there are.

What a draw does to the trials
------------------------------
Let speaker s be drawn w_s times (w is multinomial, of mean 1). A speaker drawn twice is two
persons who happen to sound alike: person k of s enrols and tests with the utterances of s.

* A target trial of s is one trial of each of the w_s persons: its weight is w_s. (Between two
  copies of s there is no target trial: they are two persons.)
* A nontarget trial of i against j happens between each of the w_i persons and each of the w_j:
  weight w_i w_j. (Two copies of s would make nontarget trials too; there is no score for these, so
  they are left out.)

Only weights change, so the trials are sorted once (`RankedTrials`) and each replicate costs one
pass.

References
----------
Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics",
Connections 22 (1999): the bootstrap of the vertices of a graph.

Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13: percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alpha_sv.metrics.checks import as_array, checked_labels, checked_scores, checked_speakers
from alpha_sv.metrics.cllr import llr_costs, mean_cost
from alpha_sv.metrics.dcf import P_TARGETS, act_dcf_of, bayes_threshold, min_dcf_of
from alpha_sv.metrics.det import DetCurve, RankedTrials, rank_trials
from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS, eer_of, fpr_vertex
from alpha_sv.metrics.hull import convex_hull, min_cllr_of
from alpha_sv.metrics.intervals import SpeakerBootstrap, few_speakers
from alpha_sv.metrics.names import METRICS


def speaker_bootstrap(
    scores: np.ndarray,
    enroll_speakers: np.ndarray,
    test_speakers: np.ndarray,
    labels: np.ndarray,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 1234,
    llr: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> SpeakerBootstrap:
    """Resample the speakers of a trial list that one system or several have scored.

    Parameters
    ----------
    scores : array [S, N] or [N]
        One row for each system, one column for each trial; higher for "same speaker".
    enroll_speakers, test_speakers : array of str or int [N]
        Who speaks on the two sides of each trial.
    labels : array [N]
        True for a target trial, or as `alpha_sv.metrics.checks.checked_labels`.
    replicates : int
        Draws of speakers; 1,000 fix the bounds of a 95 % interval to a few per cent of its width.
    level : float
        Coverage of the intervals, in (0, 1).
    seed : int
        The draws depend on it and on the set of speakers only, never on the order of the trials.
    llr : bool
        The scores are natural-log likelihood ratios (nats), so that cllr and actDCF have a meaning.
    progress : callable
        Wraps the loop over replicates, such as ``tqdm``.

    Raises
    ------
    ValueError
        Arrays of different lengths; a target trial between two speakers or a nontarget trial of one
        (with its row); fewer than 10 speakers with target or with nontarget trials; replicates or
        level out of range; all replicates undefined; scores as `det_curve`.

    Example
    -------
    >>> speakers = np.repeat(list("abcdefghij"), 3)
    >>> rng = np.random.default_rng(0)
    >>> voices = rng.normal(size=(10, 8)).repeat(3, axis=0) + rng.normal(size=(30, 8))
    >>> i, j = np.triu_indices(30, 1)
    >>> scores = -((voices[i] - voices[j]) ** 2).sum(axis=1)
    >>> boot = speaker_bootstrap(
    ...     scores, speakers[i], speakers[j], speakers[i] == speakers[j], replicates=100
    ... )
    >>> low, high = boot.intervals()["eer"]
    >>> bool(low <= boot.observed[0, 0] <= high), boot.intervals()["fnr_at_fpr"]
    (True, [None, None, None])
    """
    rows = _rows(scores)
    labels = checked_labels(labels)
    if replicates < 1 or not 0 < level < 1:
        raise ValueError(f"replicates must be at least 1 and level in (0, 1), got {replicates} and {level}")
    names, left, right = _speakers(enroll_speakers, test_speakers, labels, trials=rows[0].size)
    if few := few_speakers(left, right, labels):
        raise ValueError(f"{few}; give a list of more speakers")
    # In this order no sum depends on the order of the file, not even its rounding. The two sides of
    # a trial weigh alike; a target trial has a second side of the constant weight 1.
    left, right = np.minimum(left, right), np.where(labels, np.int32(names.size), np.maximum(left, right))
    order = np.argsort(left * np.int64(names.size + 1) + right)
    for row in rows:  # the last key counts most
        order = order[np.argsort(row[order], kind="stable")]
    sides = [order[labels[order] == side] for side in (True, False)]  # target, nontarget
    del order
    pairs = [(left[side].astype(np.intp), right[side].astype(np.intp)) for side in sides]
    systems = [_prepared(*(row[side] for side in sides), llr) for row in rows]
    del rows, labels, left, right, sides  # millions of trials would stand in memory twice

    rng = np.random.default_rng(seed)
    counts = rng.multinomial(names.size, np.full(names.size, 1 / names.size), size=replicates)
    draws = []
    for count in progress(counts):
        weight = np.append(count, 1).astype(np.float64)
        weights = [weight[a] * weight[b] for a, b in pairs]
        if all(side.any() for side in weights):
            draws.append([system.measure(weights) for system in systems])
    if not draws:
        raise ValueError(
            f"none of {replicates} draws of {names.size} speakers has target and nontarget trials; take more replicates"
        )
    return SpeakerBootstrap(
        metrics=systems[0].keys,
        observed=np.array([system.measure([np.ones(side.size) for side, _ in pairs]) for system in systems]),
        draws=np.array(draws),
        supported=np.array([system.supported for system in systems]),
        speakers=names.size,
        replicates=replicates,
        undefined=replicates - len(draws),
        level=level,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class _System:
    """The sorted trials of one system, and what is measured on each curve of theirs."""

    ranked: RankedTrials
    keys: tuple[str, ...]  # of alpha_sv.metrics.names
    supported: list[bool]
    costs: tuple[np.ndarray, np.ndarray] | None  # of each trial, in bits, if the scores are LLRs

    def measure(self, weights: Sequence[np.ndarray]) -> list[float]:
        curve = self.ranked.curve(*weights)
        return [
            mean_cost(self.costs, weights) if key == "cllr" else _READ[METRICS[key].field](curve, METRICS[key].point)
            for key in self.keys
        ]


_READ: dict[str, Callable[[DetCurve, float | None], float]] = {
    "eer": lambda curve, _: eer_of(curve)[0],
    "min_dcf": lambda curve, p_target: min_dcf_of(curve, p_target)[0],
    "fnr_at_fpr": lambda curve, fpr: float(curve.p_miss[fpr_vertex(curve, fpr)]),
    "min_cllr": lambda curve, _: min_cllr_of(convex_hull(curve)),
    "act_dcf": lambda curve, p_target: act_dcf_of(curve, p_target)[0],
}


def _prepared(target: np.ndarray, nontarget: np.ndarray, llr: bool) -> _System:
    keys = tuple(key for key, metric in METRICS.items() if llr or not metric.llr)
    ranked = rank_trials(target, nontarget)
    curve = ranked.curve()
    few = {
        key
        for key in keys
        if METRICS[key].field == "fnr_at_fpr"
        and curve.false_accepts[fpr_vertex(curve, METRICS[key].point)] < MIN_FALSE_ACCEPTS
    }
    return _System(
        ranked=ranked.merged(keep=[bayes_threshold(p) for p in P_TARGETS] if llr else []),
        keys=keys,
        supported=[key not in few for key in keys],
        costs=llr_costs(target, nontarget) if llr else None,
    )


def _rows(scores: np.ndarray) -> list[np.ndarray]:
    """The scores of each system, all of one length."""
    scores = scores if isinstance(scores, (list, tuple)) else as_array("scores", scores)
    systems = scores if len(scores) and np.ndim(scores[0]) else [scores]
    rows = [checked_scores(f"scores[{k}]", row) for k, row in enumerate(systems)]
    if len({row.size for row in rows}) > 1:
        raise ValueError(f"the systems must have scored the same trials, got {[row.size for row in rows]} scores")
    return rows


def _speakers(
    enroll_speakers: np.ndarray, test_speakers: np.ndarray, labels: np.ndarray, trials: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of the speakers, and which of them are on either side; checked against the labels."""
    shapes = {"scores": (trials,), "labels": labels.shape}
    shapes |= {"enroll_speakers": np.shape(enroll_speakers), "test_speakers": np.shape(test_speakers)}
    if set(shapes.values()) != {(trials,)}:
        raise ValueError(f"scores, speakers and labels need one value a trial, got shapes {shapes}")
    names, left, right = checked_speakers(enroll_speakers, test_speakers, trials)
    wrong = (left == right) != labels
    if wrong.any():
        row = int(np.argmax(wrong))
        kind, relation = ("target", "two speakers") if labels[row] else ("nontarget", "one speaker")
        raise ValueError(
            f"row {row} (counted from 0) is a {kind} trial of {relation}, {names[left[row]]} and {names[right[row]]} "
            f"({wrong.sum()} such rows); correct the label or the speaker of an utterance"
        )
    return names, left, right
