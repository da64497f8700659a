"""From embeddings to scores: cosine of a pair, and normalisation against a cohort."""

from alpha_sv.scoring.cohort import cohort_statistics, speaker_means
from alpha_sv.scoring.cosine import cosine_scores, score_trials
from alpha_sv.scoring.normalize import as_norm, normalize_table, s_norm, t_norm, z_norm

__all__ = [
    "as_norm",
    "cohort_statistics",
    "cosine_scores",
    "normalize_table",
    "s_norm",
    "score_trials",
    "speaker_means",
    "t_norm",
    "z_norm",
]
