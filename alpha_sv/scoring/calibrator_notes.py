"""What a calibrator says of its origin, in `support` and `provenance`:
checked where it is read, and asked for."""

from __future__ import annotations

from collections.abc import Mapping

from alpha_sv.scoring.operating_point import is_number

_COUNTS = ("targets", "nontargets", "speakers", "independent_targets", "independent_nontargets", "set_aside")


def model_of(sources: object) -> str | None:
    """SHA-256 of the weights that scores come from,
    if their sources (see `alpha_sv.pipeline.provenance`) say it.

    >>> model_of({"model": {"file": "campplus/embedder.safetensors", "sha256": "ab" * 2}})
    'abab'
    >>> model_of({}) is None
    True
    """
    model = sources.get("model") if isinstance(sources, Mapping) else None
    digest = model.get("sha256") if isinstance(model, Mapping) else None
    return digest if isinstance(digest, str) else None


def check_notes(support: Mapping, provenance: Mapping) -> None:
    """ValueError that names the first field that is there and not as `fit_calibrator` writes it."""
    for where, notes in (("support", support), ("provenance", provenance)):
        for name in _COUNTS:
            _require(is_count(notes.get(name, 0)) or notes[name] is None, f"{where}.{name}", "0 or more", notes)
    _require(_is_range(support.get("scores", (0, 0))), "support.scores", "two numbers, the lower first", support)
    sources = provenance.get("sources", {})
    model = sources.get("model", {}) if isinstance(sources, Mapping) else None
    _require(model is not None, "provenance.sources", "an object", provenance)
    right = isinstance(model, Mapping) and isinstance(model.get("sha256", ""), str)
    _require(right, "provenance.sources.model", "an object with a text 'sha256'", sources)
    _require(_is_histogram(provenance.get("histogram")), "provenance.histogram", "two rows of counts", provenance)


def is_count(value: object) -> bool:
    """A number from 0 on; one of independent trials need not be whole."""
    return is_number(value) and value >= 0


def _is_range(ends: object) -> bool:
    return isinstance(ends, (list, tuple)) and len(ends) == 2 and all(map(is_number, ends)) and ends[0] <= ends[1]


def _is_histogram(found: object) -> bool:
    if found is None:
        return True
    if not isinstance(found, Mapping) or not _is_range([found.get("low"), found.get("high")]):
        return False
    rows = [found.get("targets"), found.get("nontargets")]
    counted = all(isinstance(row, (list, tuple)) and all(map(is_count, row)) for row in rows)
    return counted and len(rows[0]) == len(rows[1]) > 0


def _require(right: bool, place: str, what: str, inside: Mapping) -> None:
    if not right:
        got = repr(inside.get(place.rpartition(".")[2]))[:80]
        raise ValueError(f"the field {place!r} must be {what}, got {got}")
