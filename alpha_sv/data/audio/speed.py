"""Speed perturbation: speech at another speed is another speaker,
since its pitch and formants move too.

Each speed of each speaker is a class of its own: class = label + (index of the speed) · (number of
speakers), so the first speed, 1.0, keeps the classes of the speakers themselves (Yamamoto et al.,
"Speaker augmentation and bandwidth extension for deep speaker embedding", Interspeech 2019;
WeSpeaker's convention).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

_MOST_STEPS = 100  # a speed is p / q with p, q up to this: the filter of the resampler grows with them


def class_names(speakers: Sequence[str], speeds: Sequence[float] = (1.0,)) -> list[str]:
    """Names of the classes; a name's place is its class.

    Parameters
    ----------
    speakers : sequence of str
        In the order of their labels 0, 1, ….
    speeds : sequence of float
        The first is 1.0.

    Raises
    ------
    ValueError
        Speeds that `check_speeds` refuses, or two classes of one name.

    Example
    -------
    >>> class_names(["ann", "bob"], [1.0, 0.9])
    ['ann', 'bob', 'ann#0.9', 'bob#0.9']
    """
    check_speeds(speeds)
    names = [speaker if i == 0 else f"{speaker}#{speed}" for i, speed in enumerate(speeds) for speaker in speakers]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"several classes would be named {twice[0]!r}; rename that speaker")
    return names


def check_speeds(speeds: Sequence[float]) -> None:
    """ValueError unless speeds are distinct, the first 1.0,
    and each p / q in [1/2, 2] with p, q up to 100."""
    if not len(speeds) or speeds[0] != 1 or len(set(speeds)) < len(speeds):
        raise ValueError(f"speeds must be distinct and begin with 1.0, the speaker's own, got {list(speeds)}")
    for speed in speeds:
        steps = _fraction(speed) if 0.5 <= speed <= 2 else None
        if steps is None or abs(steps - speed) > 1e-9 or steps.numerator > _MOST_STEPS:
            raise ValueError(
                f"the speed {speed} is not a fraction p / q between 0.5 and 2 with p and q up to {_MOST_STEPS}; give "
                "one such as 0.9 or 1.1"
            )


def source_length(num_samples: int, speed: float) -> int:
    """How many samples played at `speed` last at least `num_samples`.

    >>> source_length(32000, 0.9), source_length(32000, 1.1), source_length(32000, 1.0)
    (28800, 35200, 32000)
    """
    return math.ceil(num_samples * _fraction(speed))


def change_speed(waveform: np.ndarray, speed: float, num_samples: int) -> np.ndarray:
    """`num_samples` samples of a waveform played `speed` times as fast: at 1.1, shorter and higher.

    Parameters
    ----------
    waveform : ndarray of float32, shape [T]
        T = source_length(num_samples, speed).
    speed : float
        As `check_speeds` allows.

    Returns
    -------
    ndarray of float32, shape [num_samples]
        The waveform itself at speed 1.

    Example
    -------
    >>> change_speed(np.zeros(35200, dtype=np.float32), 1.1, 32000).shape
    (32000,)
    """
    steps = _fraction(speed)
    if steps == 1:
        return waveform[:num_samples]
    # faster by p / q: y[n] = x(n p / q), so q samples are made where p were,
    # and ceil(T q / p) of all T; at either end the filter sees some 10 samples of silence
    return resample_poly(waveform, steps.denominator, steps.numerator)[:num_samples]


@functools.lru_cache
def _fraction(speed: float) -> Fraction:
    return Fraction(speed).limit_denominator(_MOST_STEPS)  # 0.9 is 9 / 10, whatever its binary digits are
