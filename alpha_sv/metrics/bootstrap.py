"""Confidence intervals that resample speakers, because the trials of one speaker are not independent.

A list of 550,000 trials has about a thousand speakers; one that is hard to tell from others spoils thousands of
trials together. Resampling trials pretends to 550,000 independent observations and gives intervals several
times too narrow. The bootstrap draws speakers instead, with replacement, as many as there are.

What a draw does to the trials
------------------------------
Let speaker s be drawn w_s times (w is multinomial, of mean 1). A speaker drawn twice is two persons who happen to
sound alike: person k of s enrols and tests with the utterances of s.

* A target trial of s is one trial of each of the w_s persons: its weight is w_s. (Between two copies of s there
  is no target trial: they are two persons.)
* A nontarget trial of i against j happens between each of the w_i persons and each of the w_j: weight w_i w_j.
  (Two copies of s would make nontarget trials too; there is no score for these, so they are left out.)

Only weights change, so the trials are sorted once (`RankedTrials`) and each replicate costs one pass.

References
----------
Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics", Connections 22 (1999): the
bootstrap of the vertices of a graph. Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13:
percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alpha_sv.metrics.calibration import llr_costs, mean_cost
from alpha_sv.metrics.dcf import P_TARGETS, act_dcf_of, bayes_threshold, min_dcf_of
from alpha_sv.metrics.det import DetCurve, RankedTrials, checked_scores, rank_trials
from alpha_sv.metrics.errors import FPRS, MIN_FALSE_ACCEPTS, eer_of, fpr_vertex
from alpha_sv.metrics.hull import convex_hull, min_cllr_of
from alpha_sv.metrics.intervals import SpeakerBootstrap, dcf_name, fnr_name, too_few_speakers


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
    """Resample the speakers of a trial list, for one system or for several that scored the same trials.

    Parameters
    ----------
    scores : array [S, N] or [N]
        One row a system, one column a trial; higher for "same speaker".
    enroll_speakers, test_speakers : array of str [N]
        Who speaks on the two sides of each trial.
    labels : array of bool [N]
        True for a target trial.
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
        Arrays of different lengths; a target trial between two speakers or a nontarget trial of one (with its
        row); fewer than 10 speakers with target or with nontarget trials; replicates or level out of range; all
        replicates undefined; scores as `det_curve`.

    Example
    -------
    >>> speakers = np.repeat(list("abcdefghij"), 3)
    >>> rng = np.random.default_rng(0)
    >>> voices = rng.normal(size=(10, 8)).repeat(3, axis=0) + rng.normal(size=(30, 8))
    >>> i, j = np.triu_indices(30, 1)
    >>> scores = -((voices[i] - voices[j]) ** 2).sum(axis=1)
    >>> boot = speaker_bootstrap(scores, speakers[i], speakers[j], speakers[i] == speakers[j], replicates=100)
    >>> low, high = boot.intervals()["eer"]
    >>> bool(low <= boot.observed[0, 0] <= high), boot.intervals()["fnr_at_fpr"]
    (True, [None, None, None])
    """
    scores = np.stack([checked_scores(f"scores[{k}]", row) for k, row in enumerate(np.atleast_2d(scores))])
    labels = np.asarray(labels, dtype=bool)
    if replicates < 1 or not 0 < level < 1:
        raise ValueError(f"replicates must be at least 1 and level in (0, 1), got {replicates} and {level}")
    names, left, right = _speakers(scores, enroll_speakers, test_speakers, labels)
    if few := too_few_speakers(left, right, labels):
        raise ValueError(f"{few}; give a list of more speakers")
    # In this order no sum depends on the order of the file, not even its rounding. The two sides of a trial
    # weigh alike; a target trial has a second side of the constant weight 1.
    left, right = np.minimum(left, right), np.where(labels, names.size, np.maximum(left, right))
    order = np.lexsort([right, left, *scores, labels])
    nontarget, target = np.split(order, [order.size - labels.sum()])
    pairs = [(left[side], right[side]) for side in (target, nontarget)]
    systems = [_prepared(row[target], row[nontarget], llr) for row in scores]

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
        metrics=tuple(systems[0].metrics) + (("cllr",) if llr else ()),
        observed=np.array([system.measure([np.ones(side.size) for side in (target, nontarget)]) for system in systems]),
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
    """The sorted trials of one system, and what to measure on a curve of theirs."""

    ranked: RankedTrials
    metrics: dict[str, Callable[[DetCurve], float]]
    supported: list[bool]
    costs: tuple[np.ndarray, np.ndarray] | None  # of each trial, in bits, if the scores are LLRs

    def measure(self, weights: Sequence[np.ndarray]) -> list[float]:
        curve = self.ranked.curve(*weights)
        values = [metric(curve) for metric in self.metrics.values()]
        return values if self.costs is None else [*values, mean_cost(self.costs, weights)]


def _prepared(target: np.ndarray, nontarget: np.ndarray, llr: bool) -> _System:
    metrics = {"eer": lambda curve: eer_of(curve)[0]}
    metrics |= {dcf_name("min", p): lambda curve, p=p: min_dcf_of(curve, p)[0] for p in P_TARGETS}
    metrics |= {fnr_name(f): lambda curve, f=f: float(curve.p_miss[fpr_vertex(curve, f)]) for f in FPRS}
    metrics["min_cllr"] = lambda curve: min_cllr_of(convex_hull(curve))
    if llr:
        metrics |= {dcf_name("act", p): lambda curve, p=p: act_dcf_of(curve, p)[0] for p in P_TARGETS}
    ranked = rank_trials(target, nontarget)
    curve = ranked.curve()
    few = {fnr_name(f) for f in FPRS if curve.false_accepts[fpr_vertex(curve, f)] < MIN_FALSE_ACCEPTS}
    return _System(
        ranked=ranked.merged(keep=[bayes_threshold(p) for p in P_TARGETS] if llr else []),
        metrics=metrics,
        supported=[name not in few for name in metrics] + [True] * llr,
        costs=llr_costs(target, nontarget) if llr else None,
    )


def _speakers(
    scores: np.ndarray, enroll_speakers: np.ndarray, test_speakers: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted names of the speakers, and the index of each side of each trial, checked against the labels."""
    sides = [np.asarray(side, dtype=str) for side in (enroll_speakers, test_speakers)]
    shapes = {"scores": scores.shape[1:], "labels": labels.shape}
    shapes |= {"enroll_speakers": sides[0].shape, "test_speakers": sides[1].shape}
    if set(shapes.values()) != {(labels.size,)}:
        raise ValueError(f"scores, speakers and labels need one value a trial, got shapes {shapes}")
    names, index = np.unique(np.concatenate(sides), return_inverse=True)
    left, right = np.split(index, 2)
    if (wrong := np.flatnonzero((left == right) != labels)).size:
        row = wrong[0]
        kind, relation = ("target", "two speakers") if labels[row] else ("nontarget", "one speaker")
        raise ValueError(
            f"row {row} (counted from 0) is a {kind} trial of {relation}, {sides[0][row]} and {sides[1][row]} "
            f"({wrong.size} such rows); correct the label or the speaker of an utterance"
        )
    return names, left, right
