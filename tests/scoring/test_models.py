"""An enrolment model of several utterances scores as
its mean embedding, or as the mean of its scores."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.scoring import (
    average_scores,
    expand_trials,
    mean_models,
    normalize_table,
    read_models,
    score_trials,
)
from alpha_sv.scoring.models import enrolled_tests
from tests.fixtures.embedding_store import Store


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    store = Store([f"u{i}" for i in range(12)], rng.normal(size=(12, 6)).astype(np.float32))
    models = {"m1": ["u0", "u3", "u4"], "m2": ["u1"], "m3": ["u5", "u2"]}
    trials = Trials(["m3", "m1", "m2", "m1", "m3"], ["u7", "u8", "u9", "u10", "u7"], [True, False, False, True, True])
    return store, models, trials


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_mean_of_the_normalised_embeddings(world):
    store, models, trials = world
    scores = score_trials(trials, mean_models(trials, store, models), progress=False)
    for row in range(len(trials)):
        enroll = unit(store.matrix[store.rows(models[trials.enroll[row]])].astype(np.float64)).mean(axis=0)
        test = store.matrix[store.rows([trials.test[row]])[0]].astype(np.float64)
        assert scores.scores[row] == pytest.approx(unit(enroll) @ unit(test), abs=1e-14)
    assert (scores.labels == trials.labels).all()


def test_average_of_the_scores(world):
    store, models, trials = world
    table = score_trials(expand_trials(trials, models), store, progress=False)
    assert len(table) == 2 + 3 + 1 + 3 + 2
    averaged = average_scores(table, trials, models)
    for row in range(len(trials)):
        enroll = unit(store.matrix[store.rows(models[trials.enroll[row]])].astype(np.float64))
        test = unit(store.matrix[store.rows([trials.test[row]])[0]].astype(np.float64))
        assert averaged.scores[row] == pytest.approx((enroll @ test).mean(), abs=1e-14)
    assert averaged.enroll.tolist() == trials.enroll.tolist() and (averaged.labels == trials.labels).all()


def test_tests_that_are_part_of_their_own_enrolment_are_found(world):
    _, models, trials = world
    assert enrolled_tests(trials, models).tolist() == [] == enrolled_tests(trials).tolist()
    own = Trials(["m1", "m2", "m1", "m3"], ["u4", "u4", "u1", "u2"])
    assert enrolled_tests(own, models).tolist() == [0, 3]
    assert enrolled_tests(Trials(["a", "b", "e\u0301"], ["b", "b", "\u00e9"])).tolist() == [1, 2]


@pytest.mark.parametrize("norm", [False, True])
def test_a_model_of_one_utterance_scores_as_the_utterance(world, norm):
    store, _, _ = world
    models, cohort = {"one": ["u1"], "two": ["u6"]}, np.random.default_rng(1).normal(size=(20, 6))
    trials, plain = Trials(["one", "two"], ["u9", "u0"]), Trials(["u1", "u6"], ["u9", "u0"])

    def score(trials, store):
        table = score_trials(trials, store, progress=False)
        return normalize_table(table, store, cohort, top_n=8, progress=False) if norm else table

    expected = score(plain, store).scores
    np.testing.assert_allclose(score(trials, mean_models(trials, store, models)).scores, expected, atol=1e-12)
    averaged = average_scores(score(expand_trials(trials, models), store), trials, models)
    np.testing.assert_array_equal(averaged.scores, expected)


def test_the_order_within_a_model_does_not_matter(world):
    store, models, trials = world
    other = {name: utterances[::-1] for name, utterances in reversed(models.items())}
    first, second = (score_trials(trials, mean_models(trials, store, m), progress=False) for m in (models, other))
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-14)


def test_models_and_utterances_that_are_not_there_are_named(world):
    store, models, trials = world
    for way in (lambda t, m: mean_models(t, store, m), expand_trials):
        with pytest.raises(ValueError, match="1 of the 2 models .* not in the model file .*'m4'"):
            way(Trials(["m4", "m1"], ["u1", "u1"]), models)
        with pytest.raises(ValueError, match="1 models have no utterance .*'m2'"):
            way(trials, {**models, "m2": []})
    with pytest.raises(ValueError, match="1 of the 10 utterances .*'u99'"):
        mean_models(trials, store, {**models, "m2": ["u99"]})
    with pytest.raises(ValueError, match="1 names are a model and an utterance .*'u5'"):
        mean_models(Trials(["u5"], ["u1"]), store, {"u5": ["u2", "u5"]})
    store.matrix[3:5] = [1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="'m1' is all zero"):
        mean_models(trials, store, {**models, "m1": ["u3", "u4"]})


def test_only_the_scores_of_the_expanded_list_are_averaged(world):
    store, models, trials = world
    table = score_trials(expand_trials(trials, models), store, progress=False)
    shuffled = ScoreTable(table.enroll[::-1], table.test[::-1], table.scores[::-1])
    for wrong in (shuffled, ScoreTable(table.enroll[1:], table.test[1:], table.scores[1:])):
        with pytest.raises(ValueError, match="not expand_trials"):
            average_scores(wrong, trials, models)


def test_model_files(tmp_path):
    path = tmp_path / "spk2utt"
    path.write_text("\ufeffm1 a b\r\n\n m2\tc \n", encoding="utf-8")
    assert read_models(path) == {"m1": ["a", "b"], "m2": ["c"]}
    for text, message in (
        ("m1 a\nm2\n", "spk2utt:2: model 'm2' has no utterance"),
        ("m1 a b a\n", "spk2utt:1: model 'm1' has an utterance twice"),
        ("m1 a\nm2 b\nm1 c\n", "spk2utt:3: a second line for model 'm1'"),
        (" \n", "spk2utt: empty file"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_models(path)
    path.write_bytes(b"m1 \xff\n")
    with pytest.raises(ValueError, match="spk2utt: not UTF-8"):
        read_models(path)


def test_names_in_another_unicode_form_are_the_same_names():
    store = Store(["Jos\u00e9/a", "Jos\u00e9/b", "Zoe\u0308/a"], np.eye(3, 4, dtype=np.float32) + 0.5)
    models = {"m\u00e9": ["Jose\u0301/a", "Jos\u00e9/b"]}
    typed = Trials(["m\u00e9"], ["Zoe\u0308/a"], [False])
    copied = Trials(["me\u0301"], ["Zo\u00eb/a"], [False])
    for find in (
        lambda trials: score_trials(trials, mean_models(trials, store, models), progress=False),
        lambda trials: score_trials(expand_trials(trials, models), store, progress=False),
    ):
        assert find(typed).scores.tolist() == find(copied).scores.tolist()
