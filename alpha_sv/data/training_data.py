"""What a training needs of a corpus, be it speech or faces:
the seam between where data lie and `alpha_sv.sb`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alpha_sv.data.trials.tables import Trials


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A corpus as a training sees it.

    Parameters
    ----------
    source : str
        Its name, for errors.
    train_set : dataset
        Map-style: (epoch, number) → (input, row of the head);
        what is random is a function of (seed, epoch, number).
    classes : dict
        Class → row of the head.
    people : int
        How many persons these are.
    whole, whole_labels : dataset, int64 tensor [N]
        Every example as it is, number → (input, number),
        with `batches(batch_size)`; the row of each.
    valid : tuple or None
        (name → example, trials, examples → dataset like `whole`),
        as `alpha_sv.sb.datasets.DevelopmentSet`.
    digest, trials_digest, samples : str
        Hashes of the examples, of the development trials and of what is in the
        files ("" if that is not known); a run is continued on the same ones only.
    """

    source: str
    train_set: Any
    classes: dict[str, int]
    people: int
    whole: Any
    whole_labels: Any
    valid: tuple[Mapping, Trials, Callable] | None
    digest: str
    trials_digest: str
    samples: str = ""
