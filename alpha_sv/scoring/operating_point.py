"""A named threshold of a calibrator,
with the errors counted there and whether they say anything."""

from __future__ import annotations

import sys
from dataclasses import dataclass

MIN_FALSE_ACCEPTS = 10  # k counted errors are known to about 1 / sqrt(k) of themselves: a third at 10


@dataclass(frozen=True)
class OperatingPoint:
    """Accept a trial when LLR >= threshold (nats).

    `false_accepts` and `misses` are those counted on the calibration trials, of `nontargets` and
    `targets` trials between `speakers` speakers; None where nothing was counted. `supported` is
    False where the trials cannot say how the threshold does: it is beyond the bounds of the LLRs,
    or a rate rests on fewer than 10 false accepts.

    >>> point = OperatingPoint(
    ...     "fpr 1e-3", 7.5, false_accepts=12, misses=30, nontargets=12_000, targets=400
    ... )
    >>> point.supports(), point.supports(false_accepts=30), point.is_called("fpr 0.001")
    (True, False, True)
    """

    name: str
    threshold: float
    false_accepts: int | None = None
    misses: int | None = None
    nontargets: int | None = None
    targets: int | None = None
    speakers: int | None = None
    supported: bool = True

    def __post_init__(self) -> None:
        counts = ("false_accepts", "misses", "nontargets", "targets", "speakers")
        given = [name for name in counts if getattr(self, name) is not None]
        check_fields(self, ("threshold", *given))
        for name in given:
            if getattr(self, name) < 0:
                raise ValueError(f"the field {name!r} must be 0 or more, got {getattr(self, name)!r}")
        if not isinstance(self.supported, bool):
            raise ValueError(f"the field 'supported' must be true or false, got {self.supported!r}")

    def is_called(self, name: str) -> bool:
        """Whether `name` is its name, numbers being compared as numbers."""
        return _parts(name) == _parts(self.name)

    def supports(self, false_accepts: int = MIN_FALSE_ACCEPTS) -> bool:
        """Whether the calibration trials can say how it does.

        Parameters
        ----------
        false_accepts : int
            Those that must have been counted at a measured threshold ("eer", "fpr ..."). With k
            of them the rate is known to about 1 / sqrt(k) of itself: 10 say a third.
            Doddington's rule of 30 asks for 30: the true rate is then within 30 % with 90 %
            confidence, if the trials are independent.

        References
        ----------
        Doddington, Przybocki, Martin, Reynolds, "The NIST speaker recognition evaluation -
        Overview, methodology, systems, results, perspective", Speech Communication 31, 2000.
        """
        measured = self.false_accepts is not None and not self.name.startswith("p_target")
        return self.supported and (not measured or self.false_accepts >= false_accepts)


def check_fields(entry: object, numbers: tuple[str, ...]) -> None:
    """A ValueError unless the fields `numbers` are finite numbers and the name,
    if it has one, is a word or more that a terminal can show."""
    name = getattr(entry, "name", "-")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"the field 'name' must be a text without control characters, got {ascii(name)}")
    for name in numbers:
        value = getattr(entry, name)
        if not is_number(value):
            raise ValueError(f"the field {name!r} must be a finite number, got {value!r}")


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _parts(name: str) -> tuple:
    word, _, number = name.partition(" ")
    try:
        return word, float(number)
    except ValueError:
        return (name,)
