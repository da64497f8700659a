"""The metrics in words, and what of them may be said at all.

Rates are fractions in the files and percent in print. A miss rate at a false-acceptance rate is shown with
the number of false accepts it rests on; with fewer than 10 of them it is not shown at all but marked
"n/a (k false accepts)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS


def verdict(system: Mapping) -> str:
    """The operating points in plain words, never a rate that the trial list cannot support."""
    intervals = (system["intervals"] or {}).get("fnr_at_fpr", [None] * len(system["fnr_at_fpr"]))
    points = sorted(zip(system["fnr_at_fpr"], intervals, strict=True), key=lambda point: -point[0]["fpr"])
    good = [point for point in points if point[0]["supported"]]
    if not good:
        first = points[0][0]
        return (
            f"This trial list cannot tell how many genuine trials are refused at 1 false accept in "
            f"{1 / first['fpr']:,.0f} impostor trials: the rate would rest on "
            f"{false_accepts(first['false_accepts'])}. "
            f"The equal error rate is {percent(system['eer']['value'], 2)} %."
        )
    (first, limits), rest = good[0], good[1:]
    text = f"At 1 false accept in {1 / first['fpr']:,.0f} impostor trials, {percent(first['fnr'], 2)} % of "
    text += f"the genuine trials are refused ({first['misses']:,} of {system['trials']['target']:,}"
    text += f"; {_level(system)} interval {percent(limits[0], 2)} to {percent(limits[1], 2)} %)" if limits else ")"
    text += "".join(f"; at 1 in {1 / e['fpr']:,.0f}, {percent(e['fnr'], 2)} %" for e, _ in rest) + "."
    poor = [f"1 in {1 / e['fpr']:,.0f}" for e, _ in points if not e["supported"]]
    if poor:
        text += f" The trial list cannot tell at {' and '.join(poor)}: "
        text += f"fewer than {MIN_FALSE_ACCEPTS} false accepts."
    return text


def basis(system: Mapping) -> str:
    """What the numbers of a system rest on: its trials, and what was resampled for the intervals."""
    trials = system["trials"]
    text = f"{trials['target']:,} target and {trials['nontarget']:,} nontarget trials"
    if trials["repeated"]:
        text += f" ({trials['repeated']:,} of them repeated lines)"
    if found := system["intervals"]:
        text += f"; {_level(system)} intervals from {resampling(found)}"
        if found["undefined"]:
            text += f", {found['undefined']:,} of which lacked a target or a nontarget trial and were left out"
    elif reason := system.get("no_intervals"):
        text += f"; no intervals: {reason}"
    return text + "."


def resampling(found: Mapping) -> str:
    """How intervals were made, of one system or of a comparison."""
    return f"{found['replicates']:,} resamplings of the {found['speakers']:,} {found['resampled']}"


def false_accepts(count: int) -> str:
    """The number with its noun: "1 false accept", "1,200 false accepts"."""
    return f"{count:,} false accept" + ("" if count == 1 else "s")


def percent(rate: float, digits: int) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * rate:.{digits}f}"


def bracket(limits: Sequence[float] | None, digits: int, factor: float = 1, sign: str = "") -> str:
    """An interval as it stands behind its value; nothing for None.

    Example
    -------
    >>> bracket([0.0412, 0.0688], 2, factor=100), bracket([-0.01, 0.002], 3, sign="+"), bracket(None, 2)
    ('[4.12, 6.88]', '[−0.010, +0.002]', '')
    """
    return f"[{', '.join(number(factor * limit, digits, sign) for limit in limits)}]" if limits else ""


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with a true minus; with ``sign="+"`` one that is positive shows it, and nothing is −0."""
    text = f"{value:{sign}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def power(fpr: float) -> str:
    """0.001 as 1e-3, the way operating points are written in this field."""
    digits, exponent = f"{fpr:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def one_line(text: str) -> str:
    """Printable characters only: a name may hold line ends and lone surrogates, which no HTML or SVG may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def exact(text: str) -> str:
    """Every line and blank kept, as a command needs it; what cannot be printed is marked by U+FFFD."""
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in str(text).splitlines())


def short(name: str, width: int) -> str:
    """A name of at most `width` characters for a figure; one that is cut ends in "…"."""
    line = one_line(name)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _level(system: Mapping) -> str:
    return f"{100 * system['intervals']['level']:g} %"
