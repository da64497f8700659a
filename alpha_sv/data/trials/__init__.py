"""Trial lists and score files: their layouts, their tables, reading and writing."""

from alpha_sv.data.trials.files import (
    count_duplicates,
    label_scores,
    read_scores,
    read_trials,
    write_scores,
    write_trials,
)
from alpha_sv.data.trials.tables import ScoreTable, Trials

__all__ = [
    "ScoreTable",
    "Trials",
    "count_duplicates",
    "label_scores",
    "read_scores",
    "read_trials",
    "write_scores",
    "write_trials",
]
