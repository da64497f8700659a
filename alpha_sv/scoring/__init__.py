"""From embeddings to scores: cosine, normalisation against a cohort,
calibration to log-likelihood ratios."""

from alpha_sv.scoring.calibrate import fit_calibration, with_points
from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.scoring.cohort import cohort_statistics, default_top_n, speaker_means
from alpha_sv.scoring.cohort_cache import trial_statistics
from alpha_sv.scoring.cosine import cosine_scores, score_trials
from alpha_sv.scoring.models import average_scores, expand_trials, mean_models, read_models
from alpha_sv.scoring.normalize import as_norm, normalize_table, s_norm, t_norm, z_norm
from alpha_sv.scoring.operating_point import OperatingPoint
from alpha_sv.scoring.qualities import cohort_qualities, duration_qualities
from alpha_sv.scoring.speaker_folds import cross_calibrate

__all__ = [
    "Calibrator",
    "OperatingPoint",
    "as_norm",
    "average_scores",
    "cohort_qualities",
    "cohort_statistics",
    "cosine_scores",
    "cross_calibrate",
    "default_top_n",
    "duration_qualities",
    "expand_trials",
    "fit_calibration",
    "mean_models",
    "normalize_table",
    "read_models",
    "s_norm",
    "score_trials",
    "speaker_means",
    "t_norm",
    "trial_statistics",
    "with_points",
    "z_norm",
]
