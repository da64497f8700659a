"""Is one system better than another? The paired differences as a sentence and a table.

All metrics are errors or costs: lower is better. A difference counts as one when its interval leaves out 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from alpha_sv.report.wording import bracket, number, resampling
from alpha_sv.report.tables import Table

_NAMES = (
    (r"eer", "EER"), (r"min_dcf (.*)", r"minDCF \1"), (r"act_dcf (.*)", r"actDCF \1"),
    (r"fnr at fpr (.*)", r"FNR at FPR \1"), (r"min_cllr", "minCllr"), (r"cllr", "Cllr"),
)  # fmt: skip


def comparison_tables(comparison: Mapping) -> list[Table]:
    """A table for each pair of systems, folded under its sentence."""
    base, tables = comparison["baseline"], []
    for pair in comparison["pairs"]:
        rows = []
        for entry in pair["metrics"]:
            (factor, digits), limits = _scale(entry["metric"]), entry["interval"]
            name = f"{metric_name(entry['metric'])} %" if factor == 100 else metric_name(entry["metric"])
            sides = [number(factor * entry[side], digits) for side in ("baseline", "system")]
            difference = number(factor * entry["difference"], digits, "+"), bracket(limits, digits, factor, "+")
            rows.append([name, *sides, difference, f"{100 * entry['sign']:.1f} %", _finding(limits)])
        header = ["metric", base, pair["system"], "difference", "lower in", "finding"]
        tables.append(Table(header, rows, title=sentence(base, pair), folded=True))
    return tables


def sentence(baseline: str, pair: Mapping) -> str:
    """What a pair's differences say, in words.

    Example
    -------
    >>> eer = {"metric": "eer", "difference": -0.008, "interval": [-0.012, -0.003]}
    >>> dcf = {"metric": "min_dcf 0.01", "difference": 0.01, "interval": [-0.02, 0.04]}
    >>> sentence("A", {"system": "B", "metrics": [eer, dcf]})
    'B is better than A at EER: −0.80 points [−1.20, −0.30]. They cannot be told apart at minDCF 0.01.'
    >>> sentence("A", {"system": "B", "metrics": [dcf]})
    'B and A cannot be told apart at minDCF 0.01.'
    """
    found: dict[str, list[str]] = {"better": [], "worse": [], "cannot be told apart": []}
    for entry in pair["metrics"]:
        (factor, digits), limits = _scale(entry["metric"]), entry["interval"]
        value = number(factor * entry["difference"], digits, "+") + (" points" if factor == 100 else "")
        text, finding = metric_name(entry["metric"]), _finding(limits)
        if finding in ("better", "worse"):
            text += f": {value} {bracket(limits, digits, factor, '+')}"
        found[finding].append(text)
    name, parts = pair["system"], []
    for finding in ("better", "worse"):
        if found[finding]:
            parts.append(f"{'It' if parts else name} is {finding} than {baseline} at {_list(found[finding])}.")
    if found["cannot be told apart"]:
        who = "They" if parts else f"{name} and {baseline}"
        alike = found["cannot be told apart"]
        where = _list(alike) if parts or len(alike) == 1 else f"any of the {len(alike)} metrics"
        parts.append(f"{who} cannot be told apart at {where}.")
    return " ".join(parts)


def comparison_basis(comparison: Mapping) -> str:
    """How the differences were made and when one counts."""
    return (
        f"Differences (system − {comparison['baseline']}; negative is better) on the same trials, with "
        f"{100 * comparison['level']:g} % intervals from {resampling(comparison)}, the same for both systems. Two "
        f"systems are told apart where the interval leaves out 0; among many differences a few do so by chance."
    )


def metric_name(metric: str) -> str:
    """``min_dcf 0.01`` as it is written elsewhere in the report: minDCF 0.01."""
    return next((re.sub(old, new, metric) for old, new in _NAMES if re.fullmatch(old, metric)), metric)


def _scale(metric: str) -> tuple[int, int]:
    """Factor and digits: error rates in percent, costs as they are."""
    return (100, 2) if metric == "eer" or metric.startswith("fnr") else (1, 4)


def _finding(limits: list[float]) -> str:
    return "better" if limits[1] < 0 else "worse" if limits[0] > 0 else "cannot be told apart"


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
