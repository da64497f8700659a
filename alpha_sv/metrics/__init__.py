"""Error rates of a set of target and nontarget scores, with intervals; numpy and scipy only.

`evaluate` and `cllr` are functions, and the modules they live in have the same names: ``from
alpha_sv.metrics import evaluate`` and ``alpha_sv.metrics.evaluate(...)`` are the function, ``from
alpha_sv.metrics.evaluate import ...`` takes from the module. (All modules are imported here, so no
later import puts a module in the place of its function.)
"""

from alpha_sv.metrics.bootstrap import speaker_bootstrap
from alpha_sv.metrics.cllr import cllr
from alpha_sv.metrics.compare import compare_systems
from alpha_sv.metrics.dcf import act_dcf, c_primary, min_dcf
from alpha_sv.metrics.det import DetCurve, det_curve
from alpha_sv.metrics.errors import eer, fnr_at_fpr, tar_at_far
from alpha_sv.metrics.evaluate import evaluate, evaluate_conditions
from alpha_sv.metrics.hull import eer_rocch, min_cllr
from alpha_sv.metrics.intervals import SpeakerBootstrap, too_few_speakers

__all__ = [
    "DetCurve",
    "SpeakerBootstrap",
    "act_dcf",
    "c_primary",
    "cllr",
    "compare_systems",
    "det_curve",
    "eer",
    "eer_rocch",
    "evaluate",
    "evaluate_conditions",
    "fnr_at_fpr",
    "min_cllr",
    "min_dcf",
    "speaker_bootstrap",
    "tar_at_far",
    "too_few_speakers",
]
