"""The tables of a study in folds: means over the folds,
each compared within itself (see `folds.py`)."""

from __future__ import annotations

from estimates import METRICS, Estimates, over_lists
from findings import Findings
from outcome import KINDS
from tables import cell, head, line

SHOWN = ("eer", "fnr at fpr 1e-2", "fnr at fpr 1e-3")


def across_folds(found: list[Findings]) -> dict[str, str]:
    """Markdown: levels (each corpus, cosine → AS-norm) and
    differences (of the lists that have intervals, together)."""
    found = [of for of in found if of.finished()]
    if not found:
        return {}
    return {"levels": _levels(found), "differences": "\n".join(_differences(found))}


def lists_of(found: list[Findings], kind: str, corpora=None) -> list[Estimates]:
    """One list of trials for each fold and corpus."""
    return [of.estimates(corpus, kind) for of in found for corpus in corpora or of.with_intervals()]


def _levels(found: list[Findings]) -> str:
    lines = head("row", "folds × seeds", *(f"{c}: {METRICS[m][0]}" for c in found[0].corpora for m in SHOWN))
    for row in _rows(found):
        cells, size = [], ""
        for corpus in found[0].corpora:
            for metric in SHOWN:
                both = [over_lists(lists_of(found, kind, [corpus]), row, None, metric) for kind in KINDS]
                cells.append(" → ".join(f"{level[0]:.{METRICS[metric][2]}f}" if level else "n/a" for level, *_ in both))
                size = f"{both[0][1]} × {both[0][2]}"
        lines.append(line([row, size, *cells]))
    return "\n".join(lines) + "\n"


def _differences(found: list[Findings]) -> list[str]:
    tables = []
    for kind in KINDS:
        lists = lists_of(found, kind)
        for baseline in found[0].grid.get("baselines", ()):
            lines = head(
                f"difference to {baseline}, {kind}", "lists × seeds", *(METRICS[metric][0] for metric in SHOWN)
            )
            for row in _rows(found):
                if row != baseline:
                    all_of = [over_lists(lists, row, baseline, metric) for metric in SHOWN]
                    cells = [cell(of[0], metric, "+") for of, metric in zip(all_of, SHOWN, strict=True)]
                    lines.append(line([row, f"{all_of[0][1]} × {all_of[0][2]}", *cells]))
            tables.append("\n".join(lines) + "\n")
    return tables


def _rows(found: list[Findings]) -> list[str]:
    return [row for row in found[0].grid["rows"] if any(of.finished(row) for of in found)]
