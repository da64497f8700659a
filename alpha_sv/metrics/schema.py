"""What metrics.json and compare.json must hold, written down as data, and the check against it.

A schema is a type (``float`` takes any finite number), a range ``Between``, a dict of the keys an
object must have (others are let through), a list of one schema for a list of any length, a tuple
for a list of just that length, or ``Nullable``. The writer of these files, `evaluate` and
`compare_systems`, and their reader, the report, agree on it.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from typing import NamedTuple

FORMAT = "alpha_sv.metrics/2"
COMPARISON_FORMAT = "alpha_sv.comparison/1"
REMEDY = "run `alpha-sv evaluate` again"


class Nullable(NamedTuple):
    """Null, or what `schema` says."""

    schema: object


class Between(NamedTuple):
    """A number from `low` to `high`, whole if these are."""

    low: float
    high: float


_RATE, _COUNT, _SOME = Between(0.0, 1.0), Between(0, 2**53), Between(1, 2**53)
_PRIOR, _COST = Between(1e-12, 1 - 1e-12), Between(1e-12, 1e12)
_PAIR = (float, float)
_DCF = {"p_target": _PRIOR, "c_miss": _COST, "c_fa": _COST, "value": float, "threshold": float}
_COUNTS = {"target": _COUNT, "nontarget": _COUNT}
_GROUP = {
    "trials": _COUNTS,
    "eer": {"value": _RATE, "threshold": float, "rocch": _RATE},
    "min_dcf": [_DCF],
    "fnr_at_fpr": [
        {
            "fpr": Between(1e-12, 1.0),
            "fnr": _RATE,
            "threshold": float,
            "false_accepts": _COUNT,
            "misses": _COUNT,
            "supported": bool,
        }
    ],
    "min_cllr": float,
    "cllr": Nullable(float),
}
_HARDEST = [{"enroll": str, "test": str, "score": float}]
_RESAMPLED = {"resampled": str, "speakers": _COUNT, "replicates": _COUNT, "level": _RATE, "seed": int}
SYSTEM = {
    **_GROUP,
    "trials": {"target": _SOME, "nontarget": _SOME, "repeated": _COUNT},
    "c_primary": {"min": float, "act": Nullable(float)},
    "act_dcf": Nullable([_DCF]),
    "det": {"p_fa": [_RATE], "p_miss": [_RATE]},
    "histogram": {"edges": [float], "target": [_COUNT], "nontarget": [_COUNT]},
    "calibration": Nullable(
        {
            "prior_log_odds": [float],
            "act": [_RATE],
            "min": [_RATE],
            "reliability": {"llr": [float], "empirical": [Nullable(float)], "count": [_COUNT]},
        }
    ),
    "intervals": Nullable(
        {
            **_RESAMPLED,
            "eer": _PAIR,
            "min_dcf": [_PAIR],
            "fnr_at_fpr": [Nullable(_PAIR)],
            "min_cllr": _PAIR,
            "cllr": Nullable(_PAIR),
            "act_dcf": Nullable([_PAIR]),
            "undefined": _COUNT,
        }
    ),
    "conditions": [{"column": str, "value": str, "trials": _COUNTS, "eer": Nullable(dict)}],
    "hardest": {"misses": _HARDEST, "false_accepts": _HARDEST},
    "sources": dict,
}
SOURCES = ("trials", "scores", "model", "cohort", "calibrator")
_SOURCE = Nullable({"file": str, "sha256": str})  # any of them may be missing
COMPARISON = {
    **_RESAMPLED,
    "baseline": str,
    "pairs": [
        {
            "system": str,
            "metrics": [
                {
                    "metric": str,
                    "baseline": float,
                    "system": float,
                    "difference": float,
                    "interval": _PAIR,
                    "sign": float,
                }
            ],
        }
    ],
}


def problem(value: object, schema: object, path: str = "") -> str:
    """The first way in which `value` is not what `schema` asks for; "" if there is none.

    Example
    -------
    >>> problem({"a": [1, None]}, {"a": [float]})
    "'a[1]' must be a number, found None"
    >>> problem({"a": {}}, {"a": {"x": int, "y": int}})
    "'a' lacks x, y"
    >>> problem({"a": [1, 2.5]}, {"a": [Nullable(float)]})
    ''
    """
    if isinstance(schema, Nullable):
        return "" if value is None else problem(value, schema.schema, path)
    if isinstance(schema, Between):
        if found := problem(value, type(schema.low), path):
            return found
        fits = schema.low <= value <= schema.high
        return "" if fits else f"{path!r} must be from {schema.low:g} to {schema.high:g}, found {str(value)[:60]}"
    kind = {list: list, tuple: list, dict: dict}.get(type(schema), schema)
    if not _is(value, kind):
        return f"{path!r} must be {_NOUNS[kind]}, found {reprlib.repr(value)}"
    if isinstance(schema, dict):
        if lacking := sorted(key for key in schema if key not in value):
            return f"{path!r} lacks {', '.join(lacking)}" if path else f"lacks {', '.join(map(repr, lacking))}"
        parts = ((value[key], part, f"{path}.{key}" if path else key) for key, part in schema.items())
    elif isinstance(schema, (list, tuple)):
        if isinstance(schema, tuple) and len(value) != len(schema):
            return f"{path!r} must hold {len(schema)} values, found {len(value)}"
        each = schema if isinstance(schema, tuple) else schema * len(value)
        parts = ((item, part, f"{path}[{i}]") for i, (item, part) in enumerate(zip(value, each, strict=True)))
    else:
        return ""
    return next((found for part in parts if (found := problem(*part))), "")


def check_metrics(metrics: object, where: str) -> None:
    """ValueError, naming `where` and the field, unless `metrics` holds all that a report shows."""
    found = metrics.get("format") if isinstance(metrics, Mapping) else type(metrics).__name__
    if found != FORMAT:
        raise ValueError(f'{where}: expected "format": "{FORMAT}", found {found!r}; {REMEDY}')
    systems = metrics.get("systems")
    systems = systems if isinstance(systems, list) else []
    names = [system.get("name") if isinstance(system, Mapping) else None for system in systems]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f'{where}: "systems" must hold at least one system, each with its own name, found {names}')
    for system in systems:
        if found := system_problem(system):
            raise ValueError(f"{where}: system {system['name']!r}: {found}; {REMEDY}")
    if found := problem(metrics.get("comparison"), Nullable(COMPARISON), "comparison"):
        raise ValueError(f"{where}: {found}; {REMEDY}")


def system_problem(system: Mapping) -> str:
    """The same for one system, with optional parts and lists that must have one length."""
    if found := problem(system, SYSTEM):
        return found
    lists = {"min_dcf": system["min_dcf"], "fnr_at_fpr": system["fnr_at_fpr"], "det.p_fa": system["det"]["p_fa"]}
    lists |= {"histogram.target": system["histogram"]["target"]}
    if calibration := system["calibration"]:
        lists |= {"calibration.act": calibration["act"]}
    if empty := [name for name, values in lists.items() if not values]:
        return f"{empty[0]!r} is empty"
    edges = system["histogram"]["edges"]
    if any(low >= high for low, high in zip(edges, edges[1:], strict=False)):
        return "'histogram.edges' must rise"
    for index, group in enumerate(system["conditions"]):
        # a group without both kinds of trials has nothing but its counts
        if group["eer"] is not None and (found := problem(group, _GROUP, f"conditions[{index}]")):
            return found
    sources = {key: system["sources"].get(key) for key in SOURCES}
    if found := problem(sources, dict.fromkeys(SOURCES, _SOURCE), "sources"):
        return found
    texts = {"sources.command": system["sources"].get("command"), "no_intervals": system.get("no_intervals")}
    for where, value in texts.items():
        if found := problem(value, Nullable(str), where):
            return found
    unequal = [names for names, *lists in _aligned(system) if len({len(part) for part in lists}) > 1]
    return f"{unequal[0]}: lists of different lengths" if unequal else ""


def _aligned(system: Mapping):
    det, histogram = system["det"], system["histogram"]
    yield "det", det["p_fa"], det["p_miss"]
    yield "histogram", histogram["edges"][1:], histogram["target"], histogram["nontarget"]
    if calibration := system["calibration"]:
        yield "calibration", calibration["prior_log_odds"], calibration["act"], calibration["min"]
        yield "calibration.reliability", *(calibration["reliability"][key] for key in ("llr", "empirical", "count"))
    if intervals := system["intervals"]:
        for key in ("min_dcf", "fnr_at_fpr"):
            yield f"intervals.{key}", intervals[key], system[key]
        if system["act_dcf"] is not None and intervals["act_dcf"] is not None:
            yield "intervals.act_dcf", intervals["act_dcf"], system["act_dcf"]


def _is(value: object, kind: type) -> bool:
    if kind is float:  # a whole number of JSON may be too large for a float
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind or (kind is dict and isinstance(value, Mapping))


_NOUNS = {
    float: "a number", int: "a whole number", bool: "true or false", str: "text", list: "a list", dict: "an object",
}  # fmt: skip
