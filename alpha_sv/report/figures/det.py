"""Detection error trade-off: a function from systems of metrics.json to an SVG string."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtri

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.metrics.names import metric
from alpha_sv.report.figures.canvas import AXES_WIDTH, KEY_ROW, MUTED, key, look, stack, style, svg
from alpha_sv.report.wording import short

MOST_BARS = 4  # systems that have their intervals drawn; more would hide each other
_TICKS = (1e-4, 1e-3, 1e-2, 0.1, 0.4, 0.8, 0.95, 0.2, 0.6, 0.05, 0.9, 0.98, 0.02, 0.005, 0.002)
_LOWEST_P_FA = 5e-5  # left edge: room for the guide at 1e-4


def det_plot(systems: Sequence[dict]) -> str:
    """Miss against false-acceptance rate on normal-deviate axes, with operating points.

    Each rate p is placed at Φ⁻¹(p): Gaussian scores of equal variance then give a straight line of
    slope −1. A curve is dotted where fewer than 10 false accepts support it; the grey area is that
    region for the system with the fewest nontarget trials. A miss rate at a false-acceptance rate
    is marked only where it is supported.

    Parameters
    ----------
    systems : sequence of dict
        As in the ``systems`` of metrics.json: ``name``, ``trials``, ``eer``, ``min_dcf``,
        ``fnr_at_fpr``, ``intervals`` and ``det``, whose rates are fractions. minDCF marks sit at
        the cheapest of the stored points of a curve.

    Returns
    -------
    str
        An ``<svg>`` element.

    References
    ----------
    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.

    Example
    -------
    >>> system = {
    ...     "name": "cosine",
    ...     "trials": {"target": 4, "nontarget": 4},
    ...     "eer": {"value": 0.25},
    ...     "intervals": None,
    ...     "min_dcf": [],
    ...     "fnr_at_fpr": [],
    ...     "det": {"p_fa": [1, 0.25, 0], "p_miss": [0, 0.25, 1]},
    ... }
    >>> det_plot([system]).startswith("<svg")
    True
    """
    with style():
        (x_low, x_high), (y_low, y_high) = _limits(systems)
        per_inch = (ndtri(x_high) - ndtri(x_low)) / AXES_WIDTH  # on both axes: the diagonal is at 45°
        height = (ndtri(y_high) - ndtri(y_low)) / per_inch
        limit = max(x_low, min(x_high, MIN_FALSE_ACCEPTS / min(s["trials"]["nontarget"] for s in systems)))
        figure, (ax,) = stack([height], top=0.4 + KEY_ROW * (len(systems) + 1), bottom=0.6)
        shade = ax.axvspan(ndtri(x_low), ndtri(limit), color="#eceef1", zorder=0, gid="unsupported")
        for fpr in sorted({entry["fpr"] for s in systems for entry in s["fnr_at_fpr"]}):
            ax.axvline(ndtri(fpr), color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), gid=f"fpr-{fpr:g}")
        both = [ndtri(max(x_low, y_low)), ndtri(min(x_high, y_high))]
        ax.plot(both, both, color=MUTED, linewidth=0.8, gid="diagonal")
        for i, system in enumerate(systems):
            again = any(system["det"] == before["det"] for before in systems[:i])
            _curve(ax, i, system, again)
            # neighbours stand side by side: at one false-acceptance rate their bars would cover
            # each other
            shift = 0.06 * per_inch * (i - (len(systems) - 1) / 2)
            _operating_points(ax, i, system, shift, bars=len(systems) <= MOST_BARS and not again)
        _set_ticks(ax.xaxis, x_low, x_high, spacing=0.4 * per_inch)
        _set_ticks(ax.yaxis, y_low, y_high, spacing=0.2 * per_inch)
        ax.set(xlim=ndtri((x_low, x_high)), ylim=ndtri((y_low, y_high)))
        ax.set(xlabel="false acceptance rate", ylabel="miss rate (genuine trials refused)")
        _legends(figure, ax, systems, shade if limit > x_low else None)
        return svg(figure, "det", "DET curves: miss rate against false acceptance rate")


def _limits(systems: Sequence[dict]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest rate of either axis: around the EERs, up to few false accepts."""
    rates = [s["eer"]["value"] for s in systems]
    x_high = 0.5 if max(rates) < 0.2 else 0.93
    lowest = min((rate for rate in rates if rate > 0), default=0.0)
    y_low = next((p for p in (1e-2, 5e-3, 2e-3, 1e-3, 5e-4) if p <= lowest / 4), 2e-4)
    p_fa = np.concatenate([s["det"]["p_fa"] for s in systems])
    p_miss = np.concatenate([s["det"]["p_miss"] for s in systems])
    highest = p_miss[p_fa >= _LOWEST_P_FA].max()
    y_high = next((p for p in (0.5, 0.8, 0.9, 0.95) if p >= highest), 0.985)
    return (_LOWEST_P_FA, x_high), (y_low, y_high)


def _deviate(rates: Sequence[float]) -> np.ndarray:
    # 0 and 1 lie at infinity: drawn far outside the axes, so the curve leaves the picture as it
    # should
    return ndtri(np.clip(np.asarray(rates, dtype=float), 1e-12, 1 - 1e-12))


def _curve(ax, index: int, system: dict, again: bool) -> None:
    # a curve drawn before, such as that of the same scores calibrated, shows between the dashes
    color, marker = look(index)
    p_fa, p_miss = (np.asarray(system["det"][side], dtype=float) for side in ("p_fa", "p_miss"))
    x, y = _deviate(p_fa), _deviate(p_miss)
    solid = int(np.sum(p_fa * system["trials"]["nontarget"] > MIN_FALSE_ACCEPTS - 0.5))  # p_fa descends
    ax.plot(
        x[:solid], y[:solid], color=color, linewidth=1.8, gid=f"curve-{index}", linestyle=(0, (4, 4)) if again else "-"
    )
    dotted = slice(max(solid - 1, 0), None)
    ax.plot(x[dotted], y[dotted], color=color, linewidth=1.4, linestyle=(0, (1, 1.3)), gid=f"dotted-{index}")
    place = {"color": color, "markeredgecolor": "white", "linestyle": "", "zorder": 4}
    eer = ndtri(system["eer"]["value"])
    ax.plot([eer], [eer], marker=marker, markersize=7.5, gid=f"eer-{index}", **place)
    for j, entry in enumerate(system["min_dcf"]):
        miss, false_accept = entry["c_miss"] * entry["p_target"], entry["c_fa"] * (1 - entry["p_target"])
        best = int(np.argmin(miss * p_miss + false_accept * p_fa))
        ax.plot([x[best]], [y[best]], marker=_dcf_marker(j), markersize=8, gid=f"dcf-{index}-{j}", **place)


def _operating_points(ax, index: int, system: dict, shift: float, bars: bool) -> None:
    intervals = (system["intervals"] or {}).get("fnr_at_fpr", [None] * len(system["fnr_at_fpr"]))
    color = look(index)[0]
    for j, (entry, limits) in enumerate(zip(system["fnr_at_fpr"], intervals, strict=True)):
        if not entry["supported"]:
            continue
        (x,), (y,) = _deviate([entry["false_accepts"] / system["trials"]["nontarget"]]), _deviate([entry["fnr"]])
        if bars and limits:
            ax.plot([x + shift] * 2, _deviate(limits), color=color, linewidth=2.6, alpha=0.55, gid=f"bar-{index}-{j}")
        place = {"color": "white", "markeredgecolor": color, "markeredgewidth": 1.4, "linestyle": "", "zorder": 3.5}
        ax.plot([x], [y], marker="o", markersize=5, gid=f"fnr-{index}-{j}", **place)


def _set_ticks(axis, low: float, high: float, spacing: float) -> None:
    shown: list[float] = []
    for p in _TICKS:
        if low <= p <= high and all(abs(ndtri(p) - ndtri(q)) > spacing for q in shown):
            shown.append(p)
    axis.set_ticks([ndtri(p) for p in sorted(shown)], [f"{100 * p:g} %" for p in sorted(shown)])


def _legends(figure: Figure, ax, systems: Sequence[dict], shade: Artist | None) -> None:
    lines = [Line2D([], [], color=c, marker=m, markeredgecolor="white") for c, m in map(look, range(len(systems)))]
    left, top = ax.get_position().x0, 1 - 0.08 / figure.get_figheight()
    names = [f"{short(s['name'], 36)}: EER {100 * s['eer']['value']:.2f} %" for s in systems]
    key(figure, lines, names, (left, top))
    top -= KEY_ROW / figure.get_figheight() * len(systems)
    names = ["EER", *(metric("min_dcf", entry["p_target"]).label for entry in systems[0]["min_dcf"])]
    markers = ["o", *(_dcf_marker(j) for j in range(len(names) - 1))]
    marks = [Line2D([], [], color=MUTED, linestyle="", marker=marker) for marker in markers]
    key(figure, marks, names, (left, top), ncols=len(marks), columnspacing=1.5)
    top -= KEY_ROW / figure.get_figheight()
    ring = Line2D([], [], color="white", linestyle="", marker="o", markersize=5, markeredgecolor=MUTED)
    marks, names = [ring], ["FNR at FPR"]
    if shade is not None:
        marks, names = [*marks, shade], [*names, f"fewer than {MIN_FALSE_ACCEPTS} false accepts"]
    key(figure, marks, names, (left, top), ncols=2, columnspacing=1.5)


def _dcf_marker(index: int) -> str:
    return ("v", "^", "<", ">")[index % 4]
