"""Figures about the scores, each one a function from systems of metrics.json to an SVG string."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtri

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.report.canvas import AXES_WIDTH, INK, MUTED, PALETTE, stack, style, svg
from alpha_sv.report.summary import one_line

_KEY_ROW = 0.22  # inches, a line of the legend above the DET plot
_DET_TICKS = (1e-4, 1e-3, 1e-2, 0.1, 0.4, 0.8, 0.95, 0.2, 0.6, 0.05, 0.9, 0.98, 0.02, 0.005, 0.002)
_LOWEST_P_FA = 5e-5  # left edge of the DET plot: room for the guide at 1e-4


def det_plot(systems: Sequence[dict]) -> str:
    """Miss against false-acceptance rate of several systems on normal-deviate axes.

    Each rate p is placed at Φ⁻¹(p): Gaussian scores of equal variance then give a straight line of slope −1.
    A curve is dotted where fewer than 10 false accepts support it; the grey area is that region for the system
    with the fewest nontarget trials.

    Parameters
    ----------
    systems : sequence of dict
        As in the ``systems`` of metrics.json: ``name``, ``trials``, ``eer``, ``min_dcf``, ``fnr_at_fpr`` and
        ``det``, whose rates are fractions. minDCF marks sit at the cheapest of the stored points of a curve.

    Returns
    -------
    str
        An ``<svg>`` element.

    References
    ----------
    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.

    Example
    -------
    >>> system = {"name": "cosine", "trials": {"target": 4, "nontarget": 4}, "eer": {"value": 0.25},
    ...           "min_dcf": [], "fnr_at_fpr": [], "det": {"p_fa": [1, 0.25, 0], "p_miss": [0, 0.25, 1]}}
    >>> det_plot([system]).startswith("<svg")
    True
    """
    with style():
        (x_low, x_high), (y_low, y_high) = _det_limits(systems)
        per_inch = (ndtri(x_high) - ndtri(x_low)) / AXES_WIDTH  # on both axes: the diagonal is at 45°
        height = (ndtri(y_high) - ndtri(y_low)) / per_inch
        limit = max(x_low, min(x_high, MIN_FALSE_ACCEPTS / min(s["trials"]["nontarget"] for s in systems)))
        key_rows = len(systems) + (limit > x_low)
        figure, (ax,) = stack([height], top=0.4 + _KEY_ROW * key_rows, bottom=0.6)
        shade = ax.axvspan(ndtri(x_low), ndtri(limit), color="#eceef1", zorder=0, gid="unsupported")
        for fpr in sorted({entry["fpr"] for s in systems for entry in s["fnr_at_fpr"]}):
            ax.axvline(ndtri(fpr), color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), gid=f"fpr-{fpr:g}")
        both = [ndtri(max(x_low, y_low)), ndtri(min(x_high, y_high))]
        ax.plot(both, both, color=MUTED, linewidth=0.8, gid="diagonal")
        for i, system in enumerate(systems):
            _det_curve(ax, i, system)
        _det_ticks(ax.xaxis, x_low, x_high, spacing=0.4 * per_inch)
        _det_ticks(ax.yaxis, y_low, y_high, spacing=0.2 * per_inch)
        ax.set(xlim=ndtri((x_low, x_high)), ylim=ndtri((y_low, y_high)))
        ax.set(xlabel="false acceptance rate", ylabel="miss rate (genuine trials refused)")
        _det_legends(figure, ax, systems, shade if limit > x_low else None)
        return svg(figure, "det", "DET curves: miss rate against false acceptance rate")


def histogram_plot(systems: Sequence[dict]) -> str:
    """Densities of target and nontarget scores, one panel a system, with the EER threshold.

    Parameters
    ----------
    systems : sequence of dict
        With ``name``, ``trials``, ``eer`` and ``histogram`` (counts) as in metrics.json. Each density
        integrates to 1 over the score axis, so that the two areas compare although nontargets are many more.

    Returns
    -------
    str
        An ``<svg>`` element.

    Example
    -------
    >>> system = {"name": "cosine", "trials": {"target": 3, "nontarget": 4}, "eer": {"threshold": 0.5},
    ...           "histogram": {"edges": [0.0, 0.5, 1.0], "target": [1, 2], "nontarget": [4, 0]}}
    >>> "EER threshold 0.5" in histogram_plot([system])
    True
    """
    with style():
        panel = min(max(1.4, 5.3 / len(systems) - 0.7), 3.2)
        figure, axes = stack([panel] * len(systems), top=0.3, bottom=0.6, gap=0.7)
        for index, (ax, system) in enumerate(zip(axes, systems, strict=True)):
            edges = np.asarray(system["histogram"]["edges"], dtype=float)
            for side, color in (("nontarget", PALETTE[1]), ("target", PALETTE[0])):
                counts = np.asarray(system["histogram"][side], dtype=float)
                density = counts / max(counts.sum(), 1) / np.diff(edges)
                label = f"{side} ({system['trials'][side]:,})"
                ax.stairs(density, edges, fill=True, color=color, alpha=0.3, gid=f"{side}-{index}")
                ax.stairs(density, edges, color=color, linewidth=1.3, label=label)
            threshold = system["eer"]["threshold"]
            ax.set_ylim(0, 1.25 * ax.dataLim.y1)  # the legend has the upper part for itself
            dashed = {"color": INK, "linewidth": 1.2, "linestyle": (0, (5, 3))}
            ax.axvline(threshold, 0, 0.82, gid=f"threshold-{index}", **dashed)
            ax.set_title(_label(system["name"], 26), loc="left", weight="bold")
            ax.set_title(f"EER threshold {threshold:.4g}", loc="right")
            ax.set(ylabel="density")
            ax.legend(loc="upper center", ncols=2, borderaxespad=0.1, handlelength=1.4)
        axes[-1].set_xlabel("score")
        return svg(figure, "histogram", "Histograms of target and nontarget scores")


def _det_limits(systems: Sequence[dict]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest rate of either axis: around the EERs, up to the misses at few false accepts."""
    rates = [s["eer"]["value"] for s in systems]
    x_high = 0.5 if max(rates) < 0.2 else 0.93
    lowest = min((rate for rate in rates if rate > 0), default=0.0)
    y_low = next((p for p in (1e-2, 5e-3, 2e-3, 1e-3, 5e-4) if p <= lowest / 4), 2e-4)
    p_fa = np.concatenate([s["det"]["p_fa"] for s in systems])
    p_miss = np.concatenate([s["det"]["p_miss"] for s in systems])
    highest = p_miss[p_fa >= _LOWEST_P_FA].max()
    y_high = next((p for p in (0.5, 0.8, 0.9, 0.95) if p >= highest), 0.985)
    return (_LOWEST_P_FA, x_high), (y_low, y_high)


def _det_curve(ax, index: int, system: dict) -> None:
    color, marker = _look(index)
    p_fa, p_miss = (np.asarray(system["det"][key], dtype=float) for key in ("p_fa", "p_miss"))
    # 0 and 1 lie at infinity: drawn far outside the axes, so the curve leaves the picture as it should
    x, y = (ndtri(np.clip(p, 1e-12, 1 - 1e-12)) for p in (p_fa, p_miss))
    solid = int(np.sum(p_fa * system["trials"]["nontarget"] > MIN_FALSE_ACCEPTS - 0.5))  # p_fa descends
    ax.plot(x[:solid], y[:solid], color=color, linewidth=1.8, gid=f"curve-{index}")
    dotted = slice(max(solid - 1, 0), None)
    ax.plot(x[dotted], y[dotted], color=color, linewidth=1.4, linestyle=(0, (1, 1.3)), gid=f"dotted-{index}")
    place = {"color": color, "markeredgecolor": "white", "linestyle": "", "zorder": 4}
    eer = ndtri(system["eer"]["value"])
    ax.plot([eer], [eer], marker=marker, markersize=7.5, gid=f"eer-{index}", **place)
    for j, entry in enumerate(system["min_dcf"]):
        miss, false_accept = entry["c_miss"] * entry["p_target"], entry["c_fa"] * (1 - entry["p_target"])
        best = int(np.argmin(miss * p_miss + false_accept * p_fa))
        ax.plot([x[best]], [y[best]], marker=_dcf_marker(j), markersize=8, gid=f"dcf-{index}-{j}", **place)


def _det_ticks(axis, low: float, high: float, spacing: float) -> None:
    shown: list[float] = []
    for p in _DET_TICKS:
        if low <= p <= high and all(abs(ndtri(p) - ndtri(q)) > spacing for q in shown):
            shown.append(p)
    axis.set_ticks([ndtri(p) for p in sorted(shown)], [f"{100 * p:g} %" for p in sorted(shown)])


def _det_legends(figure: Figure, ax, systems: Sequence[dict], shade: Artist | None) -> None:
    looks = [_look(i) for i in range(len(systems))]
    lines = [Line2D([], [], color=color, marker=marker, markeredgecolor="white") for color, marker in looks]
    place = {"loc": "upper left", "borderaxespad": 0.0, "handlelength": 1.8}
    left, top = ax.get_position().x0, 1 - 0.08 / figure.get_figheight()
    # names are set afterwards: Legend leaves out labels that begin with an underscore
    legend = figure.legend(lines, ["-"] * len(lines), bbox_to_anchor=(left, top), **place)
    for text, system in zip(legend.get_texts(), systems, strict=True):
        text.set_text(f"{_label(system['name'], 36)}: EER {100 * system['eer']['value']:.2f} %")
    names = ["EER", *(f"minDCF {entry['p_target']:g}" for entry in systems[0]["min_dcf"])]
    markers = ["o", *(_dcf_marker(j) for j in range(len(names) - 1))]
    marks = [Line2D([], [], color=MUTED, linestyle="", marker=marker) for marker in markers]
    row = _KEY_ROW / figure.get_figheight()
    top -= row * len(systems)
    figure.legend(marks, names, ncols=len(marks), columnspacing=1.5, bbox_to_anchor=(left, top), **place)
    if shade is not None:
        figure.legend(
            [shade],
            [f"fewer than {MIN_FALSE_ACCEPTS} false accepts"],
            bbox_to_anchor=(left, top - row),
            **place,
        )


def _look(index: int) -> tuple[str, str]:
    return PALETTE[index % len(PALETTE)], "osDPXpH"[index % 7]


def _dcf_marker(index: int) -> str:
    return ("v", "^", "<", ">")[index % 4]


def _label(name: str, width: int) -> str:
    line = one_line(name)
    return line if len(line) <= width else f"{line[: width - 1]}…"
