"""The table of face verification: TAR at FAR 1e-6 … 1e-1,
what each rests on, and intervals over persons.

The number is `alpha_sv.metrics`' TAR: the most that a threshold accepts whose FAR is at most the
limit. (Some evaluations take the nearest point of the curve, which may lie above the limit.) The
bootstrap is that of `alpha_sv.metrics.bootstrap`, for integers instead of names, so that 15.7
million pairs fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from alpha_sv.metrics import too_few_speakers
from alpha_sv.metrics.det import RankedTrials, rank_trials
from alpha_sv.metrics.errors import MIN_FALSE_ACCEPTS, eer_of, fpr_vertex

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def tar_table(
    scores: np.ndarray,
    labels: np.ndarray,
    persons: tuple[np.ndarray, np.ndarray] | None = None,
    replicates: int = 1000,
    seed: int = 1234,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """TAR at each of `FARS`.

    Parameters
    ----------
    scores : float [P]
    labels : bool [P]
        True for one person.
    persons : pair of int [P], optional
        Who is on the left and on the right of each pair; None for no intervals.
    replicates : int
        Draws of persons; 0 for no intervals.

    Returns
    -------
    dict
        ``pairs`` {target, nontarget}, ``eer``, ``persons``,
        ``no_intervals`` (a reason, or None) and ``rows``,
        each {far, tar, threshold, false_accepts, supported, interval}, where supported means at
        least 10 false accepts and an interval is [low, high] of 95 %, or None.

    Raises
    ------
    ValueError
        As `alpha_sv.metrics.det_curve`.

    Example
    -------
    >>> table = tar_table(np.array([0.9, 0.3, 0.4, 0.1]), np.array([True, True, False, False]))
    >>> table["rows"][0]["tar"], table["rows"][0]["false_accepts"]
    (0.5, 0)
    """
    if 0 < replicates < 40:
        raise ValueError(f"{replicates} replicates do not reach the bounds of a 95 % interval; take at least 40, or 0")
    ranked = rank_trials(scores[labels], scores[~labels])
    curve = ranked.curve()
    rows = []
    for far in FARS:
        vertex = fpr_vertex(curve, far)
        accepts = int(curve.false_accepts[vertex])
        point = {"far": far, "tar": 1 - float(curve.p_miss[vertex]), "threshold": float(curve.thresholds[vertex])}
        rows.append({**point, "false_accepts": accepts, "supported": accepts >= MIN_FALSE_ACCEPTS, "interval": None})
    reason, count = "nobody asked for them", None
    if persons is not None and replicates:
        names, sides = np.unique(np.concatenate(persons), return_inverse=True)
        left, right = np.split(sides, 2)
        count = len(names)
        reason = _no_intervals(left, right, labels)
        if not reason:
            draws = _draws(ranked.merged(), left, right, labels, count, replicates, seed, progress)
            for row, bounds in zip(rows, np.quantile(draws, [0.025, 0.975], axis=0).T.tolist(), strict=True):
                row["interval"] = bounds if row["supported"] else None
    return {
        "pairs": {"target": int(labels.sum()), "nontarget": int((~labels).sum())},
        "eer": eer_of(curve)[0],
        "persons": count,
        "no_intervals": reason or None,
        "rows": rows,
    }


def markdown(tables: dict[str, dict], rule: str = "") -> str:
    """Tables of systems as one, with the choices of the protocol above it.

    >>> table = tar_table(np.array([0.9, 0.3, 0.4, 0.1]), np.array([True, True, False, False]))
    >>> head = markdown({"q_margin": table}, rule="flip: sum").splitlines()[0]
    >>> print(head.replace(". [", ".\\n["))
    flip: sum. 2 pairs of one person, 2 of two.
    [95 % interval over persons] (number of false accepts it rests on)
    """
    first = next(iter(tables.values()))
    head = f"{rule}{'. ' if rule else ''}{first['pairs']['target']:,} pairs of one person, "
    head += (
        f"{first['pairs']['nontarget']:,} of two. [95 % interval over persons] (number of false accepts it rests on)"
    )
    lines = [head, "", "| system | EER | " + " | ".join(f"FAR {far:.0e}".replace("e-0", "e-") for far in FARS) + " |"]
    lines.append("|---" * (len(FARS) + 2) + "|")
    for name, table in tables.items():
        cells = [f"{100 * table['eer']:.2f}", *(_cell(row) for row in table["rows"])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    reasons = {f"No intervals of {name}: {t['no_intervals']}." for name, t in tables.items() if t["no_intervals"]}
    return "\n".join([*lines, *(["", *sorted(reasons)] if reasons else [])])


def _cell(row: dict) -> str:
    value = f"{100 * row['tar']:.2f}"
    if row["interval"]:
        value += f" [{100 * row['interval'][0]:.2f}, {100 * row['interval'][1]:.2f}]"
    return f"{value} ({'' if row['supported'] else 'only '}{row['false_accepts']})"


def _no_intervals(left: np.ndarray, right: np.ndarray, labels: np.ndarray) -> str:
    if ((left == right) != labels).any():
        return "the labels contradict the persons"
    kinds = [np.unique(np.concatenate([left[side], right[side]])) for side in (labels, ~labels)]
    everybody = np.concatenate(kinds)
    return too_few_speakers(everybody, everybody, np.arange(len(everybody)) < len(kinds[0]))


def _draws(
    ranked: RankedTrials,
    left: np.ndarray,
    right: np.ndarray,
    labels: np.ndarray,
    count: int,
    replicates: int,
    seed: int,
    progress: Callable[[Iterable], Iterable],
) -> np.ndarray:
    """TAR at each FAR on the usable replicates [R', len(FARS)]:
    a person drawn w times weighs w, two of them w · w'."""
    target, one, other = left[labels], left[~labels], right[~labels]
    found = []
    for weights in progress(np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)):
        weights = weights.astype(np.float64)
        sides = weights[target], weights[one] * weights[other]
        if all(side.any() for side in sides):
            curve = ranked.curve(*sides)
            found.append([1 - curve.p_miss[fpr_vertex(curve, far)] for far in FARS])
    return np.array(found)
