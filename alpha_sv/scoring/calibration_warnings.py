"""What stands behind a calibrator, as numbers and as plain warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.scoring.checks import speaker_codes
from alpha_sv.scoring.llr_bounds import LEAST
from alpha_sv.scoring.outliers import repeated_score

FEW = 30  # independent trials of a class below which a warning says so


def count_trials(labels: np.ndarray, speakers: tuple[np.ndarray, np.ndarray] | None) -> dict:
    """Trials of each class, speakers, and how many of the trials count as independent.

    If every trial of a speaker told the same, the speakers would count, and if none did, the
    trials. In between, for m trials of each speaker whose errors correlate by rho, n trials
    count as n / (1 + (m - 1) rho) (Kish, "Survey sampling", 1965). The geometric mean of
    trials and speakers, used here, is that for rho of 0.3 at m = 6 and 0.1 at m = 80. Without
    speakers every trial counts.

    Raises
    ------
    ValueError
        A class has no trial, or as `alpha_sv.scoring.checks.speaker_codes`.

    Example
    -------
    >>> labels = np.array([True, True, True, True, False])
    >>> found = count_trials(labels, (["a", "a", "a", "a", "a"], ["a", "a", "a", "a", "b"]))
    >>> found["targets"], found["independent_targets"], found["speakers"]
    (4, 2.0, 2)
    """
    targets, nontargets = int(labels.sum()), int((~labels).sum())
    if not targets or not nontargets:
        raise ValueError(f"fit_calibration: {targets} target and {nontargets} nontarget trials; both are needed")
    independent, count = (targets, nontargets), None
    if speakers is not None:
        codes, count = speaker_codes(speakers, labels, "fit_calibration")
        heard = (np.count_nonzero(np.bincount(codes[:, side].ravel())) for side in (labels, ~labels))
        independent = [min(n, math.sqrt(n * of)) for n, of in zip((targets, nontargets), heard, strict=True)]
    return {
        "targets": targets,
        "nontargets": nontargets,
        "speakers": count,
        "independent_targets": round(independent[0], 1),
        "independent_nontargets": round(independent[1], 1),
    }


def warnings_of(
    line: Calibrator, columns: Mapping[str, np.ndarray], odd: Mapping[str, np.ndarray], p_target: float
) -> Iterator[str]:
    """Plain sentences that say why not to trust a calibrator further than it goes.

    Parameters
    ----------
    line : Calibrator
        With bounds and support.
    columns, odd : mapping of name to array [N]
        Scores and measures, and which of them were set aside.
    p_target : float
        The prior of the fit.
    """
    support, (lower, upper) = line.support, line.bounds
    for name, aside in odd.items():
        if count := int(aside.sum()):
            row = int(np.flatnonzero(aside)[0])
            yield (
                f"{count} of {len(aside)} {name} lie far outside of all others (trial {row}: {columns[name][row]:.6g}) "
                "and have no say in the slope; if they stand for a failure, take these trials out"
            )
    scores = columns["scores"][~odd["scores"]]
    if found := repeated_score(scores):
        yield (
            f"{found[1]} of {len(scores)} scores are exactly {found[0]:.6g}; if that stands for a failure, take these "
            "trials out, because they have a say in the slope"
        )
    who = f"{support['targets']} target and {support['nontargets']} nontarget trials"
    if support["speakers"] is not None:
        who += f" of {support['speakers']} speakers"
    if support["separable"]:
        yield (
            f"the target scores lie above all nontarget scores, so {who} do not show how often they err; the slope "
            "rests on normal tails. Calibrate on more speakers, or on harder trials"
        )
    if upper <= LEAST or lower >= -LEAST:
        yield f"{who} do not show that LLRs from these scores are better than none; they are held near 0"
        return
    independent = support["independent_targets"], support["independent_nontargets"]
    needed = math.log((1 - p_target) / p_target)
    if min(independent) < FEW or not line.reaches(needed):
        yield (
            f"{who} support LLRs from {lower:.2f} to {upper:.2f} nats only, and LLRs are held there"
            + (f"; accepting at p_target {p_target:g} takes {needed:.2f}" if not line.reaches(needed) else "")
            + "; more speakers would support more"
        )
