"""From embeddings of images to one vector for each template,
and the cosine of each pair of templates.

The published evaluation is: add the embeddings of an image and of its mirror image; keep their
length, which tells how good the image is; multiply by the detector's score; average over the
frames of a video; add the media; normalise. Each of these choices is an argument, because
together they move TAR at FAR 1e-6 by points. (To average the media and to add them is the same,
as only the direction counts.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 8192


@dataclass(frozen=True)
class TemplateRule:
    """How images become a template.

    Parameters
    ----------
    flip : bool
        Add the embedding of the mirror image.
    norm : bool
        Keep the length of an image's embedding; else each is scaled to one.
    detector_score : bool
        Weigh it by the detector's score.
    media_average : bool
        Average the frames of a video first, so that it counts as one picture;
        else every image counts alike.

    Example
    -------
    >>> TemplateRule(norm=False).describe()
    'flip: sum · norm: one · detector score: used · media: averaged · templates: sum of media'
    """

    flip: bool = True
    norm: bool = True
    detector_score: bool = True
    media_average: bool = True

    def describe(self) -> str:
        """The choices, for a table."""
        media = "averaged · templates: sum of media" if self.media_average else "ignored · templates: sum of images"
        return (
            f"flip: {'sum' if self.flip else 'none'} · norm: {'kept' if self.norm else 'one'} · "
            f"detector score: {'used' if self.detector_score else 'unused'} · media: {media}"
        )


def with_flip(embeddings: np.ndarray, flip: bool) -> np.ndarray:
    """[n, 2, D], of images and of their mirror images → float64 [n, D]."""
    embeddings = np.asarray(embeddings, np.float64)
    return embeddings.sum(1) if flip else embeddings[:, 0]


def pool_templates(
    embeddings: np.ndarray,
    template: np.ndarray,
    media: np.ndarray,
    detector: np.ndarray,
    rule: TemplateRule | None = None,
    block: int = _BLOCK,
) -> np.ndarray:
    """One vector of length one for each template.

    Parameters
    ----------
    embeddings : float [N, 2, D]
        Embeddings of each image and of its mirror image.
        They may be mapped from disk: about `block` rows are read at a time.
    template : int [N]
        From 0 to T − 1, each at least once.
    media : int [N]
    detector : float [N]

    Returns
    -------
    float64 [T, D]

    Raises
    ------
    ValueError
        A template has no image, or a zero or infinite sum.

    Example
    -------
    >>> frames = np.array([[[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    >>> pool_templates(frames, np.zeros(3, int), np.array([7, 7, 8]), np.ones(3)).round(
    ...     3
    ... ).tolist()
    [[0.707, 0.707]]
    """
    rule = rule or TemplateRule()
    order = np.lexsort([media, template])
    starts = np.flatnonzero(np.diff(template[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    if not np.array_equal(template[order][starts], np.arange(len(starts))):
        raise ValueError("templates must be numbered from 0 on, each with an image")
    result = np.empty((len(starts), embeddings.shape[2]))
    first = 0
    while first < len(starts):  # whole templates, as many as make a block
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + block, side="right")))
        rows = order[starts[first] : ends[last - 1]]
        vectors = with_flip(embeddings[rows], rule.flip)
        if not rule.norm:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
        if rule.detector_score:
            vectors *= detector[rows, None]
        if rule.media_average:
            changes = (np.diff(media[rows], prepend=0) != 0) | (np.diff(template[rows], prepend=-1) != 0)
            heads = np.flatnonzero(changes)
            vectors = np.add.reduceat(vectors, heads) / np.diff(np.append(heads, len(rows)))[:, None]
            rows = rows[heads]
        result[first:last] = np.add.reduceat(vectors, np.flatnonzero(np.diff(template[rows], prepend=-1)))
        first = last
    length = np.linalg.norm(result, axis=1, keepdims=True)
    if (bad := ~((length > 0) & (length < np.inf))[:, 0]).any():
        raise ValueError(f"{bad.sum()} templates, such as number {np.flatnonzero(bad)[0]}, have no direction")
    return result / length


def score_pairs(templates: np.ndarray, left: np.ndarray, right: np.ndarray, block: int = _BLOCK) -> np.ndarray:
    """Cosines float64 [P] of rows `left` and `right` of
    `templates` [T, D] of length one, `block` at a time."""
    scores = np.empty(len(left))
    for first in range(0, len(left), block):
        part = slice(first, first + block)
        scores[part] = np.einsum("nd,nd->n", templates[left[part]], templates[right[part]])
    return scores
