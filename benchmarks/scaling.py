"""Time and memory of the heads as speakers and batch grow:
prints a Markdown section, draws results/scaling.svg.

    python benchmarks/scaling.py [--quick]

The measurements are those of head_memory.py at more sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import head_memory
from common import Cell, in_child, table, wants_quick
from hardware import describe
from head_memory import COSFACE, DENSE, GEMM, SPARSE, Measured, measure

from alpha_sv.files import atomic_write

NAMES = {COSFACE: "CosFace", DENSE: "CosineHead", SPARSE: "SparseHead", GEMM: "GEMM"}
FIGURE = Path("results") / "scaling.svg"


@dataclass(frozen=True)
class Size:
    """`classes` at the batch and `batches` at the classes of `middle`."""

    middle: Cell
    classes: tuple[int, ...]
    batches: tuple[int, ...]
    seconds: float  # of one size: with that of head_memory.py, what is measured there is not measured twice


FULL = Size(
    Cell(100_000, 128),
    classes=(1_000, 5_994, 30_000, 100_000, 300_000, 1_000_000),
    batches=(32, 64, 128, 256, 512),
    seconds=head_memory.FULL.seconds,
)
QUICK = Size(Cell(700, 8, 16), (300, 700), (4, 8), seconds=0.0)


@dataclass(frozen=True)
class Results:
    by_classes: dict[int, Measured]
    by_batch: dict[int, Measured]


def measure_all(size: Size) -> Results:
    return Results(
        {classes: measure(replace(size.middle, classes=classes), size.seconds) for classes in size.classes},
        {batch: measure(replace(size.middle, batch=batch), size.seconds) for batch in size.batches},
    )


def draw(results: Results, size: Size) -> str:
    """The figure as SVG; in a process of its own,
    since the pages of matplotlib are no part of a head."""
    from alpha_sv.report.figures.canvas import key, look, stack, style, svg

    with style():
        figure, axes = stack([1.9] * 4, top=0.45, bottom=0.5, gap=0.55)
        for place, (found, label) in enumerate((
            (results.by_classes, f"speakers, B = {size.middle.batch}"),
            (results.by_batch, f"batch, C = {size.middle.classes:,}"),
        )):  # fmt: skip
            time_ax, memory_ax = axes[2 * place : 2 * place + 2]
            marks = []
            for number, name in enumerate(NAMES):
                colour, marker = look(number)
                line = {"color": colour, "marker": marker, "markersize": 4}
                marks += time_ax.plot(list(found), [1e3 * m.times[name].median for m in found.values()], **line)
                memory_ax.plot(list(found), [max(m.peaks[name], 0.1) for m in found.values()], **line)
            time_ax.set(ylabel="ms")
            memory_ax.set(ylabel="extra MB", xlabel=label)
            for ax in (time_ax, memory_ax):
                ax.set(xscale="log", yscale="log")
                ax.set_xticks(list(found), [f"{count:,}" for count in found])
                ax.yaxis.set_major_formatter("{x:g}")
                ax.minorticks_off()
        key(figure, marks, list(NAMES.values()), (0.12, 0.995), ncols=4, columnspacing=1.0)
        return svg(figure, "scaling", "Time and memory of the heads against speakers and batch")


def section(results: Results, size: Size) -> str:
    with atomic_write(FIGURE) as file:
        file.write(in_child(draw, results, size))

    def block(what: str, found: dict[int, Measured]) -> str:
        columns = [(name, unit) for name in NAMES for unit in ("ms", "MB")]
        rows = [
            [f"{what} = {count:,}"]
            + [f"{1e3 * m.times[n].median:,.1f}" if unit == "ms" else f"{m.peaks[n]:,.1f}" for n, unit in columns]
            + [f"{m.errors[SPARSE]:.0e}"]
            for count, m in found.items()
        ]
        return table(["", *(f"{NAMES[n]} {unit}" for n, unit in columns), "error"], rows)

    middle = size.middle
    return "\n\n".join([
        "## scaling: time and memory against speakers and batch",
        f"Forward + backward (GEMM: forward), D = {middle.dim}, {middle.kind} prototypes; medians in ms, extra peak "
        "memory in MB, and the error of SparseHead, as in head_memory. The script also draws `results/scaling.svg`.",
        describe(),
        f"Speakers, at B = {middle.batch}:",
        block("C", results.by_classes),
        f"Batch, at C = {middle.classes:,}:",
        block("B", results.by_batch),
    ])  # fmt: skip


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
