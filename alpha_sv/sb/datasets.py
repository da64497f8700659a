"""Whole utterances for a training run: those of the development trials, and all of them for A3M-I."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Utterances as they are, whole and without augmentation, at each speed in turn: map-style dataset of
    (waveform, number); `number` counts the utterances at the first speed, then at the second, ….
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


class ValidationSet(WholeUtterances):
    """Development trials and the utterances they name.

    Parameters
    ----------
    utterances : sequence of Utterance
        At least those that the trials name.
    trials : Trials
        With labels.
    """

    def __init__(self, utterances: Sequence[Utterance], trials: Trials, sample_rate: int = 16000):
        if trials.labels is None or trials.labels.all() or not trials.labels.any():
            raise ValueError("development trials need labels, with at least one target and one nontarget trial")
        used = sorted(set(trials.enroll.tolist()) | set(trials.test.tolist()))
        by_id = {utterance.utt_id: utterance for utterance in utterances}
        if missing := [utt_id for utt_id in used if utt_id not in by_id]:
            raise ValueError(
                f"{len(missing)} utterances of the development trials are not in the manifest: {', '.join(missing[:5])}"
            )
        super().__init__([by_id[utt_id] for utt_id in used], sample_rate)
        number = {utt_id: i for i, utt_id in enumerate(used)}
        self.enroll = np.array([number[utt_id] for utt_id in trials.enroll.tolist()])
        self.test = np.array([number[utt_id] for utt_id in trials.test.tolist()])
        self.labels = np.asarray(trials.labels, dtype=bool)

    def evaluate(self, embeddings: dict[int, np.ndarray]) -> dict[str, float]:
        """EER, minDCF(0.01) and FNR at FPR 1 % of cosine scores, from utterance number → embedding."""
        there = np.isin(self.enroll, list(embeddings)) & np.isin(self.test, list(embeddings))  # few with --debug
        rows = [np.stack([embeddings[i] for i in side[there]]) for side in (self.enroll, self.test)]
        scores, labels = cosine_scores(*rows), self.labels[there]
        target, nontarget = scores[labels], scores[~labels]
        return {
            "eer": float(eer(target, nontarget)[0]),
            "min_dcf": float(min_dcf(target, nontarget)[0]),
            "fnr_at_fpr_1e-2": float(fnr_at_fpr(target, nontarget, 1e-2)[0]),
        }
