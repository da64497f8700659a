"""What the report says about its own figures and terms: captions and glossary, as HTML."""

from __future__ import annotations

from collections.abc import Mapping

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.report.figures.det import MOST_BARS

DET_CAPTION = f"""Each curve shows every choice of threshold; lower and further left is better. The axes are
stretched so that normally distributed scores give straight lines. The marks on the diagonal are the EERs,
triangles the minDCF points, circles the miss rates at the false acceptance rates of the table, with their
intervals as bars if at most {MOST_BARS} systems are shown. What lies beyond the axes, such as a rate of 0, is
left out. In the grey area, and where a curve is dotted, fewer than {MIN_FALSE_ACCEPTS} false accepts support it:
do not compare systems there."""

HISTOGRAM_CAPTION = """Both areas are 1, so the shapes can be compared although there are many more nontarget
trials. What counts is the overlap: target scores left of the dashed threshold are misses, nontarget scores
right of it false accepts. Scores of different systems live on different scales."""

APE_CAPTION = """The error rate of decisions that take the score for what it claims to be, a log-likelihood
ratio, at each prior (solid), and the lowest that any threshold reaches (dashed). The gap is the price of the
calibration. Above the dotted line not listening would be better. Vertical lines: the priors of the table."""

RELIABILITY_CAPTION = """The claimed log-likelihood ratio against the one that was found, in groups of trials of
neighbouring scores: on the diagonal the claim is true, a flatter course claims too much. A group claims the ratio
that belongs to the mean of its trials' posterior probabilities (which is not the mean of its scores), and the one
found belongs to its fraction of target trials. Groups of one kind of trials have none and are left out."""

TRAINING_CAPTION = """The thick loss curve is a running mean (window: {window} of the logged rows). Loss
rises when the margin is raised; it is the EER on held-out speakers that should fall. If it rises while the
loss falls, the model is learning the training speakers by heart."""

SPARSITY_CAPTION = """An α-divergence loss with α &gt; 1 gives most classes probability exactly 0. Above: how
many classes are left, on a logarithmic axis. Below: examples the loss is done with (loss = 0), and examples
whose own class has probability 0, which is usual at the start and should become rare."""


def reading(system: Mapping) -> str:
    """The glossary, with the resolution of the trial list of `system`."""
    target, nontarget = system["trials"]["target"], system["trials"]["nontarget"]
    miss, false_accept = f"{100 / target:.2g}", f"{100 / nontarget:.2g}"
    return f"""<dl>
<dt>Trial</dt><dd>One comparison of two recordings. Target (genuine): both are of the same speaker. Nontarget
(impostor): they are of two speakers. A trial is accepted when its score reaches the threshold.</dd>
<dt>EER</dt><dd>Equal error rate: the error where misses and false accepts are equally frequent. One number to
compare systems by, but rarely a point at which a system is used.</dd>
<dt>minDCF</dt><dd>Lowest cost over all thresholds when target trials have prior p<sub>target</sub> and both
errors cost 1, divided by the cost of the better blind decision, min(p, 1 − p): 0 is perfect, 1 is no better
than not listening. actDCF: the same at the threshold that Bayes decisions take, not the best one.</dd>
<dt>Cllr</dt><dd>Cost of log-likelihood ratios over all priors, in bits: 0 is perfect, 1 is worth nothing. minCllr:
the same after the best monotone calibration, so what is lost by discrimination alone.</dd>
<dt>FNR at FPR</dt><dd>Misses (false non-matches) at the lowest threshold that keeps false accepts within the
given rate. Nothing is interpolated. In round brackets: the number of false accepts at that threshold.</dd>
<dt>[low, high]</dt><dd>Confidence interval from resampling speakers, not trials: trials that share a speaker
rise and fall together, and intervals that treat them as independent are too narrow.</dd>
<dt>n/a</dt><dd>Fewer than {MIN_FALSE_ACCEPTS} false accepts: a rate that rests on so few events is uncertain
by a third or more, so none is stated. In a group of trials: one of the two kinds is missing.</dd>
<dt>Resolution</dt><dd>With {target:,} target and {nontarget:,} nontarget trials one more miss adds {miss} % to
the miss rate, one more false accept {false_accept} % to the false acceptance rate.</dd>
</dl>"""
