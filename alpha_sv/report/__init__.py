"""From metrics.json and the training log to figures, a Markdown table and one self-contained HTML page."""

from alpha_sv.report.curves import sparsity_plot, training_plot
from alpha_sv.report.page import write_report
from alpha_sv.report.plots import det_plot, histogram_plot
from alpha_sv.report.read import FORMAT, load_log, load_metrics
from alpha_sv.report.summary import to_markdown

__all__ = [
    "FORMAT",
    "det_plot",
    "histogram_plot",
    "load_log",
    "load_metrics",
    "sparsity_plot",
    "to_markdown",
    "training_plot",
    "write_report",
]
