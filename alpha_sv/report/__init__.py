"""From metrics.json and the training log to figures, text, Markdown and one HTML page.

The names are imported when they are first asked for, so that a table on a terminal does not wait
for matplotlib.
"""

import importlib

_NAMES = {
    "FORMAT": "alpha_sv.metrics.schema",
    "ape_plot": "alpha_sv.report.figures.calibration",
    "comparison_markdown": "alpha_sv.report.markdown",
    "comparison_text": "alpha_sv.report.terminal",
    "det_plot": "alpha_sv.report.figures.det",
    "histogram_plot": "alpha_sv.report.figures.histogram",
    "load_log": "alpha_sv.report.load",
    "load_metrics": "alpha_sv.report.load",
    "reliability_plot": "alpha_sv.report.figures.calibration",
    "sparsity_plot": "alpha_sv.report.figures.training",
    "to_markdown": "alpha_sv.report.markdown",
    "to_text": "alpha_sv.report.terminal",
    "training_plot": "alpha_sv.report.figures.training",
    "write_markdown": "alpha_sv.report.markdown",
    "write_report": "alpha_sv.report.page",
}
__all__ = list(_NAMES)


def __getattr__(name: str) -> object:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'alpha_sv.report' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
