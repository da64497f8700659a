"""What the scoring functions are given, as numpy arrays: numbers,
labels and speakers, or an error that says what is wrong with them."""

from __future__ import annotations

import numpy as np


def as_numbers(name: str, values: object) -> np.ndarray:
    """`values` (an array, nested lists,
    a torch tensor on any device) as a numpy array of real numbers.

    Raises
    ------
    ValueError
        Rows of different lengths, or anything but real numbers.

    Example
    -------
    >>> as_numbers("scores", [0.5, 1]).tolist()
    [0.5, 1.0]
    """
    if np.ma.is_masked(values):  # numpy would uncover what is masked
        raise ValueError(f"{name} has {np.ma.count_masked(values)} masked values; leave them out")
    if hasattr(values, "detach"):  # a tensor, without importing torch; numpy has no bfloat16
        values = values.detach().cpu()
        values = values.float().numpy() if "bfloat16" in str(values.dtype) else values.numpy()
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: not an array of numbers ({error}); give rows of one length") from error
    if array.dtype.kind not in "fiub" and array.size:
        raise ValueError(f"{name}: real numbers are needed, got {array.dtype} of shape {array.shape}; convert them")
    return array


def finite_column(name: str, values: object, count: int | None = None) -> np.ndarray:
    """`values` as float64 [N]; ValueError, with the first bad trial,
    unless there are `count` finite numbers."""
    values = as_numbers(name, values).astype(np.float64)
    if values.ndim != 1 or count not in (None, len(values)):
        raise ValueError(
            f"{name} must have one value for each of the {'N' if count is None else count} trials, got shape "
            f"{values.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(
            f"{name} of trial {bad[0]} is {values[bad[0]]} ({bad.size} of {len(values)} are not finite); find it for "
            "every trial, or leave it out"
        )
    return values


def as_labels(labels: object) -> np.ndarray:
    """`labels` as bool [N]; ValueError if they are anything but truth values."""
    try:
        array = as_numbers("labels", labels)
        right = array.ndim == 1 and np.isin(array, (0, 1)).all()
    except ValueError:
        array, right = np.asarray(labels, dtype=object), False
    if not right:
        raise ValueError(f"labels must be booleans or 0 / 1 [N] (1 = target), got {array.dtype} {array.shape}")
    return array.astype(bool)


def as_names(what: str, names: object) -> np.ndarray:
    """`names` as an array of text or whole numbers;
    ValueError if one is missing: None or NaN is nobody's name."""
    array = np.asarray(names)
    if np.ma.is_masked(names) or array.dtype.kind not in "iuUSTO":
        raise ValueError(
            f"{what}: speakers must be names, got {array.dtype} or masked ones; say who speaks in each row"
        )
    if array.dtype.kind == "O" or isinstance(names, (list, tuple)):  # numpy makes text of None
        given = array.ravel() if array.dtype.kind == "O" else names
        if odd := [name for name in given if not isinstance(name, (str, bytes, int, np.integer))]:
            raise ValueError(f"{what}: speakers must be names, found {odd[0]!r}; say who speaks in each row")
    return array


def speaker_codes(speakers: tuple[object, object], labels: np.ndarray, caller: str) -> tuple[np.ndarray, int]:
    """The speakers of the two sides of N trials as numbers,
    int64 [2, N], and how many speakers there are.

    The numbers are in the order of the names, so they do not depend on the order of the trials.

    Raises
    ------
    ValueError
        A side has not one speaker for each trial,
        or a label contradicts the speakers (the trial is named).

    Example
    -------
    >>> speaker_codes((["b", "a"], ["b", "b"]), np.array([True, False]), "fit")[0].tolist()
    [[1, 0], [1, 1]]
    """
    sides = [as_names(caller, side) for side in speakers]
    if any(side.dtype.kind not in "iu" for side in sides):  # else they are numbers of speakers
        sides = [side.astype(str) for side in sides]
    for side in sides:
        if side.shape != labels.shape:
            raise ValueError(f"{caller}: speakers of shape {side.shape} for {len(labels)} trials; one per trial")
    wrong = np.flatnonzero((sides[0] == sides[1]) != labels)
    if wrong.size:
        row = wrong[0]
        raise ValueError(
            f"{caller}: trial {row} is labelled {int(labels[row])} but its speakers are '{sides[0][row]}' and "
            f"'{sides[1][row]}' ({wrong.size} such trials); use the speakers of this list"
        )
    both = np.stack(sides)
    if both.dtype.kind in "iu" and both.size and 0 <= both.min() and both.max() < 1 << 24:  # no need to sort them
        used = np.zeros(int(both.max()) + 1, dtype=bool)
        used[both] = True
        return (np.cumsum(used, dtype=np.int64) - 1)[both], int(used.sum())
    names, codes = np.unique(both, return_inverse=True)
    return codes.reshape(2, -1), len(names)
