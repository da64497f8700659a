"""Draws docs/demo.svg, the picture of the README, from what `make demo` has measured.

    make demo && python docs/site/picture.py

It is the DET plot of the report, less the calibrated scores, whose curve is that of AS-norm.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from alpha_sv.files import atomic_write
from alpha_sv.report import det_plot, load_metrics

ROOT = Path(__file__).parents[2]


def draw(metrics: str) -> str:
    """The SVG; numbers of its paths are rounded to a tenth of a point."""
    systems = [system for system in load_metrics(metrics)["systems"] if system["name"] != "calibrated"]
    svg = det_plot(systems).replace("<svg ", '<svg font-family="DejaVu Sans, Arial, sans-serif" ', 1)
    if "xmlns=" not in svg[:500]:
        svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    number = re.compile(r"(?<=[ \"\n])(-?\d+\.\d)\d+(?=[ \"\n])")
    return re.sub(r"<[^>]*>", lambda tag: number.sub(r"\1", tag[0]), svg)  # not in the words between the tags


if __name__ == "__main__":
    source = sys.argv[1] if len(sys.argv) > 1 else ROOT / "results/demo/metrics.json"
    with atomic_write(ROOT / "docs/demo.svg") as file:
        file.write(draw(str(source)) + "\n")
