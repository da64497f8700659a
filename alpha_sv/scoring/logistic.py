"""The logistic regression behind a calibrator:
the minimum of the objective of `alpha_sv.scoring.calibrate`."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

PSEUDO_TRIALS = 3.0  # of each class, against one for each independent trial
RIDGE = 1e-8  # on slopes of standardised columns: multiples of a column share its slope, wide gaps have a finite one
_TINY = 1e-15  # on the intercept, so that nothing is divided by 0
# Means over a normal distribution by the trapezoidal rule, which is exact to rounding for smooth
# functions; the bend of the cost is at least 0.05 standard deviations wide as long as the slope
# is below 20 nats for each.
_NODES = np.linspace(-8, 8, 321)
_NODE_WEIGHTS = np.exp(-0.5 * _NODES**2)
_FEW = 50_000  # trials that tell nearly where the minimum is


def minimise(design: np.ndarray, labels: np.ndarray, p_target: float, units: tuple[float, float]) -> np.ndarray:
    """Slopes and intercept, float64 [C + 1].

    Parameters
    ----------
    design : float64 [N, C + 1]
        Standardised columns, the last one being ones.
    labels : bool [N]
        True for a target trial.
    p_target : float
        The prior.
    units : (float, float)
        Independent target and nontarget trials, against which the pseudo-trials count.

    Raises
    ------
    ValueError
        The minimum was not found.
    """
    shares = (p_target, 1 - p_target)
    sides = (labels, ~labels)
    weight, normals = np.empty(len(labels)), []
    within = _covariance(np.concatenate([design[side] - design[side].mean(axis=0) for side in sides]))
    for side, share, unit in zip(sides, shares, units, strict=True):
        weight[side] = share * unit / (unit + PSEUDO_TRIALS) / side.sum()
        covariance = _covariance(design[side]) if side.sum() >= 10 else within  # fewer have no shape
        normals.append((design[side].mean(axis=0), covariance, share * PSEUDO_TRIALS / (unit + PSEUDO_TRIALS)))
    entropy = -sum(share * math.log(share) for share in shares)
    pseudo_labels = np.repeat([True, False], len(_NODES))
    pseudo_weight = np.concatenate([share * _NODE_WEIGHTS / _NODE_WEIGHTS.sum() for *_, share in normals])
    all_weight = np.concatenate([weight, pseudo_weight]) / entropy
    sign = np.where(np.concatenate([labels, pseudo_labels]), 1.0, -1.0)
    # What a normal distribution costs depends on theta through the mean and the variance of theta @
    # x only, and its gradient is that of points along covariance @ theta. So: points along the line
    # found last, until it stays. Of very many trials some tell nearly where the minimum is, and
    # from there two or three steps lead to it.
    theta, some = np.zeros(design.shape[1]), np.arange(0, len(labels), max(len(labels) // _FEW, 1))
    if len(some) < len(labels) and min(labels[some].sum(), (~labels[some]).sum()) >= 100:
        rough = all_weight[some] / all_weight[some].sum() * weight.sum() / entropy
        theta = _newton(design[some], sign[some], rough, math.log(shares[0] / shares[1]), theta)
    direction = normals[0][0] - normals[1][0]
    for _ in range(50):
        points = np.concatenate([_along(mean, covariance, direction) for mean, covariance, _ in normals])
        found = _newton(np.concatenate([design, points]), sign, all_weight, math.log(shares[0] / shares[1]), theta)
        settled = np.abs(found - theta).max() <= 1e-9 * np.abs(found).max()
        theta = direction = found
        if settled or design.shape[1] == 2:  # one column has one line
            break
    return theta


def _covariance(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / max(len(rows) - 1, 1)


def _along(mean: np.ndarray, covariance: np.ndarray, theta: np.ndarray) -> np.ndarray:
    variance = theta @ covariance @ theta
    step = covariance @ theta / math.sqrt(variance) if variance > 0 else np.zeros(len(mean))
    return mean + _NODES[:, None] * step


def _newton(design: np.ndarray, sign: np.ndarray, weight: np.ndarray, logit: float, start: np.ndarray) -> np.ndarray:
    ridge = np.full(design.shape[1], RIDGE)
    ridge[-1] = _TINY

    def value(theta: np.ndarray) -> float:
        return float(weight @ np.logaddexp(0.0, -sign * (design @ theta + logit)) + 0.5 * ridge @ theta**2)

    theta, least = start, value(start)
    for _ in range(200):
        error = expit(-sign * (design @ theta + logit))
        gradient = ridge * theta - design.T @ (weight * sign * error)
        hessian = (design.T * (weight * error * (1 - error))) @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, -gradient)
        gain = float(-gradient @ step)  # twice what the step promises
        if gain < 1e-12 * least:  # Newton's method squares this from here; the value has no more digits to tell by
            return theta + step
        length = 1.0
        while (reached := value(theta + length * step)) > least - 1e-4 * length * gain:
            length /= 2
            if length < 1e-12:
                raise ValueError(f"the calibration did not converge (a gain of {gain:.1g} is out of reach)")
        theta, least = theta + length * step, reached
    raise ValueError(f"the calibration did not converge (still gaining {gain:.1g} after 200 steps)")
