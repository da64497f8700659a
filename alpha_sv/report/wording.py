"""The metrics in words and figures in print, and what of them may be said at all.

Rates are fractions in the files and percent in print. A miss rate at a false-acceptance rate is
shown with the number of false accepts it rests on; with fewer than 10 of them it is not shown at
all but marked "n/a (k false accepts)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS
from alpha_sv.metrics.names import Metric, metric, metric_of


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
    """What the numbers of a system rest on: its trials, and what was resampled."""
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


class KeyFigure(NamedTuple):
    """A number of a system: its name, the number (or n/a) with its unit, interval, a remark."""

    name: str
    value: str
    unit: str
    interval: str
    about: str


def headline(systems: Sequence[Mapping], chosen: str | None = None) -> tuple[Mapping, str]:
    """The system that a report begins with, chosen or of the lowest EER, and its introduction.

    Raises
    ------
    ValueError
        No system has the chosen name.

    Example
    -------
    >>> systems = [{"name": "a", "eer": {"value": 0.2}}, {"name": "b", "eer": {"value": 0.1}}]
    >>> headline(systems)
    ({'name': 'b', 'eer': {'value': 0.1}}, 'Of 2 systems the one with the lowest EER')
    """
    if chosen is None:
        best = min(systems, key=lambda system: system["eer"]["value"])
        return best, f"Of {len(systems)} systems the one with the lowest EER" if len(systems) > 1 else "System"
    for system in systems:
        if system["name"] == chosen:
            return system, "System"
    raise ValueError(f"no system is called {chosen!r}; there is {', '.join(repr(s['name']) for s in systems)}")


def key_figures(system: Mapping) -> list[KeyFigure]:
    """Rates at low false acceptance, EER, minDCF, Cllr; what has no support comes last."""
    limits, found, lacking = system["intervals"] or {}, [], []
    fnr_limits = limits.get("fnr_at_fpr", [None] * len(system["fnr_at_fpr"]))
    for entry, pair in sorted(zip(system["fnr_at_fpr"], fnr_limits, strict=True), key=lambda e: -e[0]["fpr"])[:3]:
        name, rests = metric("fnr_at_fpr", entry["fpr"]).label, false_accepts(entry["false_accepts"])
        if entry["supported"]:
            value, interval = percent(entry["fnr"], 2), bracket(pair, 2, factor=100)
            found.append(KeyFigure(name, value, "%", interval, f"rests on {rests}"))
        else:
            lacking.append(KeyFigure(name, "n/a", "", "", f"would rest on {rests}"))
    about = f"both errors equal, threshold {system['eer']['threshold']:.4g}"
    value = percent(system["eer"]["value"], 2)
    found.append(KeyFigure("EER", value, "%", bracket(limits.get("eer"), 2, factor=100), about))
    dcf_limits = limits.get("min_dcf", [None] * len(system["min_dcf"]))
    dcf, pair = min(zip(system["min_dcf"], dcf_limits, strict=True), key=lambda e: e[0]["p_target"])
    label, about = metric("min_dcf", dcf["p_target"]).label, "1 is no better than not listening"
    found.append(KeyFigure(label, f"{dcf['value']:.3f}", "", bracket(pair, 3), about))
    if system["cllr"] is None:
        about, field = "over all priors, after the best calibration", "min_cllr"
    else:
        about, field = f"over all priors; calibrated at best {system['min_cllr']:.3f}", "cllr"
    label, interval = metric(field).label, bracket(limits.get(field), 3)
    return [*found, KeyFigure(label, f"{system[field]:.3f}", "bits", interval, about), *lacking]


def hints(system: Mapping) -> list[str]:
    """What a reader should check before believing the numbers of a system.

    Example
    -------
    >>> hints({"name": "cosine", "eer": {"value": 0.94}})  # doctest: +ELLIPSIS
    ['cosine: the EER is 94.00 %, above 50 %. The scores may be distances, ...']
    >>> hints({"name": "cosine", "eer": {"value": 0.04}})
    []
    """
    if system["eer"]["value"] <= 0.5:
        return []
    return [
        f"{system['name']}: the EER is {percent(system['eer']['value'], 2)} %, above 50 %. The scores may be "
        "distances, which are low for the same speaker, or the labels exchanged: change the sign of the scores, or "
        "correct the labels."
    ]


def sentence(baseline: str, pair: Mapping) -> str:
    """What a pair's differences say, in words; the first difference of each kind also in numbers.

    Example
    -------
    >>> eer = {"metric": "eer", "difference": -0.008, "interval": [-0.012, -0.003]}
    >>> dcf = {"metric": "min_dcf 0.01", "difference": 0.01, "interval": [-0.02, 0.04]}
    >>> sentence("A", {"system": "B", "metrics": [eer, dcf]}).split(". ")[0]
    'B is better than A at EER: −0.80 points [−1.20, −0.30]'
    >>> sentence("A", {"system": "B", "metrics": [dcf]})
    'B and A cannot be told apart at minDCF 0.01.'
    """
    found: dict[str, list[str]] = {"better": [], "worse": [], "cannot be told apart": []}
    for entry in pair["metrics"]:
        of, said = metric_of(entry["metric"]), finding(entry["interval"])
        text = of.label
        if said in ("better", "worse") and not found[said]:
            value, interval = difference(of, entry)
            text += f": {value}{' points' if of.unit == '%' else ''} {interval}"
        found[said].append(text)
    name, parts = pair["system"], []
    for said in ("better", "worse"):
        if found[said]:
            parts.append(f"{'It' if parts else name} is {said} than {baseline} at {_list(found[said])}.")
    if alike := found["cannot be told apart"]:
        who = "They" if parts else f"{name} and {baseline}"
        where = _list(alike) if parts or len(alike) == 1 else f"any of the {len(alike)} metrics"
        parts.append(f"{who} cannot be told apart at {where}.")
    return " ".join(parts)


def comparison_basis(comparison: Mapping) -> str:
    """How the differences were made and when one counts."""
    return (
        f"Differences (system − {comparison['baseline']}; negative is better) on the same trials, with "
        f"{100 * comparison['level']:g} % intervals from {resampling(comparison)}, the same for both systems. Two "
        f"systems are told apart where the interval leaves out 0; among many differences a few do so by chance."
    )


def difference(of: Metric, entry: Mapping) -> tuple[str, str]:
    """The difference of a pair in print, and its interval; of rates in points to two decimals."""
    digits = pair_digits(of)
    return number(of.factor * entry["difference"], digits, "+"), bracket(entry["interval"], digits, of.factor, "+")


def pair_digits(of: Metric) -> int:
    """Decimal places of two systems and their difference: rates to a hundredth of a per cent."""
    return 2 if of.unit == "%" else of.digits


def finding(limits: Sequence[float]) -> str:
    """What the interval of a difference says; lower is better for all metrics."""
    return "better" if limits[1] < 0 else "worse" if limits[0] > 0 else "cannot be told apart"


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
    >>> bracket([0.0412, 0.0688], 2, factor=100)
    '[4.12, 6.88]'
    >>> bracket([-0.01, 0.002], 3, sign="+")
    '[−0.010, +0.002]'
    >>> bracket(None, 2)
    ''
    """
    return f"[{', '.join(number(factor * limit, digits, sign) for limit in limits)}]" if limits else ""


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with a true minus, never −0; with ``sign="+"`` a positive one shows it."""
    text = f"{value:{sign}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def one_line(text: str) -> str:
    """Printable characters only; names may hold line ends and lone surrogates, HTML may not."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def exact(text: str) -> str:
    """Every line and blank kept, as a command needs it; U+FFFD for what cannot be printed."""
    return "\n".join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in str(text).splitlines())


def short(name: str, width: int) -> str:
    """A name of at most `width` characters for a figure; one that is cut ends in "…"."""
    line = one_line(name)
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _level(system: Mapping) -> str:
    return f"{100 * system['intervals']['level']:g} %"


def _list(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
