"""The report as one HTML page, without scripts or anything fetched from elsewhere.

All text that comes from outside is escaped and reduced to one printable line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from alpha_sv.data.files import atomic_write
from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.report.curves import loss_window, sparsity_plot, training_plot
from alpha_sv.report.plots import det_plot, histogram_plot
from alpha_sv.report.read import check_metrics
from alpha_sv.report.summary import false_accepts, one_line, percent, power, supported, table, verdict


def write_report(
    path: str | os.PathLike,
    metrics: Mapping,
    log: Sequence[dict] | None = None,
    title: str = "Speaker verification report",
    facts: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    main: str | None = None,
) -> Path:
    """Write one HTML page: verdict, key figures, curves, table, facts and how to read them.

    Equal input, equal bytes.

    Parameters
    ----------
    path : path-like
        The page, written atomically.
    metrics : dict
        As `load_metrics` returns it.
    log : list of dict, optional
        As `load_log` returns it; None, or one without rows, leaves out the training curves and says so.
    title : str
        Heading of the page.
    facts : dict of str, optional
        What the numbers belong to, in the order to be shown: command, corpus, loss, file hashes.
    notes : iterable of str
        Remarks, a paragraph each.
    main : str, optional
        Name of the system that the verdict and the cards are about; if not given the first one, whatever its
        score.

    Raises
    ------
    ValueError
        `metrics` lacks something, or there is no system called `main`.
    """
    check_metrics(metrics, "metrics")
    systems = metrics["systems"]
    chosen = [s for s in systems if main is None or s["name"] == main]
    if not chosen:
        names = ", ".join(repr(s["name"]) for s in systems)
        raise ValueError(f"write_report: no system is called {main!r}; pass main= one of {names}")
    system, log = chosen[0], list(log or ())
    remarks = "".join(f"<p>{_text(note)}</p>" for note in notes)
    trials = f"{system['trials']['target']:,} target and {system['trials']['nontarget']:,} nontarget trials"
    figures = [
        _figure(det_plot(systems), "Error trade-off", _DET_CAPTION),
        _figure(histogram_plot(systems), "Scores", _HISTOGRAM_CAPTION),
    ]
    if log:
        caption = _TRAINING_CAPTION.format(window=loss_window(log))
        figures.append(_figure(training_plot(log), "Training", caption))
        figures.append(_figure(sparsity_plot(log), "Sparsity", _SPARSITY_CAPTION))
    parts = [
        f"<header><p class=eyebrow>Speaker verification</p><h1>{_text(title)}</h1>",
        f"<p class=verdict>{_text(verdict(system))}</p>",
        f"<p class=about>System <b>{_text(system['name'])}</b>, measured on {trials}.</p></header>",
        f"<section aria-label='Key figures' class=cards>{''.join(_cards(system))}</section>",
        f"<section class=figures>{''.join(figures)}</section>",
        "" if log else "<p class=about>There is no training log, hence no training curves.</p>",
        f"<section><h2>All systems</h2>{_html_table(systems)}</section>",
        f"<section><h2>Facts</h2>{_html_facts(facts)}</section>" if facts else "",
        f"<section><h2>Notes</h2>{remarks}</section>" if remarks else "",
        f"<section class=reading><h2>How to read this</h2>{_reading(system)}</section>",
    ]
    body = "\n".join(part for part in parts if part)
    with atomic_write(path) as file:
        file.write(_PAGE.format(title=_text(title), css=_CSS, body=body))
    return Path(path)


def _cards(system: Mapping) -> Iterable[str]:
    threshold = f"{system['eer']['threshold']:.4g}"
    yield _card("EER", percent(system["eer"]["value"], 2), "%", f"both errors equal, threshold {threshold}")
    dcf = min(system["min_dcf"], key=lambda e: e["p_target"])
    prior = f"p<sub>target</sub> = {dcf['p_target']:g}; 1 = no better than blind"
    yield _card("minDCF", f"{dcf['value']:.3f}", "", prior)
    for entry in sorted(system["fnr_at_fpr"], key=lambda e: -e["fpr"])[:2]:
        name, basis = f"FNR at FPR {power(entry['fpr'])}", false_accepts(entry["false_accepts"])
        if supported(entry):
            yield _card(name, percent(entry["fnr"], 2), "%", f"rests on {basis}")
        else:
            yield _card(name, "<span class=na>n/a</span>", "", f"would rest on {basis}")


def _card(name: str, value: str, unit: str, about: str) -> str:
    unit = f" <small>{unit}</small>" if unit else ""
    return f"<div class=card><h3>{name}</h3><p class=value>{value}{unit}</p><p>{about}</p></div>"


def _html_table(systems: Sequence[Mapping]) -> str:
    header, rows = table(systems)
    lines = ["".join(f"<th scope=col>{escape(cell).replace(' (', '<br>(')}</th>" for cell in header)]
    for name, *cells in rows:
        marked = [(" class=na" if cell.startswith("n/a") else "", escape(cell)) for cell in cells]
        cells = [f"<td{na}>{cell}</td>" for na, cell in marked]
        lines.append(f"<th scope=row>{_text(name)}</th>{''.join(cells)}")
    head, *body = [f"<tr>{line}</tr>" for line in lines]
    table_html = f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    return f"<div class=scroll tabindex=0 role=region aria-label='All systems'>{table_html}</div>"


def _html_facts(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _figure(svg: str, heading: str, caption: str) -> str:
    return f"<figure><h2>{heading}</h2>{svg}<figcaption>{caption}</figcaption></figure>"


def _reading(system: Mapping) -> str:
    target, nontarget = system["trials"]["target"], system["trials"]["nontarget"]
    miss, false_accept = f"{100 / target:.2g}", f"{100 / nontarget:.2g}"
    return f"""<dl>
<dt>Trial</dt><dd>One comparison of two recordings. Target (genuine): both are of the same speaker. Nontarget
(impostor): they are of two speakers. A trial is accepted when its score reaches the threshold.</dd>
<dt>EER</dt><dd>Equal error rate: the error where misses and false accepts are equally frequent. One number to
compare systems by, but rarely a point at which a system is used.</dd>
<dt>minDCF</dt><dd>Lowest cost over all thresholds when target trials have prior p<sub>target</sub> and both
errors cost 1, divided by the cost of the better blind decision, min(p, 1 − p): 0 is perfect, 1 is no better
than not listening.</dd>
<dt>FNR at FPR</dt><dd>Misses (false non-matches) at the lowest threshold that keeps false accepts within the
given rate. Nothing is interpolated. In brackets: the number of false accepts at that threshold.</dd>
<dt>n/a</dt><dd>Fewer than {MIN_FALSE_ACCEPTS} false accepts: a rate that rests on so few events is uncertain
by a third or more, so none is stated.</dd>
<dt>Resolution</dt><dd>With {target:,} target and {nontarget:,} nontarget trials one more miss adds {miss} % to
the miss rate, one more false accept {false_accept} % to the false acceptance rate. Trials that share a speaker
are not independent: the true uncertainty is larger than these counts suggest.</dd>
</dl>"""


def _text(text: str) -> str:
    return escape(one_line(text))


_DET_CAPTION = f"""Each curve shows every choice of threshold; lower and further left is better. The axes are
stretched so that normally distributed scores give straight lines. The marks on the diagonal are the EERs,
triangles the minDCF points, dotted vertical lines the false acceptance rates of the table; what lies beyond
the axes, such as a rate of 0, is left out. In the grey area, and where a curve is dotted, fewer than
{MIN_FALSE_ACCEPTS} false accepts support it: do not compare systems there."""


_HISTOGRAM_CAPTION = """Both areas are 1, so the shapes can be compared although there are many more nontarget
trials. What counts is the overlap: target scores left of the dashed threshold are misses, nontarget scores
right of it false accepts. Scores of different systems live on different scales."""


_TRAINING_CAPTION = """The thick loss curve is a running mean (window: {window} of the logged rows). Loss
rises when the margin is raised; it is the EER on held-out speakers that should fall. If it rises while the
loss falls, the model is learning the training speakers by heart."""


_SPARSITY_CAPTION = """An α-divergence loss with α &gt; 1 gives most classes probability exactly 0. Above: how
many classes are left, on a logarithmic axis. Below: examples the loss is done with (loss = 0), and examples
whose own class has probability 0, which is usual at the start and should become rare."""


_CSS = """
:root { color-scheme: light; --ink: #1f2328; --muted: #57606a; --line: #d8dee4; --accent: #0b5c94; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); line-height: 1.55; -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1, h2, h3, p, figure, dl, dd { margin: 0; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; font-weight: 650; margin-bottom: .6rem; }
section { margin-top: 2.5rem; }
.eyebrow { color: var(--accent); font-size: .85rem; font-weight: 600; margin-bottom: .3rem; }
.verdict { font-size: 1.2rem; line-height: 1.5; max-width: 54rem; margin-top: 1.1rem; padding-left: 1rem;
  border-left: 4px solid var(--accent); text-wrap: pretty; }
.about { color: var(--muted); margin-top: .9rem; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; margin-top: 1.8rem; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem; }
.card h3 { font-size: .9rem; font-weight: 600; color: var(--muted); }
.card .value { font-size: 2rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
.card small { font-size: 1.1rem; font-weight: 500; color: var(--muted); }
.card p { font-size: .85rem; line-height: 1.4; color: var(--muted); }
.card .value { color: var(--ink); }
.na, .card .value .na { color: var(--muted); font-weight: 400; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 2.5rem 2rem; }
figure { min-width: 0; max-width: 680px; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption { color: var(--muted); font-size: .9rem; margin-top: .6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { font-size: .85rem; font-weight: 600; color: var(--muted); vertical-align: bottom;
  line-height: 1.35; border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 600; min-width: 8rem; max-width: 22rem; white-space: normal;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(7rem, 10rem) 1fr; }
dt, dd { padding: .45rem 0; border-top: 1px solid var(--line); min-width: 0; overflow-wrap: anywhere; }
dt { color: var(--muted); font-weight: 600; padding-right: 1rem; }
dd { font-variant-numeric: tabular-nums; }
.reading dl { max-width: 60rem; }
@media (max-width: 640px) {
  main { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .verdict { font-size: 1.08rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .7rem; }
  .card .value { font-size: 1.6rem; }
  dl { grid-template-columns: 1fr; }
  dd { border-top: 0; padding-top: 0; }
}
@media print { figure, .card, tr { break-inside: avoid; } main { max-width: none; padding: 0; } }
"""


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
