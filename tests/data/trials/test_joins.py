"""Trials are matched with trials by their two names, in whatever form these are written."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alpha_sv.data.trials.files import count_duplicates, digits, label_scores, read_scores, write_scores, write_trials
from alpha_sv.data.trials.tables import ScoreTable, Trials

names = st.sampled_from(["a", "b", "a b", "b c", "c", "é", "e\u0301", "", " "])
pairs = st.lists(st.tuples(names, names), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(pairs, st.randoms())
def test_labels_are_those_of_a_dictionary(listed, random):
    same = {"e\u0301": "é"}
    key = [(same.get(a, a), same.get(b, b)) for a, b in listed]
    label = {pair: random.random() < 0.5 for pair in key}
    score = {pair: random.random() for pair in key}
    rows = [*range(len(listed)), *random.choices(range(len(listed)), k=3)]
    random.shuffle(rows)
    scored = ScoreTable(*zip(*(listed[r] for r in rows), strict=True), [score[key[r]] for r in rows])
    trials = Trials(*zip(*listed, strict=True), [label[pair] for pair in key])
    found = label_scores(scored, trials)
    assert list(zip(found.enroll, found.test, strict=True)) == listed, "names come back as they were given"
    assert found.scores.tolist() == [score[pair] for pair in key]
    assert found.labels.tolist() == [label[pair] for pair in key]
    assert count_duplicates(trials) == len(key) - len(set(key))
    if len(set(key)) > 1:
        rest = [row for row, pair in enumerate(key) if pair != key[0]]
        short = Trials(*zip(*(listed[row] for row in rest), strict=True), [label[key[row]] for row in rest])
        with pytest.raises(ValueError, match="1 of [0-9]+ scored pairs are not in the trial list"):
            label_scores(scored, short)


def test_names_with_blanks_are_not_taken_for_each_other():
    table = ScoreTable(["a b", "a"], ["c", "b c"], [0.1, 0.9])
    found = label_scores(table, Trials(["a", "a b"], ["b c", "c"], [True, False]))
    assert found.scores.tolist() == [0.9, 0.1] and count_duplicates(table) == 0


def test_names_are_compared_in_one_unicode_form_and_given_back_as_read(tmp_path):
    composed, apart = "Zo\u00eb/1.wav", "Zoe\u0308/1.wav"
    (tmp_path / "scores.txt").write_text(f"{apart} b 0.5\n{apart} c 0.1\n", encoding="utf-8")
    table = read_scores(tmp_path / "scores.txt")
    found = label_scores(table, Trials([composed] * 2, ["b", "c"], [True, False]))
    assert found.labels.tolist() == [True, False] and found.enroll.tolist() == [composed] * 2
    write_scores(tmp_path / "again.txt", table)
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "scores.txt").read_bytes()
    with pytest.raises(ValueError, match="two scores, 0.5 and 0.6"):
        (tmp_path / "scores.txt").write_text(f"{apart} b 0.5\n{composed} b 0.6\n", encoding="utf-8")
        read_scores(tmp_path / "scores.txt")


def test_names_are_kept_whole():
    assert Trials(["a\0", "a"], ["b", "b"]).enroll.tolist() == ["a\0", "a"]
    assert count_duplicates(Trials(["a\0", "a"], ["b", "b"])) == 0
    assert Trials(np.array([7, 8]), ["b", "b"]).enroll.tolist() == ["7", "8"]
    with pytest.raises(ValueError, match=r"'\\udcff' is no valid Unicode"):
        Trials(["a", "\udcff"], ["b", "b"])
    for name in ("a\0", "a\tb", "x" * 5000, "\ufeffa", "a\u2028b", "\x1b"):
        with pytest.raises(ValueError, match="control character"):
            write_trials("/no/such/folder/list.txt", Trials([name], ["b"]))


@pytest.mark.parametrize(
    "table", [Trials(["enroll"], ["test"]), Trials(["a,"], ["b"]), ScoreTable(["a;"], ["b;"], [1.0])]
)
def test_what_would_be_read_as_something_else_is_not_written(table, tmp_path):
    write = write_trials if isinstance(table, Trials) else write_scores
    with pytest.raises(ValueError, match="would be read as"):
        write(tmp_path / "list.txt", table)
    assert not (tmp_path / "list.txt").exists()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-2e6, 2e6) | st.floats(-1, 1), min_size=1))
@example([10000000000.5, 1e6 + 0.5, 999999.5, 0.0001, 0.00011, 9.9e-5, -0.0])
def test_digits_are_those_of_repr(values):
    assert digits(np.array(values)).to_pylist() == list(map(repr, values))
