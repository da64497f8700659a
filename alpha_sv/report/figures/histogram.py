"""Histograms of the scores, a panel for each system of metrics.json, as an SVG string."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpha_sv.report.figures.canvas import INK, PALETTE, stack, style, svg
from alpha_sv.report.wording import short


def histogram_plot(systems: Sequence[dict]) -> str:
    """Densities of target and nontarget scores, one panel a system, with the EER threshold.

    Parameters
    ----------
    systems : sequence of dict
        With ``name``, ``trials``, ``eer`` and ``histogram`` (counts) as in metrics.json. Each
        density integrates to 1 over the score axis, so that the two areas compare although
        nontargets are many more.

    Returns
    -------
    str
        An ``<svg>`` element.

    Example
    -------
    >>> system = {
    ...     "name": "cosine",
    ...     "trials": {"target": 3, "nontarget": 4},
    ...     "eer": {"threshold": 0.5},
    ...     "histogram": {"edges": [0.0, 0.5, 1.0], "target": [1, 2], "nontarget": [4, 0]},
    ... }
    >>> "EER threshold 0.5" in histogram_plot([system])
    True
    """
    with style():
        panel = min(max(1.2, 5.3 / len(systems) - 0.7), 3.2)
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
            ax.set_ylim(0, 1.35 * ax.dataLim.y1)  # the legend has the upper part for itself
            dashed = {"color": INK, "linewidth": 1.2, "linestyle": (0, (5, 3))}
            ax.axvline(threshold, 0, 0.76, gid=f"threshold-{index}", **dashed)
            ax.set_title(short(system["name"], 26), loc="left", weight="bold")
            ax.set_title(f"EER threshold {threshold:.4g}", loc="right")
            ax.set(ylabel="density")
            ax.legend(loc="upper center", ncols=2, borderaxespad=0.1, handlelength=1.4)
        axes[-1].set_xlabel("score")
        return svg(figure, "histogram", "Histograms of target and nontarget scores")
