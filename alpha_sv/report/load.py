"""Reading metrics.json and the training log, both checked before anything is made of them."""

from __future__ import annotations

import json
import os

from alpha_sv.files import InputError, parse_json, read_text
from alpha_sv.metrics.schema import REMEDY, check_metrics


def load_metrics(path: str | os.PathLike) -> dict:
    """Read and check metrics.json.

    Returns
    -------
    dict
        ``{"format": "alpha_sv.metrics/2", "systems": [...], "comparison": ...}`` as
        `alpha_sv.metrics.schema` has it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        Not JSON (with the line), another or an older format, no system, two of one name, or one
        that lacks something or holds something else than it should (with the field).
    """
    metrics = _parsed(_read(path, "make it with `alpha-sv evaluate`"), path, 1, REMEDY)
    check_metrics(metrics, str(path))
    return metrics


def load_log(path: str | os.PathLike) -> list[dict]:
    """Read and check a training log, one JSON object a line; an empty file is an empty list.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A line that is not a JSON object of kind "train" or "valid", has no whole-numbered step, or
        holds something else than numbers; the message gives file:line.
    """
    rows = []
    lines = _read(path, "pass the train_log.jsonl of the run").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parsed(line, path, number, "delete a line cut short by a crash")
        if problem := _row_problem(row):
            raise ValueError(f"{path}:{number}: {problem}; correct the line, or pass a train_log.jsonl")
        rows.append(row)
    return rows


def _row_problem(row: object) -> str:
    if not isinstance(row, dict) or row.get("kind") not in ("train", "valid"):
        return f'not an object of "kind" train or valid: {str(row)[:80]}'
    if type(row.get("step")) is not int:
        return f"'step' must be a whole number, got {row.get('step')!r}"
    numbers = {key: value for key, value in row.items() if key != "kind" and value is not None}
    wrong = [key for key, value in numbers.items() if type(value) not in (int, float)]
    return f"{wrong[0]!r} must be a number or null, got {numbers[wrong[0]]!r}" if wrong else ""


def _parsed(text: str, path: str | os.PathLike, line: int, remedy: str) -> object:
    """JSON text that begins in the given line of the file;
    which numbers must be finite is for the checks to say."""
    try:
        return parse_json(text, f"{path}:{line}", finite=False)
    except InputError as error:
        if isinstance(at := error.__cause__, json.JSONDecodeError):
            raise InputError(f"{path}:{line + at.lineno - 1}: not JSON ({at.msg}); {remedy}") from error
        raise


def _read(path: str | os.PathLike, remedy: str) -> str:
    try:
        return read_text(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file; {remedy}") from error
