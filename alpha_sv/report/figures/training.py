"""Figures about the training: from the rows of train_log.jsonl to an SVG string."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from alpha_sv.report.figures.canvas import MUTED, PALETTE, stack, style, svg


def training_plot(log: Sequence[dict]) -> str:
    """Loss, validation EER, learning rate and margin over the training steps.

    Parameters
    ----------
    log : sequence of dict
        Rows of train_log.jsonl. The thick loss curve is the mean over a centred window of
        `loss_window` rows.

    Returns
    -------
    str
        An ``<svg>`` element; a panel without any value says so.

    Example
    -------
    >>> "no values in the log" in training_plot(
    ...     [{"kind": "train", "step": 1, "loss": 7.5, "lr": 0.001}]
    ... )
    True
    """
    with style():
        figure, axes = stack([1.7, 1.15, 0.75, 0.75], top=0.3, bottom=0.6, gap=0.36, sharex=True)
        titles = ("loss", "EER on validation trials, %", "learning rate", "margin")
        for ax, title in zip(axes, titles, strict=True):
            ax.set_title(title, loc="left")
        step, loss = column(log, "train", "loss")
        if _has_values(axes[0], loss):
            _line(axes[0], step, loss, color=PALETTE[4], linewidth=0.7, alpha=0.7, label="as logged")
            mean = smoothed(loss, loss_window(log))
            _line(axes[0], step, mean, color=PALETTE[0], label="running mean", gid="loss")
            _legend(axes[0])
        step, eer = column(log, "valid", "eer")
        if _has_values(axes[1], eer):
            _line(axes[1], step, 100 * eer, color=PALETTE[1], marker="o", gid="valid-eer")
            best = int(np.nanargmin(eer))
            axes[1].set_title(f"lowest {100 * eer[best]:.2f} % at step {step[best]:,}", loc="right")
        for ax, key, color in ((axes[2], "lr", PALETTE[2]), (axes[3], "margin", PALETTE[3])):
            step, values = column(log, "train", key)
            if _has_values(ax, values):
                _line(ax, step, values, color=color, gid=key)
                ax.set_ylim(0, 1.15 * np.nanmax(values) or 1.0)
                ax.yaxis.set_major_locator(MaxNLocator(3))
                ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        _step_axis(axes[-1], log)
        return svg(figure, "training", "Loss, validation EER, learning rate and margin over training steps")


def sparsity_plot(log: Sequence[dict]) -> str:
    """How sparse the posterior is: active classes, zero losses, targets without probability.

    Parameters
    ----------
    log : sequence of dict
        Rows of train_log.jsonl, of which the train rows' ``support`` (mean number of classes with p
        > 0), ``zero_loss`` and ``zero_target`` (fractions of the examples) are drawn.

    Returns
    -------
    str
        An ``<svg>`` element; a panel without any value says so.

    Example
    -------
    >>> row = {
    ...     "kind": "train",
    ...     "step": 1,
    ...     "support": 80.5,
    ...     "zero_loss": 0.1,
    ...     "zero_target": 0.2,
    ... }
    >>> "p_y = 0" in sparsity_plot([row])
    True
    """
    with style():
        figure, (top, bottom) = stack([2.45, 2.45], top=0.3, bottom=0.6, gap=0.53, sharex=True)
        top.set_title("classes with p > 0, mean over the batch", loc="left")
        step, support = column(log, "train", "support")
        support = np.where(support > 0, support, np.nan)  # a log axis has no place for 0
        if _has_values(top, support):
            _line(top, step, support, color=PALETTE[0], gid="support")
            top.set_yscale("log")
            low, high = np.nanmin(support), np.nanmax(support)
            top.set_ylim(0.9 * low, 1.1 * high)
            wide = high / low > 30
            top.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
            top.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
            top.yaxis.set_minor_formatter(NullFormatter())
        bottom.set_title("examples, %", loc="left")
        pairs = (
            ("zero_loss", "loss = 0: learnt", PALETTE[2]),
            ("zero_target", "p_y = 0: out of reach", PALETTE[1]),
        )
        series = [(label, color, key, *column(log, "train", key)) for key, label, color in pairs]
        if _has_values(bottom, np.concatenate([values for *_, values in series])):
            for label, color, key, step, values in series:
                _line(bottom, step, 100 * values, color=color, label=label, gid=key.replace("_", "-"))
            bottom.set_ylim(0, max(1.0, 1.1 * bottom.dataLim.y1))
            _legend(bottom)
        _step_axis(bottom, log)
        return svg(figure, "sparsity", "Support size and zero-loss fraction over training steps")


def column(log: Sequence[dict], kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (int64) and values (float64) of one field, by step; missing and null values are NaN.

    A run that was resumed from a checkpoint goes back some steps: what it had logged beyond that
    point is dropped.

    Example
    -------
    >>> rows = [
    ...     {"step": 10, "lr": 9.0},
    ...     {"step": 20, "lr": 8.0},
    ...     {"step": 15, "lr": 3.0},
    ...     {"step": 25},
    ... ]
    >>> column([{"kind": "train", **row} for row in rows], "train", "lr")
    (array([10, 15, 25]), array([ 9.,  3., nan]))
    """
    steps, values = [], []
    for row in log:
        if row["kind"] == kind:
            while steps and steps[-1] >= row["step"]:
                steps.pop()
                values.pop()
            steps.append(row["step"])
            values.append(math.nan if row.get(key) is None else float(row[key]))
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def loss_window(log: Sequence[dict]) -> int:
    """Rows in the running mean of the loss: about a twentieth of them, odd."""
    return len(column(log, "train", "loss")[0]) // 40 * 2 + 1


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean over an odd window, which shrinks at both ends; NaNs are left out.

    Example
    -------
    >>> smoothed(np.array([0.0, 3.0, 6.0, 3.0]), 3)
    array([1.5, 3. , 4. , 4.5])
    """
    half = window // 2
    known = np.isfinite(values)
    total, count = (np.concatenate([[0.0], np.cumsum(x)]) for x in (np.where(known, values, 0.0), known))
    last = np.minimum(np.arange(len(values)) + half + 1, len(values))
    first = np.maximum(np.arange(len(values)) - half, 0)
    weight = count[last] - count[first]
    return np.where(weight > 0, (total[last] - total[first]) / np.maximum(weight, 1), np.nan)


def _has_values(ax, values: np.ndarray) -> bool:
    if np.isfinite(values).any():
        return True
    ax.text(0.5, 0.5, "no values in the log", transform=ax.transAxes, ha="center", va="center", color=MUTED)
    ax.set_yticks([])
    return False


def _line(ax, step: np.ndarray, values: np.ndarray, marker: str = "", **style) -> None:
    """A line; with a single value, which has no line, a dot."""
    ax.plot(step, values, marker="o" if np.isfinite(values).sum() == 1 else marker, markersize=3.5, **style)


def _legend(ax) -> None:
    """Above the axes at the right, where no curve can be."""
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2, "handlelength": 1.4}
    ax.legend(ncols=2, columnspacing=1.2, **place)


def _step_axis(ax, log: Sequence[dict]) -> None:
    ax.set(xlabel="training step", xlim=(0, 1.02 * max((row["step"] for row in log), default=1) or 1))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
