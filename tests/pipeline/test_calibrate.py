"""Fitting a calibrator, with durations from manifests."""

import numpy as np
import pytest

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.pipeline.calibrate import manifest_durations


def test_durations_are_those_of_the_shorter_and_the_longer_side(world):
    seconds = {u.utt_id: u.duration for u in read_manifest(world / "manifest.csv")}
    enroll, test = np.random.default_rng(0).choice(sorted(seconds), size=(2, 50))
    found = manifest_durations(ScoreTable(enroll, test, np.zeros(50)), [world / "manifest.csv"])
    pairs = [sorted((seconds[a], seconds[b])) for a, b in zip(enroll.tolist(), test.tolist(), strict=True)]
    np.testing.assert_allclose(np.exp(found["log_duration_min"]), [low for low, _ in pairs])
    np.testing.assert_allclose(np.exp(found["log_duration_max"]), [high for _, high in pairs])


def test_an_utterance_without_a_duration_is_named(world):
    with pytest.raises(ValueError, match="manifest.csv: no duration of 1 utterances .*'nobody.wav'"):
        manifest_durations(ScoreTable(["nobody.wav"], ["test00/s0/00.wav"], [0.0]), [world / "manifest.csv"])
