"""What the report says about its figures and terms: one sentence to see, the rest to unfold."""

from __future__ import annotations

from collections.abc import Mapping

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS

CAPTIONS = {
    "det": (
        "Lower and further left is better.",
        "Each curve shows every choice of threshold. The axes are stretched so that normally distributed scores give "
        "straight lines. The marks on the diagonal are the EERs, the triangles the minDCF points, the circles the miss "
        "rates at the false acceptance rates of the table; bars are their intervals, drawn for at most {bars} systems. "
        "What lies beyond the axes, such as a rate of 0, is left out. In the grey area, and where a curve is dotted, "
        f"fewer than {MIN_FALSE_ACCEPTS} false accepts support it: do not compare systems there.",
    ),
    "histogram": (
        "The less the two areas overlap, the better.",
        "Both areas are 1, so their shapes can be compared although there are many more nontarget trials. Target "
        "scores left of the dashed threshold are misses, nontarget scores right of it false accepts. Scores of "
        "different systems live on different scales.",
    ),
    "ape": (
        "The gap between solid and dashed is the price of wrong calibration.",
        "The error rate of decisions that take the score for what it claims to be, a log-likelihood ratio, at each "
        "prior (solid), and the lowest that any threshold reaches (dashed). Above the dotted line not listening would "
        "be better. Vertical lines: the priors of the table.",
    ),
    "reliability": (
        "On the diagonal the scores claim what is true; a flatter course claims too much.",
        "The claimed log-likelihood ratio against the one that was found, in groups of trials of neighbouring scores. "
        "A group claims the ratio that belongs to the mean of its trials' posterior probabilities, not the mean of its "
        "scores; the ratio found belongs to its fraction of target trials. Groups of one kind of trials have none and "
        "are left out.",
    ),
    "training": (
        "The EER on held-out speakers should fall.",
        "The thick loss curve is a running mean over {window} of the logged rows. The loss rises when the margin is "
        "raised. If the EER rises while the loss falls, the model learns the training speakers by heart.",
    ),
    "sparsity": (
        "How many classes the loss still works on, and how many examples it is done with.",
        "An α-divergence loss with α > 1 gives most classes probability exactly 0. Above: how many classes are left, "
        "on a logarithmic axis. Below: examples the loss is done with (loss = 0), and examples whose own class has "
        "probability 0, which is usual at the start and should become rare.",
    ),
}
"""Figure → the sentence below it, and what unfolds; the page fills in `bars` and `window`."""


def glossary(system: Mapping) -> list[tuple[str, str]]:
    """Terms and what they mean, with the resolution of the trial list of `system`."""
    target, nontarget = system["trials"]["target"], system["trials"]["nontarget"]
    return [
        (
            "Trial",
            "One comparison of two recordings. Target (genuine): both are of the same speaker. Nontarget (impostor): "
            "they are of two speakers. A trial is accepted when its score reaches the threshold.",
        ),
        (
            "EER",
            "Equal error rate: the error where misses and false accepts are equally frequent. One number to compare "
            "systems by, but rarely a point at which a system is used.",
        ),
        (
            "minDCF",
            "Lowest cost over all thresholds when target trials have the given prior p and both errors cost 1, divided "
            "by the cost of the better blind decision, min(p, 1 − p): 0 is perfect, 1 is no better than not "
            "listening. actDCF: the same at the threshold that Bayes decisions take, not the best one.",
        ),
        (
            "Cllr",
            "Cost of log-likelihood ratios over all priors, in bits: 0 is perfect, 1 is worth nothing. minCllr: the "
            "same after the best monotone calibration, so what is lost by discrimination alone.",
        ),
        (
            "FNR at FPR",
            "Misses (false non-matches) at the lowest threshold that keeps false accepts within the given rate. "
            "Nothing is interpolated. In round brackets: the number of false accepts at that threshold.",
        ),
        (
            "[low, high]",
            "Confidence interval from resampling speakers, not trials: trials that share a speaker rise and fall "
            "together, and intervals that treat them as independent are too narrow.",
        ),
        (
            "n/a",
            f"Fewer than {MIN_FALSE_ACCEPTS} false accepts: a rate that rests on so few events is uncertain by a third "
            "or more, so none is stated. In a group of trials: one of the two kinds is missing.",
        ),
        (
            "Resolution",
            f"With {target:,} target and {nontarget:,} nontarget trials one more miss adds {100 / target:.2g} % to the "
            f"miss rate, one more false accept {100 / nontarget:.2g} % to the false acceptance rate.",
        ),
    ]
