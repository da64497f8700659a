"""A cohort is of strangers, also to the speakers behind an enrolment model."""

import numpy as np
import pytest

from alpha_sv.data.trials.tables import Trials
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.pipeline.score import cohort_matrix, cohort_source, score_store, trial_speakers
from alpha_sv.scoring import speaker_means


@pytest.fixture(scope="module")
def store(world):
    return EmbeddingStore.open(world / "emb")


def test_speakers_of_a_trial_list_are_those_of_its_models_too(store):
    trials = Trials(["m"], ["test01/s0/00.wav"], [False])
    models = {"m": ["train00/s0/00.wav", "test02/s1/01.wav"], "not in the trials": ["valid00/s0/00.wav"]}
    speakers = trial_speakers(store, trials, models)
    assert speakers == {"test01", "test02", "train00"}
    with pytest.raises(ValueError, match="1 speakers of the trials are in the cohort .train00.* strangers"):
        cohort_matrix(store, "train", speakers)


def test_a_cohort_is_a_mean_a_speaker_or_every_utterance(store):
    rows = store.split_rows("train")
    utterances = cohort_matrix(store, "train", per_speaker=False)
    np.testing.assert_array_equal(utterances, store.matrix[rows])
    means, names = speaker_means(utterances, [store.speakers[row] for row in rows])
    np.testing.assert_array_equal(cohort_matrix(store, "train"), means)
    assert len(names) == 30 and cohort_source(store, "train")["file"].endswith("split train, speaker means")
    with pytest.raises(ValueError, match="no utterance of split 'dev'"):
        cohort_matrix(store, "dev")


def test_an_unknown_average_is_refused(store):
    with pytest.raises(ValueError, match="'mean' or 'score', got 'median'"):
        score_store(store, Trials(["a"], ["b"]), average="median")


@pytest.mark.parametrize("models", [None, {"m": ["test01/s0/00.wav", "test02/s1/01.wav"]}])
@pytest.mark.parametrize("average", ["mean", "score"])
def test_a_test_within_its_own_enrolment_is_warned_of_once(store, models, average, caplog):
    enroll = "m" if models else "test01/s0/00.wav"
    for test, said in (("test03/s0/00.wav", 0), ("test01/s0/00.wav", 1)):
        trials = Trials([enroll] * 3, ["test02/s0/00.wav", test, test], [False, True, True])
        assert len(score_store(store, trials, models=models, average=average, progress=False)) == 3
        assert len(caplog.records) == said
    assert f"in 2 of 3 trials (first '{enroll} test01/s0/00.wav') the test utterance is part of" in caplog.text
