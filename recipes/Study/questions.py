"""The figures of three questions: is κ the one knob, does starvation hurt, are the two heads equal?

Each function takes `Findings` and returns a matplotlib Figure with a panel for each list of trials.
"""

from __future__ import annotations

import math

import numpy as np
from findings import DEVELOPMENT, Findings, explained, per_epoch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from panels import grid_of_axes
from scipy.stats import t as student

from alpha_sv.report.figures.canvas import INK, MUTED, PALETTE

_MARKERS, _LINES = "osDv^P*X", ("-", (0, (4, 2)), (0, (1, 1)), (0, (4, 1, 1, 1)))


def kappa(found: Findings) -> Figure:
    """EER over α × s with lines of constant κ = s(α − 1),
    and below it against κ, a line for each α.

    The title of each lower panel says what fraction of the
    variance of ln EER over the cells κ, s and α explain alone.
    """
    rows = _with(found, "kappa")
    figure, axes = grid_of_axes(2, len(found.measures), 3.4, found)
    for (top, bottom), measure in zip(axes.T, found.measures, strict=True):
        cells = [(found.grid["rows"][row]["point"], found.eer(row, measure)) for row in rows]
        _heat_map(top, cells)
        top.set(title=_name(measure), xlabel="α", ylabel="scale s, nats")
        _against_kappa(bottom, cells)
    axes[1, 0].legend(title="α", loc="lower right", ncols=2)
    return figure


def _heat_map(ax, cells: list) -> None:
    """Cells of a doubling of α − 1 by a doubling of s; darker is a higher EER."""
    x = np.log2([point["alpha"] - 1 for point, _ in cells])
    y = np.log2([point["scale"] for point, _ in cells])
    values = np.log([eer for _, (eer, _, _) in cells])
    lowest, spread = values.min(), max(values.max() - values.min(), 1e-9)
    for a, b, value in zip(x, y, values, strict=True):
        grey = 0.93 - 0.73 * (value - lowest) / spread
        ax.add_patch(Rectangle((a - 0.5, b - 0.5), 1, 1, facecolor=str(grey), edgecolor="white", gid="cell"))
        ink = "black" if grey > 0.5 else "white"
        box = {"facecolor": str(grey), "edgecolor": "none", "pad": 1}
        place = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 4}
        ax.text(a, b, f"{math.exp(value):.1f}", color=ink, bbox=box, gid="eer", **place)
    limits = x.min() - 0.5, x.max() + 1.0
    for level in sorted({point["kappa"] for point, _ in cells}):
        ax.plot(limits, np.log2(level) - np.array(limits), color=PALETTE[1], linewidth=0.8, zorder=3, gid=f"κ {level}")
        ax.annotate(f"κ {level:g}", (limits[1], np.log2(level) - limits[1]), va="center", fontsize=8, color=INK)
    ax.set_xticks(*_ticks({point["alpha"]: a for (point, _), a in zip(cells, x, strict=True)}))
    ax.set_yticks(*_ticks({point["scale"]: b for (point, _), b in zip(cells, y, strict=True)}))
    ax.set(xlim=(limits[0], limits[1] + 0.9), ylim=(y.min() - 1.6, y.max() + 0.6))
    ax.grid(False)


def _against_kappa(ax, cells: list) -> None:
    for number, alpha in enumerate(sorted({point["alpha"] for point, _ in cells})):
        of = sorted((point["kappa"], eer) for point, eer in cells if point["alpha"] == alpha)
        at = np.array([level for level, _ in of]) * 2 ** (0.06 * (number - 1.5))  # beside each other
        mean, low, high = np.array([eer for _, eer in of]).T
        color = PALETTE[number % len(PALETTE)]
        ax.errorbar(
            at, mean, (mean - low, high - mean), color=color, linestyle=_LINES[number % 4], linewidth=1.4,
            marker=_MARKERS[number % 8], markersize=5, elinewidth=0.8, label=f"{alpha:g}",
        )  # fmt: skip
    levels = sorted({point["kappa"] for point, _ in cells})
    ax.set_xscale("log", base=2)
    ax.set_xticks(levels, [f"{level:g}" for level in levels])
    ax.minorticks_off()
    ax.set(xlabel="κ = s(α − 1)", ylabel="EER, %", ylim=(0, None))
    logs = [math.log(eer) for _, (eer, _, _) in cells]
    axes = {"κ": "kappa", "s": "scale", "α": "alpha"}
    shares = {name: explained([point[axis] for point, _ in cells], logs) for name, axis in axes.items()}
    if not any(map(math.isnan, shares.values())):
        ax.set_title(
            "variance: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()), loc="left"
        )


def starvation(found: Findings) -> Figure:
    """Zero loss during the fine-tuning;
    and by it in its first epoch, what the fine-tuning did to the EER.

    A large mark is the mean over seeds with its interval, the small ones are seeds.
    """
    rows = [row for row in found.rows() if found.grid["rows"][row].get("warm_start")]
    if not rows:
        raise ValueError("starvation lacks a finished run that starts from another; see study.py --status")
    figure, axes = grid_of_axes(2, math.ceil((2 + len(found.measures)) / 2), 3.4, found)
    panels = list(axes.flat)
    looks = {row: (PALETTE[n % len(PALETTE)], _MARKERS[n % 8]) for n, row in enumerate(rows)}
    for row, (color, marker) in looks.items():
        epoch, mean, _, _ = found.curve(row, "zero_loss").T
        panels[0].plot(epoch, 100 * mean, color=color, marker=marker, gid=row)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set(xlabel="epoch of the fine-tuning", ylabel="samples of zero loss, %", ylim=(-2, 102))
    for ax, measure in zip(panels[1:], found.measures, strict=False):
        for row, (color, marker) in looks.items():
            start = found.grid["rows"][row]["warm_start"]
            at = {run.seed: 100 * per_epoch(found.log(run), "zero_loss")[1] for run in found.finished(row)}
            ours, before = found.eers(row, measure), found.eers(start, measure)
            seeds = sorted(ours.keys() & before.keys())
            change = [ours[seed] - before[seed] for seed in seeds]
            small = {"linestyle": "", "marker": marker, "markersize": 3.5, "markerfacecolor": "white"}
            ax.plot([at[seed] for seed in seeds], change, color=color, gid=f"seeds of {row}", **small)
            mean, low, high = found.eer(row, measure, minus=start)
            bars = [[mean - low], [high - mean]]
            place = np.mean([at[seed] for seed in seeds]) if seeds else math.nan
            ax.errorbar([place], [mean], bars, color=color, marker=marker, markersize=7, elinewidth=1.0, gid=row)
        ax.axhline(0, color=MUTED, linewidth=1.0)
        ax.set(title=_name(measure), xlim=(-4, 104))
        ax.set(xlabel="samples of zero loss in its first epoch, %", ylabel="EER after − before, points")
    marks = [Line2D([], [], color=color, marker=marker, linestyle="") for color, marker in looks.values()]
    for ax in panels[1 + len(found.measures) :]:
        ax.set_axis_off()
    panels[1 + len(found.measures)].legend(marks, list(looks), loc="upper left")
    return figure


def heads(found: Findings) -> Figure:
    """Sparse − dense of each seed (open), and their mean
    with the 95 % interval of Student's t over seeds."""
    rows = _with(found, "head")
    points = {row: found.grid["rows"][row] for row in rows}
    families = list(dict.fromkeys(point["family"] for point in points.values()))
    figure, axes = grid_of_axes(1, len(found.measures), 1.2 + 0.6 * len(families), found, sharey=True)
    for ax, measure in zip(axes[0], found.measures, strict=True):
        for place, family in enumerate(families):
            of = {p["point"]["head"]: found.eers(row, measure) for row, p in points.items() if p["family"] == family}
            both = sorted(of.get("sparse", {}).keys() & of.get("dense", {}).keys())
            values = np.array([of["sparse"][seed] - of["dense"][seed] for seed in both])
            ax.plot(
                values, np.full(len(both), place + 0.15), color=PALETTE[0], linestyle="", marker="o",
                markerfacecolor="white", gid=f"seeds of {family}",
            )  # fmt: skip
            if len(both) > 1:
                half = student.ppf(0.975, len(both) - 1) * values.std(ddof=1) / math.sqrt(len(both))
                ax.errorbar([values.mean()], [place - 0.15], xerr=[half], color=INK, marker="D", capsize=3, gid=family)
            elif not both:
                ax.text(0.5, place, "no seed of both", transform=ax.get_yaxis_transform(), ha="center", color=MUTED)
        ax.axvline(0, color=MUTED, linewidth=1.0)
        ax.set(title=_name(measure), xlabel="EER of sparse − dense, points", ylim=(len(families) - 0.5, -0.5))
        ax.set_yticks(range(len(families)), families)
    return figure


def _with(found: Findings, axis: str) -> list[str]:
    """Finished rows that were made by `each` with that axis."""
    rows = [row for row in found.rows() if axis in found.grid["rows"][row].get("point", {})]
    if not rows:
        raise ValueError(f"no run of a row with `each: {{{axis}: …}}` is finished; see study.py --status")
    return rows


def _name(measure: str) -> str:
    return "development trials" if measure == DEVELOPMENT else measure


def _ticks(at: dict[float, float]) -> tuple[list[float], list[str]]:
    return list(at.values()), [f"{value:g}" for value in at]
