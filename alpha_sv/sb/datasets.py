"""Whole utterances for a training run:
those of the development trials, and all of them for A3M-I."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from alpha_sv.data.audio.recordings import Recordings
from alpha_sv.data.audio.speed import change_speed, source_length
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.trials import Trials
from alpha_sv.embedding.extract import embedded_length, read_whole
from alpha_sv.embedding.features import fill, length_batches, whole_length
from alpha_sv.metrics import eer, fnr_at_fpr, min_dcf
from alpha_sv.scoring import cosine_scores


class WholeUtterances(torch.utils.data.Dataset):
    """Utterances as they are, whole and without augmentation, at each speed in turn:
    map-style dataset of (waveform, number); `number` counts the utterances at the first
    speed, then at the second, ….
    """

    def __init__(self, utterances: Sequence[Utterance], sample_rate: int = 16000, speeds: Sequence[float] = (1.0,)):
        self.utterances, self.sample_rate, self.speeds = Recordings(utterances), sample_rate, tuple(speeds)

    def __len__(self) -> int:
        return len(self.utterances) * len(self.speeds)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        which, row = divmod(number, len(self.utterances))
        waveform = read_whole(self.utterances[row], self.sample_rate)
        if which:
            samples, speed = int(len(waveform) / self.speeds[which]), self.speeds[which]
            waveform = change_speed(waveform[: source_length(samples, speed)], speed, samples).astype(np.float32)
        return fill(waveform, self._length(row, which)), number

    def batches(self, batch_size: int) -> list[list[int]]:
        """Numbers of utterances of equal length, at most `batch_size` together."""
        lengths = [self._length(row, n) for n in range(len(self.speeds)) for row in range(len(self.utterances))]
        return [rows.tolist() for rows in length_batches(lengths, batch_size)]

    def _length(self, row: int, which: int) -> int:
        """Of an utterance at a speed, as it is embedded; depends on nothing else."""
        return embedded_length(
            self.utterances[row], lambda samples: whole_length(int(samples / self.speeds[which]), self.sample_rate)
        )


class DevelopmentSet(torch.utils.data.Dataset):
    """Development trials and what they compare: map-style dataset of (input, number).

    Parameters
    ----------
    examples : mapping
        Name → utterance or image; at least those that the trials name.
    trials : Trials
        With labels.
    whole : callable
        Examples → dataset of (input, number) with `batches`, such as `WholeUtterances`.
    """

    def __init__(self, examples: Mapping, trials: Trials, whole: Callable[[list], torch.utils.data.Dataset]):
        if trials.labels is None or trials.labels.all() or not trials.labels.any():
            raise ValueError("development trials need labels, with at least one target and one nontarget trial")
        used = sorted(set(trials.enroll.tolist()) | set(trials.test.tolist()))
        if missing := [name for name in used if name not in examples]:
            raise ValueError(
                f"{len(missing)} names of the development trials are not in the corpus: {', '.join(missing[:5])}"
            )
        self.whole = whole([examples[name] for name in used])
        number = {name: i for i, name in enumerate(used)}
        self.enroll = np.array([number[name] for name in trials.enroll.tolist()])
        self.test = np.array([number[name] for name in trials.test.tolist()])
        self.labels = np.asarray(trials.labels, dtype=bool)

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return self.whole[number]

    def batches(self, batch_size: int) -> list[list[int]]:
        """Numbers of what may be embedded together, at most `batch_size`."""
        return self.whole.batches(batch_size)

    def evaluate(self, embeddings: dict[int, np.ndarray]) -> dict[str, float]:
        """EER, minDCF(0.01) and FNR at FPR 1 % of cosine scores, from number → embedding."""
        there = np.isin(self.enroll, list(embeddings)) & np.isin(self.test, list(embeddings))  # few with --debug
        rows = [np.stack([embeddings[i] for i in side[there]]) for side in (self.enroll, self.test)]
        scores, labels = cosine_scores(*rows), self.labels[there]
        target, nontarget = scores[labels], scores[~labels]
        return {
            "eer": float(eer(target, nontarget)[0]),
            "min_dcf": float(min_dcf(target, nontarget)[0]),
            "fnr_at_fpr_1e-2": float(fnr_at_fpr(target, nontarget, 1e-2)[0]),
        }
