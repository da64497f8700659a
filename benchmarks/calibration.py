"""What calibrators fitted to 10 to 100 speakers are worth
on speakers they have not heard: prints a Markdown table.

    python benchmarks/calibration.py [--lists 200] [--seed 0]

Each development list has its own speakers, number of trials, distance of the classes and spread
of the target scores; part of the variance is a speaker's own, so its trials are not
independent. Scores of both classes are normal, so the ideal log-likelihood ratios are known.
Fresh scores are of 400 other speakers.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.pipeline.calibrate import fit_calibrator

GROUPS = ((10, 20), (20, 50), (50, 100))
FRESH_SPEAKERS, FRESH_NONTARGETS = 400, 40_000


@dataclass(frozen=True)
class Population:
    """Nontarget scores are N(0, 1), target scores N(distance,
    spread ** 2); `own` is the variance due to speakers."""

    distance: float
    spread: float
    own: float

    def trials(self, rng: np.random.Generator, speakers: int, takes: int, nontargets: int) -> tuple[np.ndarray, ...]:
        """Scores, labels and the speakers of both sides:
        all target trials of `takes` utterances per speaker."""
        first, second = np.triu_indices(takes, 1)
        same = np.repeat(np.arange(speakers), len(first))
        enroll = np.concatenate([same, rng.integers(speakers, size=nontargets)])
        other = (enroll[len(same) :] + rng.integers(1, speakers, size=nontargets)) % speakers
        test = np.concatenate([same, other])
        labels, level = enroll == test, rng.normal(size=(2, speakers))
        noise = np.sqrt(1 - self.own) * rng.normal(size=len(labels))
        target = self.distance + self.spread * (noise + np.sqrt(self.own) * level[0, enroll])
        nontarget = noise + np.sqrt(self.own / 2) * (level[1, enroll] + level[1, test])
        return np.where(labels, target, nontarget), labels, enroll, test

    def llrs(self, scores: np.ndarray) -> np.ndarray:
        """The ideal log-likelihood ratios, in nats."""
        return scores**2 / 2 - ((scores - self.distance) / self.spread) ** 2 / 2 - np.log(self.spread)


def cllr(llrs: np.ndarray, labels: np.ndarray) -> float:
    return float((np.logaddexp(0, -llrs[labels]).mean() + np.logaddexp(0, llrs[~labels]).mean()) / (2 * np.log(2)))


def plain_llrs(scores: np.ndarray, labels: np.ndarray, fresh: np.ndarray, p_target: float = 0.01) -> np.ndarray:
    """Logistic regression and nothing else."""
    design = np.stack([(scores - scores.mean()) / scores.std(), np.ones(len(scores))], axis=1)
    weight = np.where(labels, p_target / labels.sum(), (1 - p_target) / (~labels).sum())
    sign, logit = np.where(labels, 1.0, -1.0), np.log(p_target / (1 - p_target))

    def cost(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (design @ theta + logit)
        ridge = 1e-10 * np.array([theta[0], 0.0])
        value = weight @ np.logaddexp(0, -margin) + ridge @ theta / 2
        return value, ridge - design.T @ (weight * sign * expit(-margin))

    slope, offset = minimize(cost, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return slope * (fresh - scores.mean()) / scores.std() + offset


def one_list(rng: np.random.Generator) -> dict:
    """One development list: what its calibrator promises, and what it is worth."""
    low, high = GROUPS[rng.integers(len(GROUPS))]
    speakers, takes = int(rng.integers(low, high + 1)), int(rng.integers(2, 5))
    population = Population(rng.uniform(1.5, 8), rng.uniform(0.7, 1.5), rng.uniform(0, 0.4))
    scores, labels, *sides = population.trials(rng, speakers, takes, int(speakers * rng.integers(10, 60)))
    fresh, fresh_labels, *_ = population.trials(rng, FRESH_SPEAKERS, 4, FRESH_NONTARGETS)
    names = tuple(side.astype(str) for side in sides)
    calibrator, unheard = fit_calibrator(ScoreTable(*names, scores, labels), names)
    return {
        "speakers": speakers,
        "separable": calibrator.support["separable"],
        "unheard": unheard["cllr"],
        "fresh": cllr(calibrator.llrs(fresh), fresh_labels),
        "plain": cllr(plain_llrs(scores, labels, fresh), fresh_labels),
        "ideal": cllr(population.llrs(fresh), fresh_labels),
    }


def simulate(lists: int, seed: int = 0) -> list[dict]:
    return [one_list(rng) for rng in np.random.default_rng(seed).spawn(lists)]


def table(found: list[dict]) -> str:
    """A row for each group of lists."""
    rows = [
        "| development list | lists | worst Cllr, plain | worst Cllr | excess, plain | excess | unheard - fresh |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    groups = [
        (f"{low} to {high} speakers", lambda r, a=low, b=high: a <= r["speakers"] < b + (b == 100))
        for low, high in GROUPS
    ]
    for name, belongs in [*groups, ("separable", lambda r: r["separable"]), ("all", lambda r: True)]:
        some = [row for row in found if belongs(row)]
        if not some:
            continue
        column = {key: np.array([row[key] for row in some]) for key in ("fresh", "plain", "ideal", "unheard")}
        low, middle, high = np.quantile(column["unheard"] - column["fresh"], [0.05, 0.5, 0.95])
        excess = {key: np.median(column[key] - column["ideal"]) for key in ("plain", "fresh")}
        rows.append(
            f"| {name} | {len(some)} | {column['plain'].max():.2f} | {column['fresh'].max():.2f} "
            f"| {excess['plain']:.3f} | {excess['fresh']:.3f} | {middle:+.3f} [{low:+.3f}, {high:+.3f}] |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--lists", type=int, default=200, help="development lists to simulate")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print(table(simulate(arguments.lists, arguments.seed)))
