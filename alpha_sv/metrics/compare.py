"""Is one system better than another? Paired differences on the same draws of speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alpha_sv.metrics.intervals import SpeakerBootstrap


def compare_systems(bootstrap: SpeakerBootstrap, names: Sequence[str]) -> dict:
    """Differences of the systems of a bootstrap to the first of them, the baseline.

    A hard speaker is hard for both systems. In the difference of one replicate that is common to
    them cancels, so its interval is narrower than two intervals side by side suggest: two systems
    can differ clearly while their intervals overlap.

    Parameters
    ----------
    bootstrap : SpeakerBootstrap
        The resampled errors of at least two systems.
    names : sequence of str
        Names of its systems, the baseline first.

    Returns
    -------
    dict
        ``baseline``, its name; ``resampled``, ``speakers``, ``replicates``, ``level``, ``seed``;
        ``pairs``, one for each other system: ``system``, its name, and ``metrics``, one for each
        metric that both systems support: ``metric``, ``baseline``, ``system`` (the two values),
        ``difference`` (system - baseline: negative is better), ``interval`` [low, high] of the
        difference, ``sign`` (fraction of replicates with a difference < 0).

    Raises
    ------
    ValueError
        Fewer than two systems, or not one name for each.

    Example
    -------
    >>> from alpha_sv.metrics import speaker_bootstrap
    >>> enroll, test = list("abcdefghij" * 2), list("abcdefghijbcdefghija")
    >>> labels = np.repeat([True, False], 10)
    >>> scores = [
    ...     labels + 0.0,
    ...     labels * ([0, 2] * 10),
    ... ]  # the second gives every other target trial a 0
    >>> boot = speaker_bootstrap(scores, enroll, test, labels, replicates=50)
    >>> comparison = compare_systems(boot, ["cosine", "as-norm"])
    >>> [
    ...     comparison["pairs"][0]["metrics"][0][key]
    ...     for key in ("metric", "baseline", "system", "difference")
    ... ]
    ['eer', 0.0, 0.3333333333333333, 0.3333333333333333]
    """
    if not 2 <= len(names) == bootstrap.observed.shape[0]:
        raise ValueError(
            f"a comparison needs two or more systems and a name for each, got {bootstrap.observed.shape[0]} systems "
            f"and the names {list(names)}"
        )
    return {
        "baseline": names[0],
        **bootstrap.settings(),
        "pairs": [
            {"system": name, "metrics": _differences(bootstrap, system)} for system, name in enumerate(names) if system
        ],
    }


def _differences(bootstrap: SpeakerBootstrap, system: int) -> list[dict]:
    draws = bootstrap.draws[:, system] - bootstrap.draws[:, 0]
    intervals, signs = bootstrap.interval(draws), (draws < 0).mean(axis=0).tolist()
    supported = bootstrap.supported[0] & bootstrap.supported[system]
    entries = []
    for m in np.flatnonzero(supported).tolist():
        baseline, value = bootstrap.observed[0, m].item(), bootstrap.observed[system, m].item()
        entries.append(
            {
                "metric": bootstrap.metrics[m],
                "baseline": baseline,
                "system": value,
                "difference": value - baseline,
                "interval": intervals[m],
                "sign": signs[m],
            }
        )
    return entries
