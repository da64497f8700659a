"""Error rates of a set of target and nontarget scores; numpy and scipy only."""

from alpha_sv.metrics.det import DetCurve, det_curve
from alpha_sv.metrics.errors import eer, evaluate, fnr_at_fpr, min_dcf

__all__ = ["DetCurve", "det_curve", "eer", "evaluate", "fnr_at_fpr", "min_dcf"]
