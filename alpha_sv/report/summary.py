"""The metrics as a table and in words, and what of them may be said at all.

Rates are fractions in the files and percent in print. A miss rate at a false-acceptance rate is shown with
the number of false accepts it rests on; with fewer than 10 of them it is not shown at all but marked
"n/a (k false accepts)".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS


def to_markdown(metrics: Mapping) -> str:
    """The table of all systems in Markdown, a line a system.

    Example
    -------
    >>> system = {"name": "cosine", "eer": {"value": 0.05}, "min_dcf": [{"p_target": 0.01, "value": 0.4}],
    ...           "fnr_at_fpr": [{"fpr": 0.01, "fnr": 0.125, "false_accepts": 9, "supported": False}]}
    >>> print(to_markdown({"systems": [system]}))
    | system | EER % | minDCF 0.01 | FNR % @ FPR 1e-2 (false accepts) |
    |:--|--:|--:|--:|
    | cosine | 5.000 | 0.4000 | n/a (9 false accepts) |
    <BLANKLINE>
    """
    header, rows = table(metrics["systems"])
    rows = [[escape(one_line(cell), quote=False).replace("|", "\\|") for cell in row] for row in rows]
    rule = "|:--|" + "--:|" * (len(header) - 1)
    header_line, *lines = ["| " + " | ".join(line) + " |" for line in [header, *rows]]
    return "\n".join([header_line, rule, *lines]) + "\n"


def table(systems: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; a system without some column's entry gets a dash."""
    priors = sorted({e["p_target"] for s in systems for e in s["min_dcf"]})
    rates = sorted({e["fpr"] for s in systems for e in s["fnr_at_fpr"]}, reverse=True)
    header = ["system", "EER %", *(f"minDCF {p:g}" for p in priors)]
    header += [f"FNR % @ FPR {power(rate)} (false accepts)" for rate in rates]
    rows = []
    for s in systems:
        dcf = {e["p_target"]: f"{e['value']:.4f}" for e in s["min_dcf"]}
        fnr = {e["fpr"]: _fnr(e) for e in s["fnr_at_fpr"]}
        cells = [*(dcf.get(p, "–") for p in priors), *(fnr.get(rate, "–") for rate in rates)]
        rows.append([s["name"], percent(s["eer"]["value"], 3), *cells])
    return header, rows


def verdict(system: Mapping) -> str:
    """The operating points in plain words, never a rate that the trial list cannot support."""
    entries = sorted(system["fnr_at_fpr"], key=lambda e: -e["fpr"])
    good = [e for e in entries if supported(e)]
    if not good:
        return (
            f"This trial list cannot tell how many genuine trials are refused at 1 false accept in "
            f"{1 / entries[0]['fpr']:,.0f} impostor trials: the rate would rest on "
            f"{false_accepts(entries[0]['false_accepts'])}. "
            f"The equal error rate is {percent(system['eer']['value'], 2)} %."
        )
    first, rest = good[0], good[1:]
    text = f"At 1 false accept in {1 / first['fpr']:,.0f} impostor trials, {percent(first['fnr'], 2)} % of "
    text += f"the genuine trials are refused ({first['misses']:,} of {system['trials']['target']:,})"
    text += "".join(f"; at 1 in {1 / e['fpr']:,.0f}, {percent(e['fnr'], 2)} %" for e in rest) + "."
    poor = [f"1 in {1 / e['fpr']:,.0f}" for e in entries if not supported(e)]
    if poor:
        text += f" The trial list cannot tell at {' and '.join(poor)}: "
        text += f"fewer than {MIN_FALSE_ACCEPTS} false accepts."
    return text


def supported(entry: Mapping) -> bool:
    """Whether the miss rate of one entry of ``fnr_at_fpr`` may be stated."""
    # the flag asks what the list allows at this rate; with tied scores even fewer false accepts may be left
    return bool(entry["supported"]) and entry["false_accepts"] >= MIN_FALSE_ACCEPTS


def _fnr(entry: Mapping) -> str:
    if not supported(entry):
        return f"n/a ({false_accepts(entry['false_accepts'])})"
    return f"{percent(entry['fnr'], 2)} ({entry['false_accepts']:,})"


def false_accepts(count: int) -> str:
    """The number with its noun: "1 false accept", "1,200 false accepts"."""
    return f"{count:,} false accept" + ("" if count == 1 else "s")


def percent(rate: float, digits: int) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * rate:.{digits}f}"


def power(fpr: float) -> str:
    """0.001 as 1e-3, the way operating points are written in this field."""
    digits, exponent = f"{fpr:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def one_line(text: str) -> str:
    """Printable characters only: a name may hold line ends and lone surrogates, which no HTML or SVG may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
