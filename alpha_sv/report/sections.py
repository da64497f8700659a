"""The parts of the report that are words and tables, in their order: the page and the Markdown both print these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpha_sv.report.comparison import comparison_basis, comparison_tables
from alpha_sv.report.tables import (
    Table,
    commands,
    condition_table,
    cost_table,
    error_table,
    hardest_tables,
    source_table,
)


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph about it, tables, and commands as (whose, text); narrow tables stand in pairs."""

    heading: str
    about: str
    tables: Sequence[Table] = ()
    commands: Sequence[tuple[str, str]] = ()
    pairs: bool = False


def comparison_section(comparison: Mapping) -> Section:
    """Which system is better, and whether that can be told at all."""
    return Section("Comparison", comparison_basis(comparison), comparison_tables(comparison))


def table_sections(systems: Sequence[Mapping]) -> list[Section]:
    """All systems, conditions, hardest trials and sources; where each system has a table, all but the first are folded.

    What there is nothing of is left out.
    """
    conditions = [condition_table(s, folded=k > 0) for k, s in enumerate(systems) if s["conditions"]]
    hardest = [table for k, s in enumerate(systems) for table in hardest_tables(s, folded=k > 0) if table.rows]
    parts = [
        Section("All systems", _ERRORS, [error_table(systems)]),
        Section("Costs and calibration", _COSTS, [cost_table(systems)]),
        Section("Conditions", _CONDITIONS, conditions),
        Section("Hardest trials", _HARDEST, hardest, pairs=True),
        Section("Sources", _SOURCES, [table for table in [source_table(systems)] if table.rows], commands(systems)),
    ]
    return [part for part in parts if part.tables or part.commands]


_ERRORS = "In round brackets the false accepts that a rate rests on, in square brackets its interval."
_COSTS = (
    "minCllr is the cost over all priors after the best monotone calibration, C_primary the mean of the DCFs at the "
    "priors 0.01 and 0.005, both normalised. Cllr and the actual costs exist for scores declared to be natural-log "
    "likelihood ratios only; their distance from the minimum is the price of the calibration."
)
_CONDITIONS = (
    "The same trials by group, at thresholds of their own and without intervals: mind the numbers of trials. A group "
    "without both kinds of trials has no error rate."
)
_HARDEST = (
    "Listen to these first: the target trials with the lowest and the nontarget trials with the highest scores. Wrong "
    "labels, damaged recordings and other faults of the data are found among them. In small print what the EER "
    "threshold makes of each, and by how much of score."
)
_SOURCES = "The files behind the numbers, by their SHA-256."
