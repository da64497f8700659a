"""The tables of a study, in Markdown: how each row was trained, its errors, and its differences to the baselines."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
from estimates import METRICS
from findings import DEVELOPMENT, Findings
from outcome import KINDS

from alpha_sv.data.files import atomic_write

_COMPARED = ("eer", "fnr at fpr 1e-2")
_REGIME = {"support": ("active speakers", 1), "zero_loss": ("zero loss %", 100), "zero_target": ("p_y = 0 %", 100)}


def result_tables(found: list[Findings]) -> str:
    """Markdown of all that is done."""
    parts = []
    for of in found:
        if of.finished():
            parts.append(f"### {of.model}: training\n\n{_training(of)}")
            for corpus in of.corpora:
                for kind in KINDS:
                    head = f"### {of.model}, {corpus}, {kind}"
                    parts.append("\n".join([f"{head}\n", _errors(of, corpus, kind), *_differences(of, corpus, kind)]))
    return "\n".join(parts)


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- end of name -->` in a document."""
    old = path.read_text(encoding="utf-8")
    pattern = rf"(<!-- {re.escape(name)} -->\n).*(<!-- end of {re.escape(name)} -->)"
    new, count = re.subn(pattern, lambda match: f"{match[1]}{text}{match[2]}", old, flags=re.DOTALL)
    if count != 1:
        raise ValueError(
            f"{path} needs one line <!-- {name} --> and after it one <!-- end of {name} -->, for the tables"
        )
    with atomic_write(path) as file:
        file.write(new)


def _training(found: Findings) -> str:
    """The setting, the development trials, and the sparse regime in the last epoch: means over seeds."""
    tuned = any("tune" in found.grid["rows"][row] for row in found.rows())
    figures = ["development EER %", *(name for name, _ in _REGIME.values()), "minutes"]
    lines = _head("row", *(["setting"] if tuned else []), "seeds", *figures)
    for row in found.rows():
        runs = found.finished(row)
        mean, low, high = found.eer(row, DEVELOPMENT)
        cells = [row, *([_setting(found, row)] if tuned else []), str(len(runs))]
        cells.append(f"{mean:.2f}" + (f" ({low:.2f} to {high:.2f})" if low < high else ""))
        for key, (_, factor) in _REGIME.items():
            curve = found.curve(row, key)
            cells.append(f"{factor * curve[-1, 1]:.1f}" if curve.size else "n/a")
        seconds = [found.done[run.key].get("training_seconds") for run in runs]
        known = [value for value in seconds if value is not None]
        cells.append(f"{np.mean(known) / 60:.1f}" if known else "n/a")
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _setting(found: Findings, row: str) -> str:
    """What the row chose of its `tune`."""
    options = dict(found.finished(row)[0].options)
    return ", ".join(shown(key, options[key]) for key in found.grid["rows"][row].get("tune", {}))


def shown(key: str, value: str) -> str:
    """An option in few words.

    Example
    -------
    >>> shown("loss", "!new:alpha_sv.losses.QMargin {alpha: 1.25, scale: auto}"), shown("margin", "0.2")
    ('QMargin {alpha: 1.25, scale: auto}', 'margin 0.2')
    """
    module = re.match(r"!new:[\w.]*\.(?=\w)", value)
    return value[module.end() :] if module else f"{key} {value}"


def _errors(found: Findings, corpus: str, kind: str) -> str:
    of = found.estimates(corpus, kind)
    lines = _head("row", "seeds", *(name for name, _, _ in METRICS.values()))
    for row in found.rows():
        cells = [_cell(of.level(row, metric), metric) for metric in METRICS]
        lines.append(_line([row, str(len(of.seeds(row))), *cells]))
    return "\n".join(lines) + "\n"


def _differences(found: Findings, corpus: str, kind: str) -> list[str]:
    """One table, or none without baselines."""
    of, rows = found.estimates(corpus, kind), found.rows()
    pairs = [(row, metric) for row in found.grid.get("baselines", ()) if row in rows for metric in _COMPARED]
    lines = _head("difference", *(f"{METRICS[metric][0]}, − {baseline}" for baseline, metric in pairs))
    for row in rows:
        cells = [
            _cell(of.difference(row, baseline, metric), metric, "+") if row != baseline else ""
            for baseline, metric in pairs
        ]
        lines.append(_line([row, *cells]))
    return ["\n".join(lines) + "\n"] if pairs else []


def _head(*names: str) -> list[str]:
    return [_line(names), "|---|" + "--:|" * (len(names) - 1)]


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(estimate: tuple[float, float, float, float] | None, metric: str, sign: str = "") -> str:
    """Mean over seeds, [interval over speakers], and of a level ± standard deviation of one seed."""
    if estimate is None:
        return "n/a"
    form = f"{sign}.{METRICS[metric][2]}f"
    value, low, high, spread = estimate
    interval = "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{interval}" + ("" if sign or math.isnan(spread) else f" ± {spread:{form}}")
