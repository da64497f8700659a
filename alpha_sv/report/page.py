"""The report as one HTML page, without scripts or anything fetched from elsewhere.

All text that comes from outside passes `text_html`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from alpha_sv.files import atomic_write
from alpha_sv.metrics.schema import check_metrics
from alpha_sv.report.figures.calibration import ape_plot, reliability_plot
from alpha_sv.report.figures.det import MOST_BARS, det_plot
from alpha_sv.report.figures.histogram import histogram_plot
from alpha_sv.report.figures.training import loss_window, sparsity_plot, training_plot
from alpha_sv.report.glossary import CAPTIONS, glossary
from alpha_sv.report.tables import Cell, Section, Table, comparison_section, table_sections
from alpha_sv.report.wording import KeyFigure, basis, exact, headline, hints, key_figures, one_line, verdict


def write_report(
    path: str | os.PathLike,
    metrics: Mapping,
    log: Sequence[dict] | None = None,
    title: str = "Speaker verification report",
    facts: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    first: str | None = None,
) -> Path:
    """Write one HTML page: verdict, key figures, comparison, curves, tables and sources.

    Equal input, equal bytes.

    Parameters
    ----------
    path : path-like
        The page, written atomically.
    metrics : dict
        As `load_metrics` returns it.
    log : list of dict, optional
        As `load_log` returns it; None, or one without rows, leaves out the training curves and says
        so.
    title : str
        Heading of the page.
    facts : dict of str, optional
        What else there is to know, in the order to be shown: corpus, loss, hardware.
    notes : iterable of str
        Remarks, a paragraph each.
    first : str, optional
        Name of the system that verdict and key figures are of; by default the one with the lowest
        EER.

    Raises
    ------
    ValueError
        `metrics` lacks something, or has no system called `first`.
    """
    check_metrics(metrics, "metrics")
    systems, comparison, log = metrics["systems"], metrics.get("comparison"), list(log or ())
    system, introduction = headline(systems, first)
    remarks = "".join(f"<p>{text_html(note)}</p>" for note in notes)
    warnings = "".join(f"<p class=hint>{text_html(hint)}</p>" for each in systems for hint in hints(each))
    terms = facts_html(dict(glossary(system)))
    parts = [
        f"<header><p class=eyebrow>Speaker verification</p><h1>{text_html(title)}</h1>",
        f"<p class=verdict>{_prose(verdict(system))}</p>",
        f"<p class=about>{introduction}: <b>{text_html(system['name'])}</b>. {text_html(basis(system))}</p>",
        f"{warnings}</header>",
        f"<section aria-label='Key figures' class=cards>{''.join(map(_card, key_figures(system)))}</section>",
        section_html(comparison_section(comparison)) if comparison else "",
        figures_html(list(_figures(systems, log))),
        "" if log else "<p class=about>There is no training log, hence no training curves.</p>",
        *(section_html(section) for section in table_sections(systems, system)),
        f"<section><h2>Facts</h2>{facts_html(facts)}</section>" if facts else "",
        f"<section><h2>Notes</h2>{remarks}</section>" if remarks else "",
        f"<section class=reading><h2>How to read this</h2>{_unfold('What the terms mean', terms)}</section>",
    ]
    body = "\n".join(part for part in parts if part)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    with atomic_write(path) as file:
        file.write(_PAGE.format(title=text_html(title), css=style, body=body))
    return Path(path)


def _figures(systems: Sequence[dict], log: Sequence[dict]) -> Iterable[tuple[str, str, str]]:
    yield det_plot(systems), "Error trade-off", _caption("det", bars=MOST_BARS)
    yield histogram_plot(systems), "Scores", _caption("histogram")
    if calibrated := [s for s in systems if s["calibration"]]:
        yield ape_plot(calibrated), "Calibration", _caption("ape")
        yield reliability_plot(calibrated), "Reliability", _caption("reliability")
    if log:
        yield training_plot(log), "Training", _caption("training", window=loss_window(log))
        yield sparsity_plot(log), "Sparsity", _caption("sparsity")


def _caption(figure: str, **numbers: int) -> str:
    short, long = CAPTIONS[figure]
    return _about(short, long.format(**numbers), "figcaption")


def _about(short: str, more: str, tag: str = "div") -> str:
    """A sentence, and behind a disclosure the rest."""
    rest = f"<details class=more><summary>More</summary><p>{_prose(more)}</p></details>" if more else ""
    return f"<{tag} class=about><p>{_prose(short)}</p>{rest}</{tag}>"


def _unfold(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def text_html(text: str) -> str:
    """Text as text: markup is escaped, what cannot be printed is a blank."""
    return escape(one_line(text))


def section_html(section: Section) -> str:
    """A section with its tables; a folded one opens by a click on its title."""
    tables = []
    for table in section.tables:
        title, body = _prose(table.title), _table_html(table, section.heading)
        if table.folded:
            tables.append(_unfold(title, body))
        else:
            tables.append("<div>" + (f"<h3>{title}</h3>" if title else "") + body + "</div>")
    kind = " class=pairs" if section.pairs else ""
    about = _about(section.about, section.more)
    parts = [f"<h2>{section.heading}</h2>{about}<div{kind}>{''.join(tables)}</div>"]
    for of, command in section.commands:
        parts.append(f"<h3>Command of {text_html(of)}</h3><pre>{escape(exact(command))}</pre>")
    return f"<section>{''.join(parts)}</section>"


def figures_html(figures: Sequence[tuple[str, str, str]]) -> str:
    """Inlined figures, (svg, heading, caption) each, in two columns; on a phone in one.

    A figure goes below whichever column is shorter at that point.
    """
    columns, heights = ["", ""], [0.0, 0.0]
    for place, (svg, heading, caption) in enumerate(figures):
        shorter = heights.index(min(heights))
        heights[shorter] += float(re.search(r'height="([\d.]+)pt"', svg)[1]) + 100  # points; heading and caption
        columns[shorter] += f"<figure style='order: {place}'><h2>{heading}</h2>{svg}{caption}</figure>"
    return f"<section class=figures><div>{columns[0]}</div><div>{columns[1]}</div></section>"


def facts_html(facts: Mapping[str, str]) -> str:
    """Names and values, in their order."""
    return "<dl>" + "".join(f"<dt>{text_html(k)}</dt><dd>{text_html(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _card(figure: KeyFigure) -> str:
    value = "<span class=na>n/a</span>" if figure.value == "n/a" else figure.value
    unit = f" <small>{figure.unit}</small>" if figure.unit else ""
    interval = f"<p class=interval>{figure.interval}</p>" if figure.interval else ""
    return (
        f"<div class=card><h3>{figure.name}</h3><p class=value>{value}{unit}</p>{interval}<p>{figure.about}</p></div>"
    )


def _table_html(table: Table, label: str) -> str:
    words = ["" if index >= table.words else " class=words" for index in range(len(table.header))]
    head = zip(words, table.header, strict=True)
    head = "".join(f"<th scope=col{kind}>{_prose(cell).replace(' (', '<br>(')}</th>" for kind, cell in head)
    rows = []
    for first, *rest in table.rows:
        cells = "".join(_cell_html(cell, kind) for cell, kind in zip(rest, words[1:], strict=True))
        rows.append(f"<tr><th scope=row>{_breakable(first)}</th>{cells}</tr>")
    kind = " class=listing" if table.words > 1 else ""
    html = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class=scroll tabindex=0 role=region aria-label='{label}'>{html}</div>"


def _cell_html(cell: Cell, kind: str) -> str:
    value, small = (cell, "") if isinstance(cell, str) else cell
    if kind and re.fullmatch("[0-9a-f]{64}", value):  # shown in part, selected and copied whole
        return f"<td{kind}><code title={value}>{value}</code></td>"
    kind = kind or (" class=na" if value == "n/a" else "")
    return f"<td{kind}>{_breakable(value)}{f'<small>{text_html(small)}</small>' if small else ''}</td>"


def _breakable(text: str) -> str:
    """Text, best broken between the folders of a path."""
    return text_html(text).replace("/", "/<wbr>")


def _prose(text: str) -> str:
    """Text in which neither 1e-3 nor 5 % is broken between two lines."""
    whole = re.sub(r"\d+e-\d+", r"<span class=whole>\g<0></span>", text_html(text))
    return re.sub(r"(\d) %", "\\1\u00a0%", whole)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
