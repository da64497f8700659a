"""From metrics.json and the training log to figures, Markdown and one self-contained HTML page."""

from alpha_sv.report.figures.calibration import ape_plot, reliability_plot
from alpha_sv.report.figures.training import sparsity_plot, training_plot
from alpha_sv.report.figures.det import det_plot
from alpha_sv.report.figures.histogram import histogram_plot
from alpha_sv.report.markdown import comparison_markdown, to_markdown, write_markdown
from alpha_sv.report.page import write_report
from alpha_sv.report.read import FORMAT, load_log, load_metrics

__all__ = [
    "FORMAT",
    "ape_plot",
    "comparison_markdown",
    "det_plot",
    "histogram_plot",
    "load_log",
    "load_metrics",
    "reliability_plot",
    "sparsity_plot",
    "to_markdown",
    "training_plot",
    "write_markdown",
    "write_report",
]
