"""The tables of the report, each one a function from metrics to words in cells; page and Markdown print them.

A cell is a text, or a pair: a value and, in small print or behind it, its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpha_sv.metrics.schema import SOURCES
from alpha_sv.report.wording import bracket, false_accepts, number, percent, power

Cell = str | tuple[str, str]
NONE = "–"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header; the first `words` columns hold words, the others numbers.

    `title` stands above it. A `folded` table is shown when its title is opened.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    words: int = 1
    folded: bool = False


def error_table(systems: Sequence[Mapping]) -> Table:
    """EER, minDCF and FNR at FPR, a row a system; a system without some column's entry gets a dash."""
    keys = _columns(systems)
    rows = [[s["name"], *_errors(s, keys, s["intervals"] or {})] for s in systems]
    return Table(["system", *_error_header(keys)], rows)


def cost_table(systems: Sequence[Mapping]) -> Table:
    """Proper-scoring costs and, of scores declared to be log-likelihood ratios, how good that claim is."""
    priors = sorted({e["p_target"] for s in systems for e in s["act_dcf"] or ()})
    header = ["system", "EER % (convex hull)", "minCllr (bits)", "C_primary (least)"]
    if any(s["cllr"] is not None for s in systems):
        header += ["Cllr (bits)", "C_primary (actual)", *(f"actDCF {p:g}" for p in priors)]
    rows = []
    for s in systems:
        limits = s["intervals"] or {}
        act = zip(s["act_dcf"] or (), limits.get("act_dcf") or [None] * len(s["act_dcf"] or ()), strict=True)
        dcf = {e["p_target"]: _value(e["value"], pair) for e, pair in act}
        cells = [s["name"], percent(s["eer"]["rocch"], 3), _value(s["min_cllr"], limits.get("min_cllr"))]
        cells += [_value(s["c_primary"]["min"]), _value(s["cllr"], limits.get("cllr"))]
        cells += [_value(s["c_primary"]["act"]), *(dcf.get(p, NONE) for p in priors)]
        rows.append(cells[: len(header)])
    return Table(header, rows)


def condition_table(system: Mapping, folded: bool = False) -> Table:
    """The errors of one system within each group of the trials; a group of one kind has nothing but its counts."""
    groups = system["conditions"]
    whole = [g for g in groups if g["eer"] is not None]
    keys, llr = _columns(whole), any(g["cllr"] is not None for g in whole)
    header = ["condition", "target", "nontarget", *_error_header(keys), "minCllr (bits)", *["Cllr (bits)"] * llr]
    rows = []
    for g in groups:
        counts = [f"{g['trials'][side]:,}" for side in ("target", "nontarget")]
        if g["eer"] is None:
            cells = ["n/a"] * (len(header) - 3)
        else:
            cells = [*_errors(g, keys, {}), _value(g["min_cllr"]), *[_value(g["cllr"])] * llr]
        rows.append([f"{g['column']} = {g['value']}", *counts, *cells])
    return Table(header, rows, title=system["name"], folded=folded)


def hardest_tables(system: Mapping, folded: bool = False) -> list[Table]:
    """The lowest target and the highest nontarget trials, with what the EER threshold makes of each."""
    threshold, tables = system["eer"]["threshold"], []
    for key, error, what in (
        ("misses", "miss", "lowest target scores"),
        ("false_accepts", "false accept", "highest nontarget scores"),
    ):
        rows = []
        for trial in system["hardest"][key]:
            wrong = (trial["score"] >= threshold) == (error == "false accept")
            distance = number(abs(trial["score"] - threshold), 3)
            finding = f"{error} by {distance}" if wrong else f"right by {distance}"
            rows.append([trial["enroll"], trial["test"], (number(trial["score"], 4), finding)])
        tables.append(Table(["enrolment", "test", "score"], rows, f"{system['name']}: {what}", words=2, folded=folded))
    return tables


def source_table(systems: Sequence[Mapping]) -> Table:
    """Files and hashes behind the numbers; what several systems share stands once."""
    users: dict[tuple[str, str, str], list[str]] = {}
    for kind in SOURCES:
        for s in systems:
            if source := s["sources"].get(kind):
                users.setdefault((kind, source["file"], source["sha256"]), []).append(s["name"])
    rows = [[kind, (file, f"of {_of(names, systems)}"), sha] for (kind, file, sha), names in users.items()]
    return Table(["source", "file", "SHA-256"], rows, words=3)


def commands(systems: Sequence[Mapping]) -> list[tuple[str, str]]:
    """The commands that made the scores or metrics, each with the systems it is of."""
    users: dict[str, list[str]] = {}
    for s in systems:
        if command := s["sources"].get("command"):
            users.setdefault(command, []).append(s["name"])
    return [(_of(names, systems), command) for command, names in users.items()]


def _of(names: list[str], systems: Sequence[Mapping]) -> str:
    return "all systems" if len(names) == len(systems) > 1 else ", ".join(names)


def _columns(groups: Sequence[Mapping]) -> tuple[list[float], list[float]]:
    priors = sorted({e["p_target"] for g in groups for e in g["min_dcf"]})
    return priors, sorted({e["fpr"] for g in groups for e in g["fnr_at_fpr"]}, reverse=True)


def _error_header(keys: tuple[list[float], list[float]]) -> list[str]:
    priors, rates = keys
    fnr = [f"FNR % @ FPR {power(rate)} (false accepts)" for rate in rates]
    return ["EER %", *(f"minDCF {p:g}" for p in priors), *fnr]


def _errors(group: Mapping, keys: tuple[list[float], list[float]], intervals: Mapping) -> list[Cell]:
    priors, rates = keys
    pairs = {key: intervals.get(key, [None] * len(group[key])) for key in ("min_dcf", "fnr_at_fpr")}
    dcf = {e["p_target"]: _value(e["value"], pair) for e, pair in zip(group["min_dcf"], pairs["min_dcf"], strict=True)}
    fnr = {e["fpr"]: _fnr(e, pair) for e, pair in zip(group["fnr_at_fpr"], pairs["fnr_at_fpr"], strict=True)}
    eer = percent(group["eer"]["value"], 3), bracket(intervals.get("eer"), 3, factor=100)
    return [eer, *(dcf.get(p, NONE) for p in priors), *(fnr.get(rate, NONE) for rate in rates)]


def _value(value: float | None, limits: Sequence[float] | None = None) -> Cell:
    return (NONE, "") if value is None else (f"{value:.4f}", bracket(limits, 4))


def _fnr(entry: Mapping, limits: Sequence[float] | None) -> Cell:
    if not entry["supported"]:
        return "n/a", f"({false_accepts(entry['false_accepts'])})"
    return f"{percent(entry['fnr'], 2)} ({entry['false_accepts']:,})", bracket(limits, 2, factor=100)
