"""Where a run's prototypes are: beside their speakers, or further apart than these?

A prototype at its speaker's mean embedding has nothing to pull; one further from its
neighbours than the mean is pulls the speakers apart. A3M-I moves prototypes to the means.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.files import read_json
from alpha_sv.heads import class_means

CHUNK = 1024


def geometry(folder: Path, manifest: Path) -> dict[str, float] | None:
    """Mean cosines over the training speakers of a finished run,
    or None if it has left no prototypes.

    `own`: of a prototype and its speaker's mean direction; `prototypes`: of a prototype
    and the nearest other one; `means`: of a mean direction and the nearest other one.
    """
    if not (folder / "prototypes.safetensors").is_file():
        return None
    labels = read_json(folder / "labels.json", like=dict)
    weight = safetensors.torch.load_file(folder / "prototypes.safetensors")["weight"][: len(labels)].double()
    utterances = [u for u in read_manifest(manifest) if u.split == "train"]
    store = EmbeddingStore.open(folder / "embeddings")
    embeddings = torch.from_numpy(store.matrix[store.rows([u.utt_id for u in utterances])])
    classes = torch.tensor([labels[utterance.speaker] for utterance in utterances])
    means, which = class_means([(embeddings, classes)], len(labels))
    own = F.normalize(weight[which]) * means
    return {"own": own.sum(1).mean().item(), "prototypes": nearest(weight[which]), "means": nearest(means)}


def nearest(directions: torch.Tensor) -> float:
    """Mean over the rows of the cosine to the nearest other row.

    Example
    -------
    >>> round(nearest(torch.tensor([[2.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])), 6)
    0.2
    """
    directions = F.normalize(directions.double())
    found = []
    for start in range(0, len(directions), CHUNK):
        cosines = directions[start : start + CHUNK] @ directions.T
        rows = torch.arange(len(cosines))
        cosines[rows, start + rows] = -torch.inf
        found.append(cosines.amax(1))
    return torch.cat(found).mean().item()
