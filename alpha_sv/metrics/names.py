"""What the metrics are called: the keys in files; label, unit and digits in print.

Who writes a key or reads one takes it from here.

Every metric is an error rate or a cost: lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alpha_sv.metrics.dcf import P_TARGETS
from alpha_sv.metrics.errors import FPRS


@dataclass(frozen=True)
class Metric:
    """One number of a system.

    Parameters
    ----------
    key : str
        In compare.json, in the comparison of metrics.json and in `SpeakerBootstrap`: "min_dcf
        0.01".
    field : str
        Where `evaluate` has it: "min_dcf".
    label : str
        In print: "minDCF 0.01".
    unit : str
        "%", "bits" or "". Files hold rates as fractions, whatever the unit in print.
    digits : int
        After the decimal point, in print.
    point : float, optional
        The target prior of a DCF, the false-acceptance rate of an FNR.
    llr : bool
        Only log-likelihood ratios have it.
    """

    key: str
    field: str
    label: str
    unit: str = ""
    digits: int = 4
    point: float | None = None
    llr: bool = False

    @property
    def factor(self) -> int:
        """From the number in a file to the number in print."""
        return 100 if self.unit == "%" else 1


def power(rate: float) -> str:
    """0.001 as 1e-3, the way operating points are written in this field.

    >>> power(0.001), power(0.025)
    ('1e-3', '2.5e-2')
    """
    digits, exponent = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


_FIELDS = {  # of `evaluate`: key, label, unit, digits, llr
    "eer": ("eer", "EER", "%", 3, False),
    "min_dcf": ("min_dcf {:g}", "minDCF {:g}", "", 4, False),
    "fnr_at_fpr": ("fnr at fpr {}", "FNR at FPR {}", "%", 2, False),
    "min_cllr": ("min_cllr", "minCllr", "bits", 4, False),
    "act_dcf": ("act_dcf {:g}", "actDCF {:g}", "", 4, True),
    "cllr": ("cllr", "Cllr", "bits", 4, True),
}


def metric(field: str, point: float | None = None) -> Metric:
    """The metric of a field, at a prior or false-acceptance rate if it has one.

    >>> metric("fnr_at_fpr", 0.001).key, metric("min_dcf", 0.05).label
    ('fnr at fpr 1e-3', 'minDCF 0.05')
    """
    key, label, unit, digits, llr = _FIELDS[field]
    shown = power(point) if field == "fnr_at_fpr" else point
    return Metric(key.format(shown), field, label.format(shown), unit, digits, point, llr)


_POINTS = {"min_dcf": P_TARGETS, "fnr_at_fpr": FPRS, "act_dcf": P_TARGETS}
METRICS = {m.key: m for field in _FIELDS for point in _POINTS.get(field, (None,)) for m in [metric(field, point)]}
"""All of them by their keys, in the order of `SpeakerBootstrap.metrics`."""


def metric_of(key: str) -> Metric:
    """The metric of a key; one that is not known, from another version, is called by its key.

    >>> metric_of("fnr at fpr 1e-3").label, metric_of("new").label
    ('FNR at FPR 1e-3', 'new')
    """
    return METRICS.get(key, Metric(key, key, key))


def field_keys(field: str) -> list[str]:
    """The keys of one field of `evaluate`, in the order of its entries.

    >>> field_keys("min_dcf"), field_keys("eer")
    (['min_dcf 0.01', 'min_dcf 0.05'], ['eer'])
    """
    return [key for key, metric in METRICS.items() if metric.field == field]


def values_by_key(result: Mapping) -> dict[str, tuple[float, bool]]:
    """The numbers of `evaluate` by their keys, each with whether the trial list supports it.

    A rate that rests on too few false accepts is there, but not supported; costs of log-likelihood
    ratios are left out where the scores are none.

    Example
    -------
    >>> from alpha_sv.metrics import evaluate
    >>> found = values_by_key(evaluate([0.9, 0.8, 0.4], [0.5, 0.2, 0.1]))
    >>> found["min_dcf 0.01"], found["fnr at fpr 1e-2"], "cllr" in found
    ((0.3333333333333333, True), (0.3333333333333333, False), False)
    """
    found = {}
    for metric in METRICS.values():
        value = result[metric.field]
        if value is None:
            continue
        if metric.point is not None:
            entry = next(entry for entry in value if metric.point in (entry.get("p_target"), entry.get("fpr")))
            found[metric.key] = entry["fnr" if "fnr" in entry else "value"], entry.get("supported", True)
        else:
            found[metric.key] = value["value"] if metric.field == "eer" else value, True
    return found
