"""The report as Markdown, for a paper or an issue: all of the page but its figures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from alpha_sv.files import atomic_write
from alpha_sv.metrics.schema import check_metrics
from alpha_sv.report.glossary import CAPTIONS, glossary
from alpha_sv.report.tables import (
    NONE,
    Cell,
    Section,
    Table,
    comparison_section,
    comparison_tables,
    figures_table,
    summary_table,
    table_sections,
)
from alpha_sv.report.wording import basis, comparison_basis, exact, headline, hints, one_line, percent, verdict


def to_markdown(metrics: Mapping) -> str:
    """The table of all systems in Markdown, with Cllr and actDCF of likelihood ratios.

    Example
    -------
    >>> system = {
    ...     "name": "cosine",
    ...     "eer": {"value": 0.05},
    ...     "min_dcf": [{"p_target": 0.01, "value": 0.4}],
    ...     "fnr_at_fpr": [{"fpr": 0.01, "fnr": 0.125, "false_accepts": 9, "supported": False}],
    ...     "intervals": None,
    ... }
    >>> print(to_markdown({"systems": [system]}))
    | system | EER % | minDCF 0.01 | FNR % @ FPR 1e-2 (false accepts) |
    |:--|--:|--:|--:|
    | cosine | 5.000 | 0.4000 | n/a (9 false accepts) |
    <BLANKLINE>
    """
    return _table(summary_table(metrics["systems"]))


def comparison_markdown(comparison: Mapping) -> str:
    """The sentences and tables of compare.json, or ``comparison`` of metrics.json, in Markdown."""
    tables = "\n".join(f"{_text(table.title)}\n\n{_table(table)}" for table in comparison_tables(comparison))
    return f"{_text(comparison_basis(comparison))}\n\n{tables}"


def training_section(log: Sequence[dict]) -> Section:
    """What the page draws of a training, in six rows: beginning, end, and evenly between."""
    rows = []
    valid = [row for row in log if row["kind"] == "valid" and row.get("eer") is not None]
    chosen = sorted({round(n * (len(valid) - 1) / 5) for n in range(6)}) if valid else []
    for row in (valid[n] for n in chosen):
        near = min((r for r in log if r["kind"] == "train"), key=lambda r: abs(r["step"] - row["step"]), default={})
        cells = [f"{row['step']:,}", percent(row["eer"], 2), *(_logged(near, *field) for field in _LOGGED)]
        rows.append(cells)
    about, found = CAPTIONS["training"][0], []
    if valid:
        best = min(valid, key=lambda row: row["eer"])
        about += f" The lowest is {percent(best['eer'], 2)} %, at step {best['step']:,} of {valid[-1]['step']:,}."
        header = ["step", "EER % on validation trials", *(name for name, *_ in _LOGGED)]
        found = [Table(header, rows, words=0)]
    return Section("Training", about, _TRAINING, found)


_TRAINING = (
    "The loss rises when the margin is raised. An α-divergence loss with α > 1 gives most classes probability exactly "
    "0. loss = 0: examples it is done with. p_y = 0: examples whose own class has probability 0, which is usual at the "
    "start and should become rare."
)
_LOGGED = (
    ("loss", "loss", 1, "{:.3f}"),
    ("learning rate", "lr", 1, "{:.2g}"),
    ("margin", "margin", 1, "{:.2f}"),
    ("classes with p > 0", "support", 1, "{:,.1f}"),
    ("loss = 0, % of examples", "zero_loss", 100, "{:.0f}"),
    ("p_y = 0, % of examples", "zero_target", 100, "{:.0f}"),
)


def _logged(row: Mapping, name: str, key: str, factor: float, form: str) -> str:
    return NONE if row.get(key) is None else form.format(factor * row[key])


def write_markdown(
    path: str | os.PathLike,
    metrics: Mapping,
    title: str = "Speaker verification report",
    facts: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    first: str | None = None,
    log: Sequence[dict] | None = None,
) -> Path:
    """Write the report as one Markdown file; equal input, equal bytes.

    Parameters and errors are those of `alpha_sv.report.write_report`; of the training log there is
    a table instead of curves. Folded tables use ``<details>``, which GitHub and GitLab fold and
    others show as they are.
    """
    check_metrics(metrics, "metrics")
    systems = metrics["systems"]
    system, introduction = headline(systems, first)
    parts = [f"# {_text(title)}", f"**{_text(verdict(system))}**"]
    parts.append(f"{introduction}: **{_text(system['name'])}**. {_text(basis(system))}")
    parts += [f"> {_text(hint)}" for each in systems for hint in hints(each)]
    parts.append(_table(figures_table(system)))
    sections = table_sections(systems, system)
    if metrics.get("comparison"):
        sections.insert(0, comparison_section(metrics["comparison"]))
    if log:
        sections.insert(-1 if sections[-1].heading == "Sources" else len(sections), training_section(log))
    parts += [_section(section) for section in sections]
    if facts:
        parts.append("## Facts\n\n" + "\n".join(f"* {_text(key)}: {_text(value)}" for key, value in facts.items()))
    if paragraphs := [_text(note) for note in notes]:
        parts.append("## Notes\n\n" + "\n\n".join(paragraphs))
    terms = "\n".join(f"* {_text(term)}: {_text(meaning)}" for term, meaning in glossary(system))
    parts.append(f"## How to read this\n\n{_unfold('What the terms mean', terms)}")
    with atomic_write(path) as file:
        file.write("\n\n".join(part.rstrip() for part in parts) + "\n")
    return Path(path)


def _section(section: Section) -> str:
    parts = [f"## {section.heading}", _text(section.about)]
    if section.more:
        parts.append(_unfold("More", _text(section.more)))
    for table in section.tables:
        title, body = _text(table.title), _table(table)
        if table.folded:
            parts.append(_unfold(title, body))
        else:
            parts.append(f"{title}\n\n{body}" if title else body)
    for of, command in section.commands:
        lines = exact(command).split("\n")
        parts.append(f"Command of {_text(of)}:\n\n" + "\n".join(f"    {line}" for line in lines))
    return "\n\n".join(part.rstrip() for part in parts)


def _unfold(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n</details>"


def _table(table: Table) -> str:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (table.header, *table.rows)]
    rule = "|" + ":--|" * table.words + "--:|" * (len(table.header) - table.words)
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _cell(cell: Cell) -> str:
    return _text(cell if isinstance(cell, str) else " ".join(part for part in cell if part))


def _text(text: str) -> str:
    r"""One line in which nothing is markup or a column's end.

    >>> _text("a|b <i> *.txt [x](y)")
    'a\\|b &lt;i&gt; \\*.txt [x]\\(y)'
    """
    line = escape(one_line(text), quote=False)
    return "".join(f"\\{c}" if c in "\\|*`" else c for c in line).replace("](", "]\\(")
