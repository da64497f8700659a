"""The report as one HTML page, without scripts or anything fetched from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alpha_sv.files import atomic_write
from alpha_sv.report.figures.calibration import ape_plot, reliability_plot
from alpha_sv.report.figures.training import loss_window, sparsity_plot, training_plot
from alpha_sv.report.figures.det import det_plot
from alpha_sv.report.elements import cards, facts_html, figures_html, section_html, text_html
from alpha_sv.report.figures.histogram import histogram_plot
from alpha_sv.report.read import check_metrics
from alpha_sv.report.reading import (
    APE_CAPTION,
    DET_CAPTION,
    HISTOGRAM_CAPTION,
    RELIABILITY_CAPTION,
    SPARSITY_CAPTION,
    TRAINING_CAPTION,
    reading,
)
from alpha_sv.report.sections import comparison_section, table_sections
from alpha_sv.report.stylesheet import CSS
from alpha_sv.report.wording import basis, verdict


def write_report(
    path: str | os.PathLike,
    metrics: Mapping,
    log: Sequence[dict] | None = None,
    title: str = "Speaker verification report",
    facts: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Path:
    """Write one HTML page: verdict, key figures, comparison, curves, tables, sources and how to read them.

    Verdict and key figures are those of the first system. Equal input, equal bytes.

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
        What else there is to know, in the order to be shown: corpus, loss, hardware.
    notes : iterable of str
        Remarks, a paragraph each.

    Raises
    ------
    ValueError
        `metrics` lacks something.
    """
    check_metrics(metrics, "metrics")
    systems, comparison, log = metrics["systems"], metrics.get("comparison"), list(log or ())
    system = systems[0]
    remarks = "".join(f"<p>{text_html(note)}</p>" for note in notes)
    parts = [
        f"<header><p class=eyebrow>Speaker verification</p><h1>{text_html(title)}</h1>",
        f"<p class=verdict>{text_html(verdict(system))}</p>",
        f"<p class=about>System <b>{text_html(system['name'])}</b>: {text_html(basis(system))}</p></header>",
        f"<section aria-label='Key figures' class=cards>{cards(system)}</section>",
        section_html(comparison_section(comparison)) if comparison else "",
        figures_html(list(_figures(systems, log))),
        "" if log else "<p class=about>There is no training log, hence no training curves.</p>",
        *(section_html(section) for section in table_sections(systems)),
        f"<section><h2>Facts</h2>{facts_html(facts)}</section>" if facts else "",
        f"<section><h2>Notes</h2>{remarks}</section>" if remarks else "",
        f"<section class=reading><h2>How to read this</h2>{reading(system)}</section>",
    ]
    body = "\n".join(part for part in parts if part)
    with atomic_write(path) as file:
        file.write(_PAGE.format(title=text_html(title), css=CSS, body=body))
    return Path(path)


def _figures(systems: Sequence[dict], log: Sequence[dict]) -> Iterable[tuple[str, str, str]]:
    yield det_plot(systems), "Error trade-off", DET_CAPTION
    yield histogram_plot(systems), "Scores", HISTOGRAM_CAPTION
    if calibrated := [s for s in systems if s["calibration"]]:
        yield ape_plot(calibrated), "Calibration", APE_CAPTION
        yield reliability_plot(calibrated), "Reliability", RELIABILITY_CAPTION
    if log:
        yield training_plot(log), "Training", TRAINING_CAPTION.format(window=loss_window(log))
        yield sparsity_plot(log), "Sparsity", SPARSITY_CAPTION


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
