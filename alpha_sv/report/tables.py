"""The tables of the report, from metrics to words in cells, and the sections that hold them.

Page, Markdown and terminal print these.

A cell is a text, or a pair: a value and, in small print or behind it, its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpha_sv.metrics.names import metric, metric_of, power
from alpha_sv.metrics.schema import SOURCES
from alpha_sv.report.wording import (
    bracket,
    comparison_basis,
    difference,
    false_accepts,
    finding,
    key_figures,
    number,
    pair_digits,
    percent,
    sentence,
)

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


def figures_table(system: Mapping) -> Table:
    """The key figures of one system, where there is no room for cards."""
    rows = [[f.name, f.about, (f"{f.value} {f.unit}".strip(), f.interval)] for f in key_figures(system)]
    return Table(["key figure", "about", "value"], rows, words=2)


def error_table(systems: Sequence[Mapping]) -> Table:
    """EER, minDCF and FNR at FPR, a row for each system; a dash where one has no entry."""
    keys = _columns(systems)
    rows = [[s["name"], *_errors(s, keys, s["intervals"] or {})] for s in systems]
    return Table(["system", *_error_header(keys)], rows)


def summary_table(systems: Sequence[Mapping]) -> Table:
    """The error table, with Cllr and actDCF if some scores are log-likelihood ratios."""
    errors = error_table(systems)
    if all(s.get("cllr") is None for s in systems):
        return errors
    priors = sorted({e["p_target"] for s in systems for e in s["act_dcf"] or ()})
    rows = []
    for row, s in zip(errors.rows, systems, strict=True):
        actual, cllr = _actual_costs(s, priors)
        rows.append([*row, *actual, cllr])
    return Table([*errors.header, *(metric("act_dcf", p).label for p in priors), "Cllr (bits)"], rows)


def cost_table(systems: Sequence[Mapping]) -> Table:
    """Costs over many priors and, of log-likelihood ratios, how good that claim is."""
    priors = sorted({e["p_target"] for s in systems for e in s["act_dcf"] or ()})
    header = ["system", "EER % (convex hull)", "minCllr (bits)", "C_primary (least)"]
    if any(s["cllr"] is not None for s in systems):
        header += ["Cllr (bits)", "C_primary (actual)", *(metric("act_dcf", p).label for p in priors)]
    rows = []
    for s in systems:
        limits, (actual, cllr) = s["intervals"] or {}, _actual_costs(s, priors)
        cells = [s["name"], percent(s["eer"]["rocch"], 3), _value(s["min_cllr"], limits.get("min_cllr"))]
        cells += [_value(s["c_primary"]["min"]), cllr, _value(s["c_primary"]["act"]), *actual]
        rows.append(cells[: len(header)])
    return Table(header, rows)


def comparison_tables(comparison: Mapping) -> list[Table]:
    """A table for each pair of systems, folded under its sentence."""
    base, tables = comparison["baseline"], []
    for pair in comparison["pairs"]:
        rows = []
        for entry in pair["metrics"]:
            of = metric_of(entry["metric"])
            sides = [number(of.factor * entry[side], pair_digits(of)) for side in ("baseline", "system")]
            name = f"{of.label} %" if of.unit == "%" else of.label
            share, said = f"{100 * entry['sign']:.1f} %", finding(entry["interval"])
            rows.append([name, *sides, difference(of, entry), share, said])
        header = ["metric", base, pair["system"], "difference", "lower in", "finding"]
        tables.append(Table(header, rows, title=sentence(base, pair), folded=True))
    return tables


def condition_table(system: Mapping, folded: bool = False) -> Table:
    """The errors of one system in each group; a group of one kind of trials has only its counts."""
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


def hardest_tables(system: Mapping) -> list[Table]:
    """The lowest target and highest nontarget trials,
    folded, and what the EER threshold makes of them."""
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
        tables.append(Table(["enrolment", "test", "score"], rows, f"{system['name']}: {what}", words=2, folded=True))
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


@dataclass(frozen=True)
class Section:
    """A heading, a sentence about it and `more` to unfold, tables, and commands as (whose, text).

    Narrow tables stand in `pairs`.
    """

    heading: str
    about: str
    more: str = ""
    tables: Sequence[Table] = ()
    commands: Sequence[tuple[str, str]] = ()
    pairs: bool = False


def comparison_section(comparison: Mapping) -> Section:
    """Which system is better, and whether that can be told at all."""
    about = f"Differences to {comparison['baseline']} on the same trials; negative is better."
    return Section("Comparison", about, comparison_basis(comparison), comparison_tables(comparison))


def table_sections(systems: Sequence[Mapping], first: Mapping) -> list[Section]:
    """All systems, conditions, hardest trials and sources; the conditions of `first` are open.

    What there is nothing of is left out.
    """
    ordered = [first, *(system for system in systems if system is not first)]
    conditions = [condition_table(s, folded=s is not first) for s in ordered if s["conditions"]]
    hardest = [table for s in ordered for table in hardest_tables(s) if table.rows]
    files = [table for table in [source_table(systems)] if table.rows]
    parts = [
        Section("All systems", *_ERRORS, [error_table(systems)]),
        Section("Costs and calibration", *_COSTS, [cost_table(systems)]),
        Section("Conditions", *_CONDITIONS, conditions),
        Section("Hardest trials", *_HARDEST, hardest, pairs=True),
        Section("Sources", "The files behind the numbers, by their SHA-256.", "", files, commands(systems)),
    ]
    return [part for part in parts if part.tables or part.commands]


_ERRORS = (
    "In square brackets the interval, in round brackets the false accepts that a rate rests on.",
    "",
)
_COSTS = (
    "What wrong decisions cost over many priors, and what of it is the fault of the calibration.",
    "minCllr is the cost over all priors after the best monotone calibration, C_primary the mean of the DCFs at the "
    "priors 0.01 and 0.005, both normalised. Cllr and the actual costs exist for scores declared to be natural-log "
    "likelihood ratios only; their distance from the minimum is the price of the calibration.",
)
_CONDITIONS = (
    "The same trials by group: mind the numbers of trials.",
    "Each group has thresholds of its own, and no intervals. A group without both kinds of trials has no error rate.",
)
_HARDEST = (
    "Listen to these first: wrong labels and damaged recordings are found among them.",
    "The target trials with the lowest and the nontarget trials with the highest scores. In small print what the EER "
    "threshold makes of each, and by how much of score.",
)


def _of(names: list[str], systems: Sequence[Mapping]) -> str:
    return "all systems" if len(names) == len(systems) > 1 else ", ".join(names)


def _actual_costs(system: Mapping, priors: Sequence[float]) -> tuple[list[Cell], Cell]:
    """actDCF at each prior, and Cllr; dashes where the scores are no likelihood ratios."""
    limits, entries = system["intervals"] or {}, system["act_dcf"] or ()
    pairs = zip(entries, limits.get("act_dcf") or [None] * len(entries), strict=True)
    found = {entry["p_target"]: _value(entry["value"], pair) for entry, pair in pairs}
    return [found.get(p, NONE) for p in priors], _value(system["cllr"], limits.get("cllr"))


def _columns(groups: Sequence[Mapping]) -> tuple[list[float], list[float]]:
    priors = sorted({e["p_target"] for g in groups for e in g["min_dcf"]})
    return priors, sorted({e["fpr"] for g in groups for e in g["fnr_at_fpr"]}, reverse=True)


def _error_header(keys: tuple[list[float], list[float]]) -> list[str]:
    priors, rates = keys
    fnr = [f"FNR % @ FPR {power(rate)} (false accepts)" for rate in rates]
    return [f"{metric('eer').label} %", *(metric("min_dcf", p).label for p in priors), *fnr]


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
