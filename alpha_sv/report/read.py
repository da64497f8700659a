"""Reading metrics.json and the training log, both checked before anything is made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from alpha_sv.report.schema import COMPARISON, Nullable, problem, system_problem

FORMAT = "alpha_sv.metrics/2"
_REMEDY = "run `alpha-sv evaluate` again"


def load_metrics(path: str | os.PathLike) -> dict:
    """Read and check metrics.json.

    Returns
    -------
    dict
        ``{"format": "alpha_sv.metrics/2", "systems": [...], "comparison": ...}`` as `alpha_sv.report.schema` has it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Not JSON (with the line), another or an older format, no system, two of one name, or one that lacks
        something or holds something else than it should (with the field).
    """
    text = _read(path, "make it with `alpha-sv evaluate`")
    try:
        metrics = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg}); {_REMEDY}") from error
    check_metrics(metrics, str(path))
    return metrics


def load_log(path: str | os.PathLike) -> list[dict]:
    """Read and check a training log, one JSON object a line; an empty file is an empty list.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A line that is not a JSON object of kind "train" or "valid", has no whole-numbered step, or holds
        something else than numbers; the message gives file:line.
    """
    rows = []
    lines = _read(path, "pass the train_log.jsonl of the run").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problem = f"not JSON ({error.msg}); delete a line cut short by a crash"
            raise ValueError(f"{path}:{number}: {problem}") from error
        if problem := _row_problem(row):
            raise ValueError(f"{path}:{number}: {problem}; correct the line, or pass a train_log.jsonl")
        rows.append(row)
    return rows


def check_metrics(metrics: object, where: str) -> None:
    """Raise ValueError, naming `where` and the field, unless `metrics` holds all that a report shows."""
    found = metrics.get("format") if isinstance(metrics, Mapping) else type(metrics).__name__
    if found != FORMAT:
        raise ValueError(f'{where}: expected "format": "{FORMAT}", found {found!r}; {_REMEDY}')
    systems = metrics.get("systems") or ()
    names = [system.get("name") if isinstance(system, Mapping) else None for system in systems]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError(f'{where}: "systems" must hold at least one system, each with its own name, found {names}')
    for system in systems:
        if found := system_problem(system):
            raise ValueError(f"{where}: system {system['name']!r}: {found}; {_REMEDY}")
    if found := problem(metrics.get("comparison"), Nullable(COMPARISON), "comparison"):
        raise ValueError(f"{where}: {found}; {_REMEDY}")


def _row_problem(row: object) -> str:
    if not isinstance(row, dict) or row.get("kind") not in ("train", "valid"):
        return f'not an object of "kind" train or valid: {str(row)[:80]}'
    if type(row.get("step")) is not int:
        return f"'step' must be a whole number, got {row.get('step')!r}"
    numbers = {key: value for key, value in row.items() if key != "kind" and value is not None}
    wrong = [key for key, value in numbers.items() if type(value) not in (int, float)]
    return f"{wrong[0]!r} must be a number or null, got {numbers[wrong[0]]!r}" if wrong else ""


def _read(path: str | os.PathLike, remedy: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file; {remedy}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); {remedy}") from error
