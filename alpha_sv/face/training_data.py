"""The faces of a training: who is in it, its examples as a
function of (seed, epoch, image), its development pairs."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import numpy as np
import torch

from alpha_sv.data.corpus.development_trials import draw_speakers, validation_trials
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.training_data import TrainingData
from alpha_sv.data.trials import read_trials
from alpha_sv.face.sources import FolderSource, ImageSource, PairSource, open_source
from alpha_sv.files import input_key


class TrainingImages(torch.utils.data.Dataset):
    """Map-style dataset of (image uint8 [3, S, S], label);
    its index is the pair (epoch, number of an example).

    Whether an image is mirrored depends on (seed, epoch, number) alone, like the chunks of speech.
    """

    def __init__(self, source: ImageSource, numbers: np.ndarray, labels: np.ndarray, size: int, seed: int, flip: bool):
        self.source, self.numbers, self.labels = source, numbers, labels
        self.size, self.seed, self.flip = size, seed, flip

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: tuple[int, int]) -> tuple[np.ndarray, int]:
        epoch, number = index
        image = self.source.read(int(self.numbers[number]), self.size)
        if self.flip and np.random.default_rng((self.seed, epoch, number)).integers(2):
            image = image[:, ::-1]
        return np.ascontiguousarray(image.transpose(2, 0, 1)), int(self.labels[number])


class WholeImages(torch.utils.data.Dataset):
    """Images as they are: map-style dataset of (image uint8 [3, S, S], its place in `numbers`)."""

    def __init__(self, source: ImageSource, numbers: Sequence[int], size: int):
        self.source, self.numbers, self.size = source, np.asarray(numbers), size

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[np.ndarray, int]:
        image = self.source.read(int(self.numbers[place]), self.size)
        return np.ascontiguousarray(image.transpose(2, 0, 1)), place

    def batches(self, batch_size: int) -> list[list[int]]:
        """Places, at most `batch_size` together."""
        places = range(len(self))
        return [list(places[first : first + batch_size]) for first in places[::batch_size]]


class FaceCorpus:
    """Faces to train on, as a recipe names them; nothing is read before `read`.

    Parameters
    ----------
    data_folder : path-like
        Folder `<identity>/<image>`, or insightface's `train.rec`.
    image_size : int
        S; images of another size are scaled to it, so they should be aligned and cut alike.
    trials : path-like, optional
        Test pairs over the folder: their people stay out of training.
    valid_trials : path-like, optional
        Development pairs: a list over the folder,
        whose people stay out of training too, or a `.bin`.
    num_valid_identities : int
        Without `valid_trials`: so many people are held out, and pairs made of them.
    flip : bool
        Mirror half of the examples.
    check : bool
        Look at the first bytes of each image of a folder before the training.
    """

    def __init__(
        self,
        data_folder: str | os.PathLike,
        image_size: int = 112,
        trials: str | os.PathLike | None = None,
        valid_trials: str | os.PathLike | None = None,
        num_valid_identities: int = 0,
        flip: bool = True,
        check: bool = True,
    ):
        self.data_folder, self.image_size, self.flip, self.check = data_folder, image_size, flip, check
        self.trials, self.valid_trials, self.num_valid_identities = trials, valid_trials, num_valid_identities

    def read(self, seed: int) -> TrainingData:
        """Look through the images and lists.

        Raises
        ------
        ValueError
            Fewer than two people are left for training;
            a list names an image that is not there; or as the readers.
        """
        source = open_source(self.data_folder, self.check)
        if isinstance(source, PairSource):
            raise ValueError(f"{self.data_folder} has pairs to test on; train on a folder or a .rec")
        out: set[str] = set()
        for path in (self.trials, self.valid_trials):
            if path and not os.fspath(path).endswith(".bin"):
                if not isinstance(source, FolderSource):
                    raise ValueError(f"{path} names images, and those of {self.data_folder} have no names; use a .bin")
                pairs = read_trials(path)
                out |= {name.partition("/")[0] for name in {*pairs.enroll.tolist(), *pairs.test.tolist()}}
        valid, held_out, trials_digest = self._development(source, out, seed)
        stays = ~np.isin(source.identities, sorted(out | set(held_out)))
        numbers = np.flatnonzero(stays)
        people, labels = np.unique(source.identities[numbers], return_inverse=True)
        if len(people) < 2:
            raise ValueError(f"{self.data_folder} has {len(people)} people to train on; two at least are needed")
        return TrainingData(
            source=os.fspath(self.data_folder),
            train_set=TrainingImages(source, numbers, labels, self.image_size, seed, self.flip),
            classes={str(person): row for row, person in enumerate(people.tolist())},
            people=len(people),
            whole=WholeImages(source, numbers, self.image_size),
            whole_labels=torch.from_numpy(labels),
            valid=valid,
            digest=input_key([source.digest(), sorted(out), held_out]),
            trials_digest=trials_digest,
        )

    def _development(self, source: ImageSource, out: set[str], seed: int) -> tuple:
        """(the pairs and what they are of, or None;
        people held out for them; hash of the pairs)."""
        held_out: list = []
        if self.valid_trials and os.fspath(self.valid_trials).endswith(".bin"):
            source = PairSource(self.valid_trials)
            trials = source.trials
        elif self.valid_trials:
            trials = read_trials(self.valid_trials)
        elif self.num_valid_identities:
            left = [person for person in source.identities.tolist() if person not in out]
            held_out = draw_speakers(left, self.num_valid_identities, seed)
            rows = np.flatnonzero(np.isin(source.identities, held_out))
            pairs = zip(source.names[rows].tolist(), source.identities[rows].tolist(), strict=True)
            trials = validation_trials(
                [Utterance(n, f"/{n}", str(who), "", 1, 1, 1, "valid") for n, who in pairs], seed
            )
        else:
            return None, held_out, ""
        names = source.names
        named = np.flatnonzero(np.isin(names, np.concatenate([trials.enroll, trials.test])))
        numbers = dict(zip(names[named].tolist(), named.tolist(), strict=True))
        labels = [] if trials.labels is None else trials.labels.tolist()
        return (
            (numbers, trials, functools.partial(WholeImages, source, size=self.image_size)),
            held_out,
            input_key([trials.enroll.tolist(), trials.test.tolist(), labels, source.digest()]),
        )
