"""What every figure stands on: colours, settings, a stack of axes, the way to an SVG string.

The strings are deterministic: fixed id salt, no date, and matplotlib's own defaults whatever the
user's matplotlibrc says. Labels stay text, so the page that inlines a figure decides the font and a
reader can search. The object API is used throughout, pyplot's global state is never touched.
Colours are those of Okabe and Ito (jfly.uni-koeln.de/color), told apart with every common colour
blindness.

Example
-------
>>> with style():
...     figure, (ax,) = stack([1.0], top=0.1, bottom=0.5)
...     svg(figure, "empty", "An empty panel").startswith(
...         '<svg role="img" aria-label="An empty panel"'
...     )
True
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.artist import Artist
from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
INK, MUTED = "#24292f", "#5b646e"
_WIDTH, _LEFT, _RIGHT = 5.4, 0.72, 0.2  # inches: at the width of a phone the labels are still readable
AXES_WIDTH = _WIDTH - _LEFT - _RIGHT
KEY_ROW = 0.22  # inches, a line of a legend above the axes
_RC = {
    "svg.hashsalt": "alpha_sv", "svg.fonttype": "none", "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "grid.linewidth": 0.7, "lines.linewidth": 1.6, "legend.frameon": False,
    "grid.color": "#e4e7eb",
    **dict.fromkeys(("font.size", "axes.titlesize", "legend.fontsize"), 10),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), "#9aa3ad"),
}  # fmt: skip


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The settings of every figure, in force inside the ``with`` only."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        # the labels stay text, and a browser has more glyphs than the font that only measures them
        # here
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcParams.update(_RC)
        yield


def stack(heights: Sequence[float], top: float, bottom: float, gap: float = 0.0, sharex: bool = False):
    """A column of axes as wide as the figure, with the given heights and margins in inches."""
    total = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure, axes, y = Figure(figsize=(_WIDTH, total)), [], total - top
    for height in heights:
        box = (_LEFT / _WIDTH, (y - height) / total, AXES_WIDTH / _WIDTH, height / total)
        axes.append(figure.add_axes(box, sharex=axes[0] if sharex and axes else None))
        y -= height + gap
    for ax in axes[:-1] if sharex else ():
        ax.tick_params(labelbottom=False)
    return figure, axes


def look(index: int) -> tuple[str, str]:
    """Colour and marker of a system: one for all figures, another for each of the first 49."""
    return PALETTE[index % 7], "osDPXpH"[(index + index // 7) % 7]


def key(figure: Figure, marks: Sequence[Artist], names: Sequence[str], corner: tuple[float, float], **layout) -> None:
    """A legend whose upper left corner is at `corner`, in fractions of the figure."""
    place = {"loc": "upper left", "borderaxespad": 0.0, "handlelength": 1.8}
    # names are set afterwards: Legend leaves out labels that begin with an underscore
    legend = figure.legend(marks, ["-"] * len(names), bbox_to_anchor=corner, **place, **layout)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def svg(figure: Figure, kind: str, description: str) -> str:
    """The figure as an <svg> element whose ids begin with `kind`: several can share a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    text = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    ids = re.compile(r'(\bid="|href="#|url\(#)')
    # only inside tags: a system may be called id="
    text = re.sub(r"<[^>]*>", lambda tag: ids.sub(rf"\1{kind}-", tag[0]), text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
