"""What the metrics take for scores, labels and speakers,
whoever made them, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_sv.metrics import (
    act_dcf,
    c_primary,
    cllr,
    det_curve,
    eer,
    eer_rocch,
    evaluate,
    evaluate_conditions,
    fnr_at_fpr,
    min_cllr,
    min_dcf,
    speaker_bootstrap,
    tar_at_far,
    too_few_speakers,
)
from alpha_sv.metrics.checks import checked_labels, checked_scores, numbered

LABELS = np.array([True, False, False, True, True, False])
TWO_SIDES = {
    "eer": eer,
    "eer_rocch": eer_rocch,
    "min_dcf": min_dcf,
    "act_dcf": act_dcf,
    "c_primary": c_primary,
    "fnr_at_fpr": lambda target, nontarget: fnr_at_fpr(target, nontarget, 0.5),
    "tar_at_far": lambda target, nontarget: tar_at_far(target, nontarget, 0.5),
    "cllr": cllr,
    "min_cllr": min_cllr,
    "det_curve": lambda target, nontarget: det_curve(target, nontarget).misses.tolist(),
    "evaluate": evaluate,
}


class DataFrameColumn:
    """What a column of a data frame is to numpy:
    something with `__array__`, and rows of its own numbering."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)

    def __getitem__(self, key):
        raise KeyError(key)


VOCABULARIES = {
    "bool": LABELS,
    "list of bool": LABELS.tolist(),
    "0 and 1": LABELS.astype(int),
    "0.0 and 1.0": LABELS.astype(np.float32),
    "unsigned": LABELS.astype(np.uint8),
    "-1 and 1": 2 * LABELS.astype(int) - 1,
    "words": np.where(LABELS, "target", "nontarget"),
    "list of words": np.where(LABELS, "Target", "NonTarget").tolist(),
    "Kaldi's words": np.where(LABELS, "tgt", "imp"),
    "bytes": np.where(LABELS, b"1", b"0"),
    "objects": LABELS.astype(object),
    "objects of words": np.where(LABELS, "target", "nontarget").astype(object),
    "a column": DataFrameColumn(LABELS.astype(int)),
}


@pytest.mark.parametrize("labels", VOCABULARIES.values(), ids=VOCABULARIES)
def test_labels_mean_the_same_in_every_usual_vocabulary(labels):
    np.testing.assert_array_equal(checked_labels(labels), LABELS)
    scores = np.array([3.0, 0.5, 1.0, 2.0, 0.8, 0.2])
    expected = evaluate(scores[LABELS], scores[~LABELS])["eer"]
    (entry,) = evaluate_conditions(scores, labels, {"all": ["x"] * 6})
    assert entry["trials"] == {"target": 3, "nontarget": 3} and entry["eer"] == expected
    names = [f"s{k}" for k in range(12)]
    enroll, test = [*names, *names], [*names, *names[1:], names[0]]
    values = checked_array(labels)
    both = np.concatenate([np.full(12, values[0]), np.full(12, values[1])])  # a target and a nontarget label
    assert too_few_speakers(enroll, test, both) == ""
    assert "9 speakers have target" in too_few_speakers(enroll[3:], test[3:], both[3:])
    observed = speaker_bootstrap(np.arange(24.0), enroll, test, both, replicates=1).observed
    assert observed[0, 0] == eer(np.arange(12.0), np.arange(12.0, 24.0))[0] == 1


def checked_array(labels):
    return np.asarray(labels) if not isinstance(labels, DataFrameColumn) else labels.values


def test_torch_tensors_are_labels_and_scores():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(checked_labels(torch.from_numpy(LABELS)), LABELS)
    np.testing.assert_array_equal(checked_labels(2 * torch.from_numpy(LABELS).int() - 1), LABELS)
    training = torch.tensor([0.5, 2.0], requires_grad=True)
    assert eer(training, training.bfloat16() - 1) == eer([0.5, 2.0], [-0.5, 1.0])
    assert checked_scores("scores", training.half()).tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([1, 2, 1], "1, 2"),
        ([0, -1, 0], "0, -1"),
        ([0, 1, -1], "0, 1, -1"),
        ([0.9, 0.1, 0.5], "0.9, 0.1, 0.5, ..."),
        ([1.0, float("nan"), 0.0], "nan"),
        ([float("nan"), 1.0, 0.0], "nan"),
        ([None, True, False], "None"),
        ([True, "target", False], "'True', 'target'"),  # numpy makes text of these
        (["target", "imp", "imp"], "'target', 'imp'"),
        (["a/1", "b/1", "a/2"], "'a/1', 'b/1', 'a/2'"),
    ],
)
def test_other_values_are_no_labels_and_are_named(labels, found):
    with pytest.raises(ValueError, match="True / False, 0 / 1, -1 / 1 or target / nontarget, found") as error:
        checked_labels(labels)
    assert found in str(error.value)
    with pytest.raises(ValueError, match="labels must be"):
        evaluate_conditions([1.0, 2.0, 3.0], labels, {})
    with pytest.raises(ValueError, match="labels must be"):
        too_few_speakers(["a", "b", "c"], ["a", "c", "b"], labels)
    with pytest.raises(ValueError, match="labels must be"):
        speaker_bootstrap([1.0, 2.0, 3.0], ["a", "b", "c"], ["a", "c", "b"], labels)


SCORES = np.array([0.9, 0.8, 0.35, 0.1, 0.7, 0.2])
AS_LABELS = {name: labels for name, labels in VOCABULARIES.items() if name != "bytes"}


@pytest.mark.parametrize("measure", TWO_SIDES.values(), ids=TWO_SIDES)
def test_scores_with_labels_in_place_of_two_sides_are_refused_with_the_right_call(measure):
    for labels in AS_LABELS.values():
        for arguments in ((SCORES, labels), (labels, SCORES), (SCORES.tolist(), checked_array(labels))):
            with pytest.raises(ValueError, match="labels"):
                measure(*arguments)
    with pytest.raises(ValueError, match=r"only 0 and 1\..*give scores\[labels == 1\], scores\[labels != 1\]"):
        measure(SCORES, LABELS.astype(int))
    with pytest.raises(ValueError, match="only 1"):  # all of one kind: the type tells
        measure(SCORES, np.ones(6, dtype=int))


@pytest.mark.parametrize(
    ("target", "nontarget", "expected"),
    [
        ([1, 1, 0], [0, 0, 1], 1 / 3),  # hard decisions
        ([1.0, 0.0], [-1.0, -2.0], 0.0),
        ([2, 3, 4], [0, 1], 0.0),  # not one value a score
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], 0.0),
        ([0.0, 0.0], [0, 0], 0.5),
    ],
)
def test_scores_that_happen_to_be_zeros_and_ones_are_scores(target, nontarget, expected):
    assert eer(target, nontarget)[0] == expected


@pytest.mark.parametrize(
    ("scores", "problem"),
    [
        ([], "is empty"),
        ([0.1, float("nan")], "NaN or infinite"),
        ([0.1, float("inf")], "NaN or infinite"),
        ([[0.1, 0.2]], "one-dimensional"),
        ([[0.1], [0.1, 0.2]], "one-dimensional"),
        (0.5, "one-dimensional"),
        (None, "one-dimensional"),
        (["0.1", "0.2"], "real numbers"),
        ([0.1, None], "real numbers"),
        ([0.1 + 1j], "real numbers"),
        ([True, False, True], "real numbers"),
        (np.ma.array([0.9, -5.0], mask=[False, True]), "has 1 masked values"),
        ([0.1, -1.1e300], "has -1.1e.300, and may go to"),
        ([1.797e308, 0.1], "another unit"),
    ],
)
@pytest.mark.parametrize("measure", TWO_SIDES.values(), ids=TWO_SIDES)
def test_what_is_no_list_of_scores_is_refused_on_either_side_by_name(measure, scores, problem):
    good = [0.5, 0.25, 0.125, 0.75]
    with pytest.raises(ValueError, match=f"target_scores.*{problem}"):
        measure(scores, good)
    with pytest.raises(ValueError, match=f"nontarget_scores.*{problem}"):
        measure(good, scores)


def test_scores_and_labels_with_masked_values_are_refused_and_others_taken():
    masked = np.ma.array([1, 0, 1], mask=[0, 0, 1])
    with pytest.raises(ValueError, match="labels has 1 masked values"):
        checked_labels(masked)
    with pytest.raises(ValueError, match="enroll_speakers has 1 masked values"):
        too_few_speakers(masked, ["b", "c", "d"], [0, 0, 0])
    with pytest.raises(ValueError, match="sex has 1 masked values"):
        evaluate_conditions([0.1, 0.2, 0.3], [1, 0, 1], {"sex": masked})
    assert eer(np.ma.array([0.9, 0.8], mask=[0, 0]), [0.5, 0.2]) == eer([0.9, 0.8], [0.5, 0.2])


def test_any_array_of_numbers_is_scores():
    for scores in ([1, 2], np.array([1, 2], dtype=object), np.float32([1, 2]), DataFrameColumn([1, 2])):
        assert eer(scores, [0.5]) == eer([1.0, 2.0], [0.5])


def test_the_places_of_the_speakers_among_their_sorted_names_give_the_draws_of_the_names():
    rng = np.random.default_rng(0)
    enroll = rng.integers(0, 30, 600)
    test = np.where(rng.random(600) < 0.3, enroll, rng.integers(0, 30, 600))
    labels, scores = enroll == test, rng.normal(size=600)
    names = np.array(sorted(f"s{k}" for k in range(30)))  # s1, s10, s11, ..., s2
    expected = speaker_bootstrap(scores, names[enroll], names[test], labels, replicates=5)
    for kind in (np.int64, np.uint8, list):
        sides = [side.tolist() if kind is list else side.astype(kind) for side in (enroll, test)]
        np.testing.assert_array_equal(speaker_bootstrap(scores, *sides, labels, replicates=5).draws, expected.draws)
    for kind in (object, "S4", list):  # the same names in other clothes
        sides = [side.tolist() if kind is list else side.astype(kind) for side in (names[enroll], names[test])]
        np.testing.assert_array_equal(speaker_bootstrap(scores, *sides, labels, replicates=5).draws, expected.draws)


@pytest.mark.parametrize("name", [None, float("nan"), 1.5])
def test_a_trial_without_a_speaker_is_refused(name):
    with pytest.raises(ValueError, match="enroll_speakers must be names"):
        too_few_speakers([name, "b"], ["b", "c"], [0, 0])


@pytest.mark.parametrize("side", [["a"], [["a", "b"]], "ab", ["a", "b", "c"]])
def test_speakers_need_one_name_for_each_trial(side):
    with pytest.raises(ValueError, match="speakers"):
        too_few_speakers(side, ["b", "c"], [0, 0])
    with pytest.raises(ValueError, match="speakers"):
        too_few_speakers(["b", "c"], side, [0, 0])
    with pytest.raises(ValueError, match="one value a trial"):
        speaker_bootstrap([0.1, 0.2], ["b", "c"], side, [0, 0])


def test_systems_of_a_bootstrap_must_have_scored_the_same_trials():
    for scores in ([[0.1, 0.2], [0.1]], [np.zeros(2), np.zeros(3)]):
        with pytest.raises(ValueError, match="the same trials"):
            speaker_bootstrap(scores, ["a", "b"], ["a", "c"], [1, 0])


def test_numbers_of_names_are_their_places_in_order():
    rng = np.random.default_rng(1)
    columns = [rng.integers(0, 50, 20_000).astype(str), rng.integers(20, 90, 300).astype(object)]
    names, codes = numbered(columns)
    assert names.tolist() == sorted({str(value) for column in columns for value in column})
    for column, code in zip(columns, codes, strict=True):
        np.testing.assert_array_equal(names[code], column.astype(str))
