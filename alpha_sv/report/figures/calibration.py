"""Are the scores the log-likelihood ratios they claim to be? Systems of metrics.json to SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from scipy.special import expit

from alpha_sv.report.figures.canvas import KEY_ROW, MUTED, key, look, stack, style, svg
from alpha_sv.report.wording import short


def ape_plot(systems: Sequence[dict]) -> str:
    """Applied-probability-of-error curves: what Bayes decisions by the score cost, at every prior.

    Against the prior log-odds θ: the error rate π p_miss(t) + (1 − π) p_fa(t) with π = 1 / (1 +
    e^−θ), at the Bayes threshold t = −θ (solid) and at the best one (dashed). Deciding blindly, by
    the prior alone, costs min(π, 1 − π) (dotted).

    Parameters
    ----------
    systems : sequence of dict
        With ``name``, ``min_dcf`` (whose priors are marked) and a ``calibration`` that is not None,
        as in metrics.json.

    Returns
    -------
    str
        An ``<svg>`` element.

    References
    ----------
    Brümmer & du Preez, "Application-independent evaluation
    of speaker detection", Computer Speech & Language 2006.

    Example
    -------
    >>> ape = {"prior_log_odds": [-1.0, 1.0], "act": [0.1, 0.1], "min": [0.05, 0.1]}
    >>> "prior log-odds" in ape_plot([{"name": "A", "min_dcf": [], "calibration": ape}])
    True
    """
    with style():
        figure, (ax,) = stack([3.4], top=0.4 + KEY_ROW * (len(systems) + 1), bottom=0.6)
        highest, lowest_odds, highest_odds = 0.0, np.inf, -np.inf
        for index, system in enumerate(systems):
            found, (color, _) = system["calibration"], look(index)
            odds, act, least = (np.asarray(found[name], dtype=float) for name in ("prior_log_odds", "act", "min"))
            ax.plot(odds, 100 * act, color=color, gid=f"act-{index}")
            ax.plot(odds, 100 * least, color=color, linewidth=1.2, linestyle=_DASHED, gid=f"min-{index}")
            highest = max(highest, 100 * act.max(), 100 * least.max())
            lowest_odds, highest_odds = min(lowest_odds, odds[0]), max(highest_odds, odds[-1])
        odds = np.linspace(lowest_odds, highest_odds, 201)
        ax.plot(odds, 100 * expit(-np.abs(odds)), color=MUTED, linewidth=1.2, linestyle=_DOTTED, gid="blind")
        priors = sorted({e["p_target"] for s in systems for e in s["min_dcf"]})
        for prior in priors:
            where = np.log(prior / (1 - prior))
            if lowest_odds < where < highest_odds:
                ax.axvline(where, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), gid=f"prior-{prior:g}")
                place = {"xytext": (0, 2), "textcoords": "offset points", "xycoords": ("data", "axes fraction")}
                ax.annotate(f"p {prior:g}", (where, 1), ha="right" if prior == priors[0] else "left", **place)
        ax.set(xlim=(lowest_odds, highest_odds), ylim=(0, 1.12 * highest or 1))
        ax.set(xlabel="prior log-odds of a target trial", ylabel="Bayes error rate, %")
        left, top, row = ax.get_position().x0, 1 - 0.08 / figure.get_figheight(), KEY_ROW / figure.get_figheight()
        lines = [Line2D([], [], color=look(index)[0]) for index in range(len(systems))]
        key(figure, lines, [short(system["name"], 44) for system in systems], (left, top))
        kinds = [Line2D([], [], color=MUTED, linestyle=line) for line in ("-", _DASHED, _DOTTED)]
        names = ["as scored", "best threshold", "by the prior alone"]
        key(figure, kinds, names, (left, top - row * len(systems)), ncols=3, columnspacing=1.5)
        return svg(figure, "ape", "Bayes error rate against the prior log-odds")


def reliability_plot(systems: Sequence[dict]) -> str:
    """Log-likelihood ratio that a group of trials claims against the one found, nats.

    Parameters
    ----------
    systems : sequence of dict
        With ``name`` and a ``calibration`` that is not None, as in metrics.json; a group of one
        kind of trials, whose ratio is null, is left out.

    Returns
    -------
    str
        An ``<svg>`` element.

    Example
    -------
    >>> reliability = {"llr": [-2.0, 2.0], "empirical": [None, 1.5], "count": [10, 10]}
    >>> "of the mean posterior" in reliability_plot(
    ...     [{"name": "A", "calibration": {"reliability": reliability}}]
    ... )
    True
    """
    with style():
        figure, (ax,) = stack([3.4], top=0.18 + KEY_ROW * len(systems), bottom=0.6)
        points, lines = [0.0], []
        for index, system in enumerate(systems):
            found, (color, marker) = system["calibration"]["reliability"], look(index)
            known = [(x, y) for x, y in zip(found["llr"], found["empirical"], strict=True) if y is not None]
            claimed, empirical = np.array(known, dtype=float).reshape(-1, 2).T
            place = {"color": color, "marker": marker, "markeredgecolor": "white"}
            ax.plot(claimed, empirical, markersize=6, linewidth=1.0, gid=f"points-{index}", **place)
            points += [*claimed, *empirical]
            lines.append(Line2D([], [], **place))
        margin = 0.05 * (max(points) - min(points)) or 1.0
        limits = min(points) - margin, max(points) + margin
        ax.plot(limits, limits, color=MUTED, linewidth=0.8, zorder=1, gid="diagonal")
        ax.set(xlim=limits, ylim=limits, ylabel="found log-likelihood ratio")
        ax.set(xlabel="claimed log-likelihood ratio (of the mean posterior)")
        corner = ax.get_position().x0, 1 - 0.08 / figure.get_figheight()
        key(figure, lines, [short(system["name"], 44) for system in systems], corner)
        return svg(figure, "reliability", "Claimed against found log-likelihood ratios")


_DASHED, _DOTTED = (0, (4, 2)), (0, (1, 1.5))
