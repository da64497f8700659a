"""Quality measures of a trial: what, besides the score, says how far the score can be trusted.

A short recording scores low against its own speaker, and one that resembles half the cohort scores
high against anyone. Which of the two utterances is called "enroll" means nothing, so each measure
enters as the smaller and the larger value of the two sides. (Their sum and absolute difference span
the same linear models.)

References
----------
Thienpondt, Desplanques, Demuynck, "The IDLAB VoxSRC-20 submission: large margin fine-tuning
and quality-aware score calibration in DNN based speaker verification", ICASSP 2021.
"""

from __future__ import annotations

import numpy as np

from alpha_sv.scoring.cohort_cache import Stats


def duration_qualities(enroll_seconds: np.ndarray, test_seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Log-durations of the shorter and the longer side of N trials.

    Parameters
    ----------
    enroll_seconds, test_seconds : array [N]
        Durations in seconds.

    Returns
    -------
    dict of str to float64 [N]
        ``log_duration_min`` and ``log_duration_max``, ln of seconds.

    Raises
    ------
    ValueError
        A duration is not positive and finite, or the sides differ in length.

    Example
    -------
    >>> duration_qualities([1.0, 2.0], [4.0, 1.0])["log_duration_min"].tolist()
    [0.0, 0.0]
    """
    for side, seconds in (("enroll", enroll_seconds), ("test", test_seconds)):
        bad = np.flatnonzero(~((np.asarray(seconds) > 0) & (np.asarray(seconds) < np.inf)))
        if bad.size:
            value = np.asarray(seconds)[bad[0]]
            raise ValueError(f"the {side} side of trial {bad[0]} lasts {value} s; durations must be positive")
    return _both_ways("log_duration", np.log(enroll_seconds), np.log(test_seconds))


def cohort_qualities(enroll_stats: Stats, test_stats: Stats) -> dict[str, np.ndarray]:
    """Mean and standard deviation of the cohort cosines,
    the smaller and the larger of the two sides of N trials.

    Parameters
    ----------
    enroll_stats, test_stats : (array [N], array [N])
        Mean and standard deviation, see `alpha_sv.scoring.trial_statistics`.

    Returns
    -------
    dict of str to float64 [N]
        ``cohort_mean_min``, ``cohort_mean_max``, ``cohort_std_min``, ``cohort_std_max``.

    Example
    -------
    >>> sorted(cohort_qualities(([0.1], [0.2]), ([0.3], [0.1])).items())[0]
    ('cohort_mean_max', array([0.3]))
    """
    return {
        **_both_ways("cohort_mean", enroll_stats[0], test_stats[0]),
        **_both_ways("cohort_std", enroll_stats[1], test_stats[1]),
    }


def _both_ways(name: str, enroll: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    enroll, test = np.asarray(enroll, dtype=np.float64), np.asarray(test, dtype=np.float64)
    if enroll.shape != test.shape or enroll.ndim != 1:
        raise ValueError(f"{name}: both sides must be [N], got {enroll.shape} and {test.shape}; one value a trial")
    return {f"{name}_min": np.minimum(enroll, test), f"{name}_max": np.maximum(enroll, test)}
