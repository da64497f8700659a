"""What the metrics accept as scores, labels and names: lists, arrays, tensors, data frames.

Every public function passes its arguments through one of these, so a mistake is one clear
ValueError, wherever it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from numbers import Real

import numpy as np

LABEL_WORDS = (  # (nontarget, target); words are compared without regard to case
    ("0", "1"),
    ("-1", "1"),
    ("nontarget", "target"),
    ("non-target", "target"),
    ("impostor", "target"),
    ("imp", "tgt"),
    ("nontgt", "tgt"),
    ("impostor", "genuine"),
    ("false", "true"),
    ("different", "same"),
    ("negative", "positive"),
)


LARGEST = 1e300  # sums, differences and what lies above the largest score are then numbers, too


def checked_scores(name: str, scores: np.ndarray) -> np.ndarray:
    """The scores as float64 [N]; ValueError, with `name`,
    unless they are numbers from -1e300 to 1e300.

    Example
    -------
    >>> checked_scores("scores", [1, 2.5]).tolist()
    [1.0, 2.5]
    """
    array = _flat(name, scores)
    if array.size == 0:
        raise ValueError(f"{name} is empty; error rates need at least one target and one nontarget trial")
    if array.dtype == object and all(isinstance(x, Real) and not isinstance(x, (bool, np.bool_)) for x in array):
        array = array.astype(np.float64)
    if array.dtype.kind not in "fiu":
        hint = "; these look like labels, and labels are no scores" if _is_vocabulary(array) else ""
        raise ValueError(f"{name} must be real numbers, got dtype {array.dtype}{hint}; convert the scores to float")
    array = array.astype(np.float64) + 0.0  # -0.0 + 0.0 = 0.0: one spelling of zero, whichever comes first
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{name}: {bad.size} of {array.size} scores are NaN or infinite (first at index {bad[0]}: "
            f"{array[bad[0]]}); check the embeddings behind them, and score these trials again"
        )
    if (peak := array[np.abs(array).argmax()]) > LARGEST or peak < -LARGEST:
        raise ValueError(f"{name} has {peak:g}, and may go to ±{LARGEST:g}; give the scores in another unit")
    return array


def checked_sides(target_scores: np.ndarray, nontarget_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as `checked_scores`; ValueError if one of them is the labels of the other.

    Other libraries take the scores and the labels of all trials. A call in their order would
    measure how the scores compare with the numbers 0 and 1, and return a number that looks like an
    error rate.

    Example
    -------
    >>> checked_sides([0.9, 0.8, 0.3], [1, 1, 0])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: nontarget_scores looks like the labels of target_scores: one value ...
    """
    raw = {"target_scores": target_scores, "nontarget_scores": nontarget_scores}
    arrays = {name: _flat(name, side) for name, side in raw.items()}
    for name, other in (("nontarget_scores", "target_scores"), ("target_scores", "nontarget_scores")):
        if _labels_of(arrays[name], arrays[other]):
            values = " and ".join(sorted(_as_typed(value) for value in _distinct(arrays[name])))
            raise ValueError(
                f"{name} looks like the labels of {other}: one value a score, and only {values}. The arguments are the "
                "scores of the target trials and the scores of the nontarget trials: with arrays of the scores and the "
                "labels of all trials, and 1 for target, give scores[labels == 1], scores[labels != 1]"
            )
    target, nontarget = (checked_scores(name, side) for name, side in arrays.items())
    return target, nontarget


def checked_labels(labels: np.ndarray, name: str = "labels") -> np.ndarray:
    """Labels in any usual vocabulary as bool [N], True for a target trial.

    Parameters
    ----------
    labels : array [N]
        Truth values, 0 and 1, -1 and 1, or a pair of words such as "nontarget" and "target"
        (`LABEL_WORDS` has them all). Labels of one kind only are accepted.
    name : str
        For the error.

    Raises
    ------
    ValueError
        Not one-dimensional, or values that are no such pair; they are named.

    Example
    -------
    >>> checked_labels([1, -1]).tolist(), checked_labels(["tgt", "imp"]).tolist()
    ([True, False], [True, False])
    >>> checked_labels([1, 2, 1])
    Traceback (most recent call last):
    ValueError: labels must be True / False, 0 / 1, -1 / 1 or target / nontarget, found 1, 2
    """
    array = _flat(name, labels)
    if array.dtype == bool:
        return array
    values = _distinct(array)
    words = [_word(value) for value in values]
    if not any(set(words) <= set(pair) for pair in LABEL_WORDS):
        found = ", ".join(_as_typed(value) for value in values) + (", ..." if len(values) > 2 else "")
        raise ValueError(f"{name} must be True / False, 0 / 1, -1 / 1 or target / nontarget, found {found}")
    targets = {target for _, target in LABEL_WORDS}
    return np.isin(array, [value for value, word in zip(values, words, strict=True) if word in targets])


def checked_speakers(
    enroll_speakers: np.ndarray, test_speakers: np.ndarray, trials: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who speaks on the two sides of each trial, as numbers.

    Parameters
    ----------
    enroll_speakers, test_speakers : array of str or int [N]
        Names of the speakers, or their numbers.
    trials : int
        N.

    Returns
    -------
    (array of str or int [K], array of int32 [N], array of int32 [N])
        The names in their order (numbers in theirs), and the place of the speaker among them, for
        each side of each trial.

    Raises
    ------
    ValueError
        Another length than N, or a value that is no name.

    Example
    -------
    >>> names, enroll, test = checked_speakers(["bob", "ann"], ["ann", "ann"], 2)
    >>> names.tolist(), enroll.tolist(), test.tolist()
    (['ann', 'bob'], [1, 0], [0, 0])
    """
    sides = {"enroll_speakers": enroll_speakers, "test_speakers": test_speakers}
    for name, side in sides.items():
        sides[name] = side = _names(name, side)
        if side.size != trials:
            raise ValueError(f"{name} needs one value for each of the {trials} trials, got {side.size}")
    if all(side.dtype.kind in "iu" for side in sides.values()):
        names, places = np.unique(np.concatenate(list(sides.values())), return_inverse=True)
        left, right = np.split(places.astype(np.int32), 2)
    else:
        names, (left, right) = numbered(sides.values())
    return names, left, right


def numbered(columns: Iterable[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct values of some columns as sorted text, and each column as places among them.

    A dictionary instead of a sort: millions of rows with few distinct values take a fraction of the
    time, and no memory for copies of the text.

    Example
    -------
    >>> names, (places,) = numbered([np.array(["m", "f", "m"])])
    >>> names.tolist(), places.tolist()
    (['f', 'm'], [1, 0, 1])
    """
    found = _Numbers()
    codes = [np.fromiter(map(found.__getitem__, _values(column)), np.int32, column.size) for column in columns]
    names, place = np.unique(np.array([_text(value) for value in found], dtype=str), return_inverse=True)
    return names, [place.astype(np.int32)[column] for column in codes]


class _Numbers(dict):
    """The number of each value, in the order in which they are asked for."""

    def __missing__(self, value: object) -> int:
        return self.setdefault(value, len(self))


def _values(column: np.ndarray) -> Iterator:
    """The entries as Python objects, of which only a few thousand exist at a time."""
    return chain.from_iterable(column[start : start + 8192].tolist() for start in range(0, column.size, 8192))


def as_array(name: str, values: object) -> np.ndarray:
    """A list, a data frame's column or a torch tensor, on a GPU or in training, as an array."""
    if np.ma.is_masked(values):  # numpy would uncover what is masked
        raise ValueError(f"{name} has {np.ma.count_masked(values)} masked values; leave these trials out on all sides")
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # numpy has no such type
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be one-dimensional, one value for each trial: {error}") from error


def _flat(name: str, values: object) -> np.ndarray:
    array = as_array(name, values)
    if array.ndim != 1:
        raise ValueError(
            f"{name} must be one-dimensional, one value for each trial, got shape {array.shape}; flatten it"
        )
    return array


def _names(name: str, values: object) -> np.ndarray:
    array = _flat(name, values)
    if isinstance(values, (list, tuple)) and array.dtype.kind not in "iu":
        array = _flat(name, np.array([*values, None], dtype=object)[:-1])  # numpy makes text of None
    if array.dtype == object:
        if odd := [x for x in array if not isinstance(x, (str, bytes, int, np.integer))]:
            raise ValueError(f"{name} must be names, found {odd[0]!r}; say who speaks in every trial")
        numbers = array.size and all(isinstance(x, (int, np.integer)) for x in array)
        return np.asarray(array.tolist()) if numbers else array
    if array.dtype.kind not in "UTSiu":
        raise ValueError(f"{name} must be names, got dtype {array.dtype}; give text or whole numbers")
    return array


def _labels_of(side: np.ndarray, other: np.ndarray) -> bool:
    """Whether `side` can only be the labels of the scores `other`.

    Both have one length then, and the labels two values, the scores more than these. (Hard
    decisions have 0 and 1 on both sides. Two floats may be scores by chance.) Where all labels are
    of one kind, their type tells.
    """
    if side.size != other.size or side.size == 0 or not _is_vocabulary(side) or _is_vocabulary(other):
        return False
    both = len(_distinct(side)) == 2
    if side.dtype.kind == "f":
        return both and side.size > 2
    return both or side.dtype.kind not in "iu" or (other.dtype.kind == "f" and side.size > 1)


def _is_vocabulary(array: np.ndarray) -> bool:
    words = {_word(value) for value in _distinct(array)}
    return any(words <= set(pair) for pair in LABEL_WORDS)


def _distinct(array: np.ndarray) -> list:
    """The distinct values of an array, or three values if there are more than two."""
    found, rest = [], np.ones(array.shape, dtype=bool)
    while len(found) < 3 and rest.any():
        value = array[int(np.argmax(rest))]
        rest &= (array != value) if value == value else (array == array)  # NaN is itself nowhere
        found.append(value)
    return found


def _word(value: object) -> str:
    """A label as `LABEL_WORDS` writes it."""
    if isinstance(value, (str, bytes)):
        return _text(value).strip().lower()
    return str(int(value)) if isinstance(value, (Real, np.bool_)) and value in (-1, 0, 1) else repr(value)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _as_typed(value: object) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)
