"""The 1:1 protocol of IJB-B and IJB-C in the form of its published files:
who is in which template, which are compared.

loose_crop/<image>                  a face with some of what is around it
meta/<set>_name_5pts_score.txt      image x1 y1 … x5 y5 score: pixels, the detector's score
meta/<set>_face_tid_mid.txt         image template media: frames of one video have one media
meta/<set>_template_pair_label.txt  template template label: 1 for one person, 0 for two
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """N images, T templates, P pairs of templates.

    Parameters
    ----------
    images : list of str [N]
        Paths.
    points : float64 [N, 5, 2]
        Left eye, right eye, nose, corners of the mouth, in pixels.
    detector : float64 [N]
        How sure the detector was.
    template, media : int64 [N]
        Row of the template of each image; number of its media.
    template_ids : int64 [T]
        The published numbers of the templates, ascending.
    left, right : int32 [P]
        Rows of the templates of each pair.
    labels : bool [P]
        True for one person.
    """

    images: list[str]
    points: np.ndarray
    detector: np.ndarray
    template: np.ndarray
    media: np.ndarray
    template_ids: np.ndarray
    left: np.ndarray
    right: np.ndarray
    labels: np.ndarray

    def identities(self) -> np.ndarray:
        """The person of each template, int32 [T]:
        those that target pairs connect are one. The files name nobody.

        Raises
        ------
        ValueError
            A nontarget pair lies within one person, so that the labels contradict each other.
        """
        count = len(self.template_ids)
        links = self.left[self.labels], self.right[self.labels]
        graph = coo_matrix((np.ones(len(links[0]), np.int8), links), (count, count))
        person = connected_components(graph, directed=False)[1]
        wrong = np.flatnonzero((person[self.left] == person[self.right]) & ~self.labels)
        if wrong.size:
            pair = [int(self.template_ids[side[wrong[0]]]) for side in (self.left, self.right)]
            raise ValueError(
                f"{wrong.size} nontarget pairs, such as {pair[0]} and {pair[1]}, are of templates that target pairs "
                "connect: who is who cannot be told"
            )
        return person


def read_protocol(folder: str | os.PathLike) -> TemplateProtocol:
    """Read the files above from the folder of one set, such as IJBC.

    Raises
    ------
    ValueError
        A file is missing, there are two of a kind, a line is malformed (named file:line),
        the two lists of images differ, or a pair names a template without images.
    """
    folder = Path(folder)
    points_file, images_file, pairs_file = (
        _only(folder / "meta", f"*{kind}.txt") for kind in ("_name_5pts_score", "_face_tid_mid", "_template_pair_label")
    )
    names, numbers = _named_rows(images_file, 2)
    found, values = _named_rows(points_file, 11)
    row = {name: i for i, name in enumerate(found)}
    if len(row) < len(found) or set(names) != row.keys():
        raise ValueError(f"{points_file} and {images_file} do not list the same images, each once")
    if not (np.isfinite(values).all() and (numbers % 1 == 0).all() and (np.abs(numbers) < 2**53).all()):
        raise ValueError(f"{points_file} or {images_file} has a value that is not finite or not whole")
    values = values[[row[name] for name in names]]
    template_ids, template = np.unique(numbers[:, 0].astype(np.int64), return_inverse=True)
    left, right, labels = _pairs(pairs_file, template_ids)
    return TemplateProtocol(
        images=[str(folder / "loose_crop" / name) for name in names],
        points=values[:, :10].reshape(-1, 5, 2),
        detector=values[:, 10],
        template=template,
        media=numbers[:, 1].astype(np.int64),
        template_ids=template_ids,
        left=left,
        right=right,
        labels=labels,
    )


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} files {pattern}; one is needed, as insightface has them")
    return found[0]


def _named_rows(path: Path, count: int) -> tuple[list[str], np.ndarray]:
    """Lines of a name and `count` numbers: names [N], float64 [N, count]."""
    names, values = [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            name, *rest = line.split() or [""]
            if not name:
                continue
            try:
                if len(rest) != count or name.startswith("/") or ".." in name.split("/"):
                    raise ValueError
                values.append([float(text) for text in rest])
            except ValueError:
                raise ValueError(f"{path}:{number}: not an image and {count} numbers: {line.strip()[:80]!r}") from None
            names.append(name)
    if not names:
        raise ValueError(f"{path} is empty")
    return names, np.array(values)


def _pairs(path: Path, template_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(path, np.int64, comments=None, ndmin=2, encoding="ascii")
    except (ValueError, OverflowError, Warning) as error:
        raise ValueError(f"{path} does not have lines of 'template template label': {error}") from error
    if table.shape[1] != 3 or not np.isin(table[:, 2], (0, 1)).all():
        raise ValueError(f"{path} does not have lines of 'template template label', label 0 or 1")
    sides = np.searchsorted(template_ids, table[:, :2]).astype(np.int32)
    known = template_ids[np.minimum(sides, len(template_ids) - 1)] == table[:, :2]
    if not known.all():
        raise ValueError(f"{path}: template {table[:, :2][~known][0]} has no image")
    labels = table[:, 2] == 1
    if labels.all() or not labels.any():
        raise ValueError(f"{path} needs pairs of one person and pairs of two")
    return np.ascontiguousarray(sides[:, 0]), np.ascontiguousarray(sides[:, 1]), labels
