"""From tables and sections to HTML. All text that comes from outside passes `text_html`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from alpha_sv.report.sections import Section
from alpha_sv.report.wording import bracket, exact, false_accepts, one_line, percent, power
from alpha_sv.report.tables import Cell, Table


def text_html(text: str) -> str:
    """Text as text: markup is escaped, what cannot be printed is a blank."""
    return escape(one_line(text))


def section_html(section: Section) -> str:
    """A section with its tables; a folded one opens by a click on its title."""
    tables = []
    for table in section.tables:
        title, body = _prose(table.title), _table_html(table, section.heading)
        if table.folded:
            tables.append(f"<details><summary>{title}</summary>{body}</details>")
        else:
            tables.append("<div>" + (f"<h3>{title}</h3>" if title else "") + body + "</div>")
    kind = " class=pairs" if section.pairs else ""
    parts = [f"<h2>{section.heading}</h2><p class=about>{_prose(section.about)}</p><div{kind}>{''.join(tables)}</div>"]
    for of, command in section.commands:
        parts.append(f"<h3>Command of {text_html(of)}</h3><pre>{escape(exact(command))}</pre>")
    return f"<section>{''.join(parts)}</section>"


def figures_html(figures: Sequence[tuple[str, str, str]]) -> str:
    """Inlined figures, (svg, heading, caption) each, in two columns; on a phone, in the order given.

    A figure goes below whichever column is shorter at that point.
    """
    columns, heights = ["", ""], [0.0, 0.0]
    for place, (svg, heading, caption) in enumerate(figures):
        shorter = heights.index(min(heights))
        heights[shorter] += float(re.search(r'height="([\d.]+)pt"', svg)[1]) + 100  # points; heading and caption
        body = f"<h2>{heading}</h2>{svg}<figcaption>{caption}</figcaption>"
        columns[shorter] += f"<figure style='order: {place}'>{body}</figure>"
    return f"<section class=figures><div>{columns[0]}</div><div>{columns[1]}</div></section>"


def facts_html(facts: Mapping[str, str]) -> str:
    """Names and values, in their order."""
    return "<dl>" + "".join(f"<dt>{text_html(k)}</dt><dd>{text_html(v)}</dd>" for k, v in facts.items()) + "</dl>"


def cards(system: Mapping) -> str:
    """The key figures of one system, each with its interval and what it rests on."""
    return "".join(_cards(system))


def _cards(system: Mapping) -> Iterable[str]:
    limits = system["intervals"] or {}
    fnr_limits = limits.get("fnr_at_fpr", [None] * len(system["fnr_at_fpr"]))
    for entry, pair in sorted(zip(system["fnr_at_fpr"], fnr_limits, strict=True), key=lambda e: -e[0]["fpr"])[:3]:
        name, rests = f"FNR at FPR {power(entry['fpr'])}", false_accepts(entry["false_accepts"])
        if entry["supported"]:
            yield _card(name, percent(entry["fnr"], 2), "%", bracket(pair, 2, factor=100), f"rests on {rests}")
        else:
            yield _card(name, "<span class=na>n/a</span>", "", "", f"would rest on {rests}")
    about = f"both errors equal, threshold {system['eer']['threshold']:.4g}"
    yield _card("EER", percent(system["eer"]["value"], 2), "%", bracket(limits.get("eer"), 2, factor=100), about)
    dcf_limits = limits.get("min_dcf", [None] * len(system["min_dcf"]))
    dcf, pair = min(zip(system["min_dcf"], dcf_limits, strict=True), key=lambda e: e[0]["p_target"])
    about = f"p<sub>target</sub> = {dcf['p_target']:g}; 1 = no better than blind"
    yield _card("minDCF", f"{dcf['value']:.3f}", "", bracket(pair, 3), about)
    if system["cllr"] is None:
        about = "over all priors, after the best calibration"
        yield _card("minCllr", f"{system['min_cllr']:.3f}", "bits", bracket(limits.get("min_cllr"), 3), about)
    else:
        about = f"over all priors; calibrated at best {system['min_cllr']:.3f}"
        yield _card("Cllr", f"{system['cllr']:.3f}", "bits", bracket(limits.get("cllr"), 3), about)


def _card(name: str, value: str, unit: str, interval: str, about: str) -> str:
    unit = f" <small>{unit}</small>" if unit else ""
    interval = f"<p class=interval>{interval}</p>" if interval else ""
    return f"<div class=card><h3>{name}</h3><p class=value>{value}{unit}</p>{interval}<p>{about}</p></div>"


def _table_html(table: Table, label: str) -> str:
    words = ["" if index >= table.words else " class=words" for index in range(len(table.header))]
    head = zip(words, table.header, strict=True)
    head = "".join(f"<th scope=col{kind}>{text_html(cell).replace(' (', '<br>(')}</th>" for kind, cell in head)
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
    """Text in which no 1e-3 is broken between two lines."""
    return re.sub(r"\d+e-\d+", r"<span class=whole>\g<0></span>", text_html(text))
