"""The losses on given cosines beside cross-entropy,
CosFace and the entmax package: prints a Markdown section.

    python benchmarks/solver_speed.py [--quick]

Forward and backward of a batch of cosines. The entmax package has no margin,
so it is compared with `Entmax`, whose posterior is the same: its logits are ours, s·cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from common import (
    KINDS,
    WORLDS,
    Cell,
    Target,
    Times,
    in_child,
    interleave,
    ratio_target,
    relative_error,
    table,
    wants_quick,
    world,
)
from hardware import describe
from torch import Tensor

from alpha_sv.device import keep_memory
from alpha_sv.functional.margins import margin_logits
from alpha_sv.functional.plain import plain_loss
from alpha_sv.losses import A3M, AMSoftmax, Entmax, MarginLoss, NormSoftmax, QMargin

try:
    import entmax
except ImportError:
    entmax = None

ALPHAS = (1.25, 1.5, 1.75, 2.0)
SCALE, MARGIN = 32.0, 0.2
COSFACE = "CosFace"
DEFAULT_ALLOCATOR = ("CosFace", "QMargin α = 1.5")


@dataclass(frozen=True)
class Size:
    classes: tuple[int, ...]
    batch: int
    default_allocator: int  # classes at which the default allocator is shown
    seconds: float = 8.0  # of one comparison
    entmax_cells: int = 6_000_000  # cosines at which the batch of the entmax package ends
    error_cells: int = 1_000_000  # and of the reference in float64


FULL = Size((1_000, 5_994, 20_000, 100_000, 1_000_000), 128, default_allocator=100_000)
QUICK = Size((600,), 8, default_allocator=600, seconds=0.0)


@dataclass(frozen=True)
class Candidate:
    """`run` of cosines and labels gives the mean loss; `same_as` is what it should be."""

    run: Callable[[Tensor, Tensor], Tensor]
    same_as: MarginLoss


@dataclass(frozen=True)
class Measured:
    times: dict[str, Times]
    errors: dict[str, float]


def cosface(cosines: Tensor, labels: Tensor) -> Tensor:
    """The fastest plain formulation we know."""
    margin = cosines.new_full((len(labels), 1), -MARGIN)
    return F.cross_entropy(SCALE * cosines.scatter_add(1, labels[:, None], margin), labels)


def cosface_mixed(cosines: Tensor, labels: Tensor) -> Tensor:
    """As most toolkits write it: a mix, by a one-hot matrix,
    of the logits with the margin and those without."""
    own = torch.zeros_like(cosines).scatter_(1, labels[:, None], 1.0)
    return F.cross_entropy(SCALE * (own * (cosines - MARGIN) + (1.0 - own) * cosines), labels)


def losses() -> dict[str, Candidate]:
    dense = AMSoftmax(SCALE, MARGIN)
    ours = {
        f"{cls.__name__} α = {alpha:g}": cls(alpha=alpha, scale="auto", margin=MARGIN)
        for cls, alpha in product((QMargin, A3M), ALPHAS)
    }
    return {
        COSFACE: Candidate(cosface, dense),
        "CosFace, one-hot mix": Candidate(cosface_mixed, dense),
        "cross-entropy": Candidate(lambda c, y: F.cross_entropy(SCALE * c, y), NormSoftmax(SCALE)),
        **{name: Candidate(loss, loss) for name, loss in ours.items()},
    }


def entmax_losses() -> dict[str, Candidate]:
    found = {}
    for alpha in ALPHAS if entmax else ():
        ours, sort = Entmax(alpha=alpha), {1.5: entmax.entmax15_loss, 2.0: entmax.sparsemax_loss}.get(alpha)
        found[f"Entmax α = {alpha:g}"] = Candidate(ours, ours)
        found[f"entmax_bisect_loss α = {alpha:g}"] = Candidate(
            lambda c, y, a=alpha, s=ours.scale: entmax.entmax_bisect_loss(s * c, y, a).mean(), ours
        )
        if sort:
            name = f"{sort.__name__} (sorts) α = {alpha:g}"
            found[name] = Candidate(lambda c, y, f=sort, s=ours.scale: f(s * c, y).mean(), ours)
    return found


def value_and_gradient(candidate: Candidate, cosines: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    cosines = cosines.detach().requires_grad_()
    loss = candidate.run(cosines, labels)
    loss.backward()
    return loss.detach(), cosines.grad


def plain(loss: MarginLoss) -> Candidate:
    """The readable solver over all classes."""

    def run(cosines: Tensor, labels: Tensor) -> Tensor:
        logits, log_q = margin_logits(cosines, labels, scale=loss.scale, margin=loss.margin, place=loss.place)
        return plain_loss(logits, labels, loss.alpha, log_q).mean()

    return Candidate(run, loss)


def measure(cell: Cell, size: Size) -> Measured:
    embeddings, weight, labels = world(cell)
    cosines = embeddings @ F.normalize(weight).T
    keep_memory()
    times, errors = {}, {}
    for group, cells in ((losses(), None), (entmax_losses(), size.entmax_cells)):
        rows = cell.batch if cells is None else max(1, min(cell.batch, cells // cell.classes))
        part = cosines[:rows], labels[:rows]
        runs = {name: lambda one=one, part=part: value_and_gradient(one, *part) for name, one in group.items()}
        times |= interleave(runs, size.seconds) if runs else {}
        rows = max(1, min(rows, size.error_cells // cell.classes))
        for name, one in group.items():
            truth = value_and_gradient(plain(one.same_as), cosines[:rows].double(), labels[:rows])
            found, largest = value_and_gradient(one, cosines[:rows], labels[:rows]), one.same_as.scale / rows
            errors[name] = relative_error(found, truth, (1.0, largest))
    return Measured(times, errors)


def measure_default_allocator(cell: Cell, size: Size) -> dict[str, Times]:
    embeddings, weight, labels = world(cell)
    cosines, group = embeddings @ F.normalize(weight).T, losses()
    return interleave(
        {name: lambda one=group[name]: value_and_gradient(one, cosines, labels) for name in DEFAULT_ALLOCATOR},
        size.seconds,
    )


Results = dict[Cell, Measured]


def measure_all(size: Size) -> Results:
    cells = [Cell(classes, size.batch, kind=kind) for kind, classes in product(KINDS, size.classes)]
    return {cell: in_child(measure, cell, size) for cell in cells}


def targets(results: Results) -> list[Target]:
    """At C = 5,994 and 100,000, for both kinds of cosines."""

    def ratio(what: str, limit: float, classes: int, above: str, below: str, at_most: bool) -> Target:
        times = {cell.kind: found.times for cell, found in results.items() if cell.classes == classes}
        return ratio_target(f"{what}, C = {classes:,}", limit, times, above, below, at_most)

    def against_cosface(alpha: float, limit: float, classes: int) -> Target:
        name = f"QMargin α = {alpha:g}"
        return ratio(f"time of {name} / CosFace", limit, classes, name, COSFACE, True)

    def against_entmax(alpha: float, limit: float, theirs: str) -> Target:
        name = f"Entmax α = {alpha:g}"
        return ratio(f"time of {theirs} / {name}", limit, 5_994, theirs, name, False)

    return [
        *(against_cosface(alpha, 1.1 if alpha == 1.5 else 1.5, 5_994) for alpha in ALPHAS),
        *(against_entmax(alpha, 60, f"entmax_bisect_loss α = {alpha:g}") for alpha in ALPHAS),
        against_entmax(1.5, 3, "entmax15_loss (sorts) α = 1.5"),
        *(against_cosface(alpha, 0.4, 100_000) for alpha in ALPHAS),
    ]


def section(results: Results, size: Size) -> str:
    def cell_text(times: Times, unit: Times) -> str:
        ratio = times.median / unit.median
        digits = 2 if ratio < 10 else 0
        return f"{1e3 * times.median:,.2f} / {1e3 * times.least:,.2f} · {ratio:,.{digits}f}"

    def block(kind: str, names: list[str], unit_of: Callable[[str], str]) -> str:
        cells = {cell.classes: found for cell, found in results.items() if cell.kind == kind}
        rows = [
            [
                name,
                *(cell_text(found.times[name], found.times[unit_of(name)]) for found in cells.values()),
                f"{max(found.errors[name] for found in cells.values()):.0e}",
            ]
            for name in names
        ]
        return table([f"{kind} cosines", *(f"C = {classes:,}" for classes in cells), "error"], rows)

    cell = Cell(size.default_allocator, size.batch, kind="random")
    default = in_child(measure_default_allocator, cell, size)
    parts = [
        "## solver_speed: the losses on given cosines",
        f"B = {size.batch}, forward + backward. Each entry: median / minimum over the rounds in ms · ratio of the "
        f"medians to CosFace. Ours are called as a user calls them, margin {MARGIN}, scale auto. Error: of the "
        "value (relative above 1 nat, else in nats) and of the gradient (over s/B, the most it can be), against the "
        f"plain solver in float64. {WORLDS}",
        describe(),
        *(block(kind, list(losses()), lambda _: COSFACE) for kind in KINDS),
        f"The same with the default allocator, {cell}: "
        + "; ".join(f"{name} {cell_text(times, default[COSFACE])}" for name, times in default.items())
        + ".",
    ]
    if entmax:
        parts += [
            f"The entmax package, at the same posterior, no margin, B at most {size.entmax_cells:,} / C. The ratio is "
            "to our loss of the same α.",
            *(block(kind, list(entmax_losses()), lambda name: f"Entmax α{name.partition('α')[2]}") for kind in KINDS),
        ]
    else:
        parts.append("The entmax package is not installed (`pip install entmax`), so it is not compared with.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    size = QUICK if wants_quick(__doc__) else FULL
    print(section(measure_all(size), size))
