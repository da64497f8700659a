"""Figures of many panels: the training of every row
over the epochs, and every row's errors with intervals.

Each function takes `Findings` and returns a matplotlib Figure,
1280 pixels wide at 100 dpi. What tells lines apart is never colour alone.
"""

from __future__ import annotations

from estimates import METRICS, difference
from findings import Findings
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from outcome import KINDS

from alpha_sv.report.figures.canvas import INK, MUTED, PALETTE

WIDTH = 12.8
_CURVES = {
    "support": ("active speakers (p > 0)", 1),
    "zero_loss": ("samples of zero loss, %", 100),
    "zero_target": ("samples with p_y = 0, %", 100),
    "eer": ("development EER, %", 100),
}
_COMPARED = ("eer", "fnr at fpr 1e-2", "fnr at fpr 1e-3")


def training(found: Findings) -> Figure:
    """A line of panels a row of the grid: support,
    zero loss, p_y = 0 and development EER over the epochs."""
    return _curves(found, tuple(_CURVES))


def instability(found: Findings) -> Figure:
    """p_y = 0 and development EER over the epochs;
    a vertical line where prototypes were set anew."""
    return _curves(found, ("zero_target", "eer"))


def _curves(found: Findings, keys: tuple[str, ...]) -> Figure:
    rows = found.rows()
    reference = next(iter(found.baselines()), None)
    figure, axes = grid_of_axes(len(rows), len(keys), 1.25, found, sharex=True, sharey="col")
    for panels, row in zip(axes, rows, strict=True):
        for ax, key in zip(panels, keys, strict=True):
            factor = _CURVES[key][1]
            if reference not in (None, row):
                epoch, mean, _, _ = found.curve(reference, key).T
                ax.plot(epoch, factor * mean, color=MUTED, linestyle=(0, (4, 2)), linewidth=1.1, gid="reference")
            epoch, mean, low, high = found.curve(row, key).T
            ax.fill_between(epoch, factor * low, factor * high, color=PALETTE[0], alpha=0.25, linewidth=0)
            ax.plot(epoch, factor * mean, color=PALETTE[0], marker="o", markersize=3, gid=row)
            for anew in found.reinitialised(row):
                ax.axvline(anew - 1, color=INK, linewidth=1.0, linestyle=(0, (1, 1)), gid="anew")
        panels[0].set_ylabel(_wrapped(row), rotation=0, ha="right", va="center")
    for panels, key in zip(axes.T, keys, strict=True):  # the axes of a column are shared
        panels[0].set_title(_CURVES[key][0], loc="left")
        if key == "support":
            panels[0].set_yscale("log")
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        else:
            panels[0].set_ylim(0, max(1.0, 1.05 * max(ax.dataLim.y1 for ax in panels)))
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    missing = [row for row in found.grid["rows"] if row not in rows and row in {run.row for run in found.runs}]
    notes = [f"dashed: {reference}" if reference else "", "band: lowest to highest seed"]
    notes += ["dotted: prototypes set anew" if any(map(found.reinitialised, rows)) else ""]
    notes += [f"no run yet: {', '.join(missing)}" if missing else ""]
    figure.suptitle("; ".join([found.title, *filter(None, notes)]), x=0.01, ha="left", wrap=True)
    return figure


def comparison(found: Findings, corpus: str) -> Figure:
    """EER and FNR of every row with intervals over speakers,
    and paired differences to each baseline."""
    baselines = found.baselines()
    few = found.estimates(corpus).boot is None
    note = f"{corpus}; discs: cosine, open squares: AS-norm; mean over seeds, "
    note += "too few speakers for intervals" if few else "95 % interval over speakers"
    figure, axes = grid_of_axes(1 + len(baselines), len(_COMPARED), _forest_height(found), found, note, sharey=True)
    for line, baseline in zip(axes, (None, *baselines), strict=True):
        _forest(line, found, [corpus], baseline)
    return figure


def verdict(found: Findings) -> Figure:
    """Paired differences of every row to each baseline,
    the mean of all lists that have intervals."""
    baselines, corpora = found.baselines(), found.with_intervals()
    if not (baselines and corpora):
        raise ValueError("it needs a run of a baseline, and a list of enough speakers for intervals")
    note = f"mean of {' and '.join(corpora)}; discs: cosine, open squares: AS-norm; 95 % interval over speakers"
    figure, axes = grid_of_axes(len(baselines), len(_COMPARED), _forest_height(found), found, note, sharey=True)
    for line, baseline in zip(axes, baselines, strict=True):
        _forest(line, found, corpora, baseline)
    return figure


def _forest_height(found: Findings) -> float:
    return 0.6 + 0.27 * len(found.rows())


def _forest(line, found: Findings, corpora: list[str], baseline: str | None) -> None:
    """A panel for each metric: of every row the level (of one list),
    or the difference to the baseline."""
    rows = found.rows()
    for ax, metric in zip(line, _COMPARED, strict=True):
        for kind, shift, look in zip(KINDS, (-0.17, 0.17), ("o", "s"), strict=True):
            lists = [found.estimates(corpus, kind) for corpus in corpora]
            for place, row in enumerate(rows):
                if row != baseline:
                    one = difference(lists, row, baseline, metric) if baseline else lists[0].level(row, metric)
                    _dot(ax, one, place + shift, look, kind)
        if baseline is not None:
            ax.axvline(0, color=MUTED, linewidth=1.0)
        ax.set_xlabel(METRICS[metric][0] if baseline is None else f"{METRICS[metric][0]}, − {baseline}")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_ylim(len(rows) - 0.5, -0.5)


def _dot(ax, estimate: tuple | None, height: float, marker: str, kind: str) -> None:
    """A value with its interval; as-norm is an open square, cosine a filled disc."""
    if estimate is None:
        place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
        ax.text(0.99, height, "n/a", color=MUTED, fontsize=7, **place)
        return
    value, low, high = estimate[:3]
    color = PALETTE[0] if marker == "o" else PALETTE[1]
    ax.plot([low, high], [height] * 2, color=color, linewidth=1.4)
    face = color if marker == "o" else "white"
    ax.plot([value], [height], marker=marker, color=color, markerfacecolor=face, markersize=5, gid=kind)


def grid_of_axes(lines: int, columns: int, height: float, found: Findings, note: str = "", **shared):
    """(figure, axes [lines, columns]); `height` of each line in inches."""
    figure = Figure(figsize=(WIDTH, 1.0 + height * lines), dpi=100, layout="constrained")
    figure.suptitle(f"{found.title}{', ' if note else ''}{note}", x=0.01, ha="left")
    return figure, figure.subplots(lines, columns, squeeze=False, **shared)


def _wrapped(name: str, width: int = 20) -> str:
    """A long name on several lines."""
    lines = [""]
    for word in name.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
