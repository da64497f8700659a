"""A face embedder on pairs of images, and on the template protocol of IJB-B / IJB-C."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from alpha_sv.data.trials import ScoreTable, Trials, read_trials
from alpha_sv.embedding.batches import prefetch
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.face.embedder import FaceEmbedder
from alpha_sv.face.ijb import TemplateProtocol
from alpha_sv.face.images import align, read_image
from alpha_sv.face.sources import FolderSource, PairSource
from alpha_sv.face.templates import with_flip
from alpha_sv.files import file_state, folder_lock, input_key, spelled
from alpha_sv.scoring import cosine_scores

_READERS = 4


def score_images(
    embedder: FaceEmbedder,
    pairs: str | os.PathLike,
    images: str | os.PathLike | None = None,
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = True,
) -> ScoreTable:
    """Cosines of pairs of images.

    Parameters
    ----------
    pairs : path-like
        A `.bin` of insightface, or a trial list (`label image image`) over the folder `images`.
    images : path-like, optional
        Folder `<identity>/<image>` of aligned faces.
    flip : bool
        Add the embedding of the mirror image.

    Raises
    ------
    ValueError
        A list without `images`, a name that is not there, or as the readers.
    """
    if os.fspath(pairs).lower().endswith(".bin"):
        source: PairSource | FolderSource = PairSource(pairs)
        trials = source.trials
    elif images is None:
        raise ValueError(f"{pairs} is a list: say with --images where its images lie, or give a .bin")
    else:
        trials, source = read_trials(pairs), FolderSource(images, check=False)
    row = {name: number for number, name in enumerate(source.names.tolist())}
    used = sorted({*trials.enroll.tolist(), *trials.test.tolist()})
    row = dict(zip(used, map(row.get, spelled(used, row)), strict=True))
    if missing := [name for name in used if row[name] is None]:
        raise ValueError(f"{len(missing)} of {len(used)} images are not in {source.path}: {', '.join(missing[:3])}")
    size = embedder.image_size
    parts = _embedded(embedder, lambda i: source.read(row[used[i]], size), range(len(used)), batch_size, progress)
    vectors = np.concatenate([with_flip(part, flip) for _, part in parts])
    place = {name: number for number, name in enumerate(used)}
    sides = [[place[name] for name in side.tolist()] for side in (trials.enroll, trials.test)]
    scores = np.concatenate(
        [
            cosine_scores(*(vectors[side[first : first + 8192]] for side in sides))
            for first in range(0, len(trials), 8192)
        ]
    )
    return ScoreTable(*trials.sides, scores, trials.labels)


def embed_protocol(
    embedder: FaceEmbedder,
    protocol: TemplateProtocol,
    store: str | os.PathLike,
    batch_size: int = 64,
    progress: bool = True,
) -> EmbeddingStore:
    """Embed each image of a protocol, aligned, and its mirror image;
    an interrupted call continues where it stopped.

    Row i of the store is the embedding of image i and then that of its mirror image, [N, 2 D].
    """
    with folder_lock(store):
        return _embed_protocol(embedder, protocol, store, batch_size, progress)


def _embed_protocol(embedder: FaceEmbedder, protocol, store, batch_size: int, progress: bool) -> EmbeddingStore:
    places = zip(protocol.images, protocol.points.tolist(), strict=True)
    rows = ((path, file_state(path), points) for path, points in places)
    key = input_key(itertools.chain(["aligned, twice", embedder.fingerprint()], rows))
    ids = [f"{number}/{Path(path).name}" for number, path in enumerate(protocol.images)]
    templates = protocol.template_ids[protocol.template].astype(str).tolist()
    dim = 2 * embedder.embedding_dim
    writer = StoreWriter(store, ids, templates, ["test"] * len(ids), dim, key)
    if writer.finished is not None:
        return writer.finished

    def read(number: int) -> np.ndarray:
        try:
            return align(read_image(protocol.images[number]), protocol.points[number], embedder.image_size)
        except ValueError as error:
            raise ValueError(f"{protocol.images[number]}: {error}") from error

    for rows, part in _embedded(embedder, read, writer.missing(), batch_size, progress):
        writer.write(rows, part.reshape(len(rows), dim))
    return writer.finish(num_images=len(ids), model=embedder.config)


def fold_accuracy(table: ScoreTable, folds: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over folds of the accuracy,
    at the threshold that is best on the other folds.

    The figure of LFW (Huang et al., 2007): the pairs are cut into folds in their order.

    Example
    -------
    >>> table = ScoreTable(
    ...     list("abcd"), list("efgh"), [0.9, 0.1, 0.8, 0.2], [True, False, True, False]
    ... )
    >>> fold_accuracy(table, folds=2)
    (1.0, 0.0)
    """
    if table.labels is None or len(table) < folds:
        raise ValueError(f"{folds} folds need labels and as many pairs, there are {len(table)}")
    found = []
    for fold in np.array_split(np.arange(len(table)), folds):
        others = np.ones(len(table), bool)
        others[fold] = False
        threshold = _best_threshold(table.scores[others], table.labels[others])
        found.append(np.mean((table.scores[fold] >= threshold) == table.labels[fold]))
    return float(np.mean(found)), float(np.std(found))


def template_trials(protocol: TemplateProtocol) -> Trials:
    """The pairs of a protocol as trials, each template
    called <person>/<template>: the names of scores files."""
    try:
        persons = [f"person{number:06}" for number in protocol.identities().tolist()]
    except ValueError:  # `alpha-sv evaluate` will ask who is who
        persons = ["unknown"] * len(protocol.template_ids)
    names = np.array([f"{who}/{number}" for who, number in zip(persons, protocol.template_ids, strict=True)])
    return Trials(names[protocol.left], names[protocol.right], protocol.labels)


def _best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Of accept if score ≥ threshold; halfway between two scores where it can be."""
    order = np.argsort(scores)
    values = scores[order]
    # accepting from place k on: rejected nontargets before it, accepted targets from it
    right = np.append(0, np.cumsum(~labels[order])) + labels.sum() - np.append(0, np.cumsum(labels[order]))
    right[1:-1][values[1:] == values[:-1]] = -1  # equal scores are decided together
    best = int(np.argmax(right))
    if best in (0, len(values)):
        return float(values[0] if best == 0 else np.nextafter(values[-1], np.inf))
    return float((values[best - 1] + values[best]) / 2)


def _embedded(
    embedder: FaceEmbedder, read: Callable[[int], np.ndarray], numbers, batch_size: int, progress: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers [n], [n, 2, D]) by batch, of images that are read on threads as they are needed."""
    numbers, done = np.asarray(numbers), 0
    images = prefetch(lambda number: read(int(number)), numbers, _READERS, 4 * batch_size)
    with tqdm(total=len(numbers), unit="image", desc="embed", disable=None if progress else True) as bar:
        for part in embedder.embed_twice(images, batch_size):
            yield numbers[done : done + len(part)], part
            done += len(part)
            bar.update(len(part))
