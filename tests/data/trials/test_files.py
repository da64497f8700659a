"""Trial lists and score files say what was written, in any layout, or say which line does not."""

from __future__ import annotations

import io

import numpy as np
import pytest

from alpha_sv.data.trials.files import (
    ScoreTable,
    Trials,
    count_duplicates,
    label_scores,
    read_scores,
    read_trials,
    write_scores,
    write_trials,
)


@pytest.fixture
def given(tmp_path):
    def write(text, name="list.txt"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("1 a b\n0 a c\n", [True, False]),
        ("a b target\na c nontarget\n", [True, False]),
        ("a b 1\na c 0\n", [True, False]),
        ("a b\na c\n", None),
        ("test enroll\nb a\nc a\n", None),
        ("label enroll test\n1 a b\n0 a c\n", [True, False]),
        (
            "\ufeff1 a b\r\n\r\n0\ta  c",
            [True, False],
        ),  # byte-order mark, CRLF, blank line, tab, no last newline
    ],
)
def test_trial_layouts(given, text, labels):
    trials = read_trials(given(text))
    assert trials.enroll.tolist() == ["a", "a"] and trials.test.tolist() == ["b", "c"]
    assert (None if trials.labels is None else trials.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a b 1 0.5\na c 0 -1e-3\n", [True, False]),
        ("a b 0.5 target\na c -1e-3 nontarget\n", [True, False]),
        ("a b 0.5\na c -1e-3\n", None),
        ("0.5 a b\n-1e-3 a c\n", None),  # VoxSRC
        ("score label enroll test\n0.5 1 a b\n-1e-3 0 a c\n", [True, False]),
    ],
)
def test_score_layouts(given, text, labels):
    table = read_scores(given(text))
    assert table.enroll.tolist() == ["a", "a"] and table.test.tolist() == ["b", "c"]
    assert table.scores.tolist() == [0.5, -1e-3] and table.scores.dtype == np.float64
    assert (None if table.labels is None else table.labels.tolist()) == labels


def test_the_layout_is_that_of_the_whole_file(given):
    # the first line alone reads both ways; the second says that labels come first
    assert read_trials(given("1 a 0\n0 a b\n")).test.tolist() == ["0", "b"]
    # integer scores beside words are scores, whatever the first line looks like
    assert read_scores(given("a b 1 target\na c 0 nontarget\n")).scores.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("read", "text", "layout", "column"),
    [
        (read_trials, "1 a 0\n0 b 1\n", "voxceleb", "test"),
        (read_trials, "1 a 0\n0 b 1\n", "kaldi", "enroll"),
        (read_scores, "a b 1 0\na c 0 1\n", "wespeaker", "enroll"),
        (read_scores, "a b 1 0\na c 0 1\n", "speechbrain", "enroll"),
        (read_scores, "a b 1\na c 0\n", "unlabeled", "enroll"),
        (read_scores, "1 a b\n0 a c\n", "voxsrc", "enroll"),
        (read_scores, "12 34 0.5\n12 35 0.25\n", "unlabeled", "enroll"),  # identifiers that are numbers
        (read_scores, "12 34 0.5\n12 35 0.25\n", "voxsrc", "enroll"),
    ],
)
def test_an_ambiguous_file_needs_the_layout(given, read, text, layout, column):
    path = given(text)
    with pytest.raises(ValueError, match=r"list.txt:1: .*layout=.*--layout.*\(line: '"):
        read(path)
    assert len(getattr(read(path, layout=layout), column)) == 2
    first = read(path, layout=layout)
    if layout == "wespeaker":
        assert first.scores.tolist() == [1, 0] and first.labels.tolist() == [False, True]
    if layout == "speechbrain":
        assert first.scores.tolist() == [0, 1] and first.labels.tolist() == [True, False]


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (read_trials, "1 a b\n0 a c\n2 a d\n", "list.txt:3: label '2'"),
        (read_trials, "\n1 a b\n\n0 a c d\n", "list.txt:4: 4 columns where line 2 has 3"),
        (read_trials, "a b target\na c guest\n", "list.txt:2: label 'guest'"),
        (read_trials, "a b target\na c 0\n", "list.txt:2: label '0'"),  # two vocabularies in one file
        (read_trials, "a b 1 0.5\n", "list.txt:1: 4 columns fit no layout .*no trial list"),
        (read_trials, "a\nb\n", "list.txt:1: 1 columns fit no layout"),
        (read_trials, "", "empty file"),
        (read_trials, "\n \n", "empty file"),
        (read_scores, "", "empty file"),
        (read_scores, "a b 0.5\na c x\n", "list.txt:2: score 'x' is not a number"),
        (read_scores, "a b 0.5\na c nan\n", "list.txt:2: score 'nan' is not finite"),
        (read_scores, "a b 0.5\na c -1e308\n", "list.txt:2: score '-1e308' is beyond ±1e.300; give .* another unit"),
        (read_scores, "a b 1 0.5\na c 0 -inf\n", "list.txt:2: score '-inf' is not finite"),
        (read_scores, "a b 1 0.5\na c 3 0.1\n", "list.txt:2: label '3'"),
        (read_scores, "a b target\na c nontarget\n", "list.txt:1: .*no scores file"),
        (read_scores, "a b\n", "list.txt:1: 2 columns fit no layout .*no scores file"),
        (read_scores, "0.5 a b\nx a c\n", "list.txt:2: score 'x' is not a number"),
        (read_scores, "0.5 a b\ninf a c\n", "list.txt:2: score 'inf' is not finite"),
        (read_trials, "1 a b f\n0 a c m\n", "list.txt:1: 4 columns fit no layout .*header line"),
        (read_trials, "label enroll test\n", "list.txt: a header line but no trials"),
        (read_trials, "enroll test age age\na b 1 2\n", "list.txt: the header names a column twice"),
        (read_trials, "enroll test score\na b 0.5\n", "list.txt: the header names a score column.*no trial list"),
        (read_trials, "\nlabel enroll test\n1 a b\n7 a c\n", "list.txt:4: label '7'"),
        (read_scores, "enroll test label\na b 1\n", "list.txt: the header names no score column.*no scores file"),
        (read_scores, "enroll test score age\na b 1 2\n", "list.txt: age are no columns of a score file.*trial list"),
    ],
)
def test_a_malformed_line_is_named(given, read, text, expected):
    with pytest.raises(ValueError, match=expected):
        read(given(text))


def test_further_columns_are_conditions(given, tmp_path):
    trials = read_trials(given("gender label enroll test nationality\nf 1 a b UK\nm 0 a c IN\n"))
    assert trials.labels.tolist() == [True, False] and trials.test.tolist() == ["b", "c"]
    assert {name: values.tolist() for name, values in trials.conditions.items()} == {
        "gender": ["f", "m"],
        "nationality": ["UK", "IN"],
    }
    for some in (trials, Trials(trials.enroll, trials.test, None, trials.conditions)):
        write_trials(tmp_path / "out.txt", some)
        back = read_trials(tmp_path / "out.txt")
        assert back.enroll.tolist() == ["a", "a"] and (back.labels is None) == (some.labels is None)
        assert back.conditions["nationality"].tolist() == ["UK", "IN"]
    assert read_trials(given("1 a b\n0 a c\n")).conditions == {}


def test_conditions_fit_the_trials(tmp_path):
    with pytest.raises(ValueError, match="one value a trial"):
        Trials(["a", "b"], ["c", "d"], None, {"gender": ["f"]})
    with pytest.raises(ValueError, match="cannot be called 'label'"):
        Trials(["a"], ["b"], None, {"label": ["1"]})
    for conditions in ({"spoken language": ["x"]}, {"language": ["Scots Gaelic"]}):
        with pytest.raises(ValueError, match="contains white space"):
            write_trials(tmp_path / "out.txt", Trials(["a"], ["b"], None, conditions))


def test_a_header_and_a_layout_do_not_go_together(given):
    with pytest.raises(ValueError, match="list.txt has a header .*leave the layout out"):
        read_trials(given("label enroll test\n1 a b\n"), layout="voxceleb")


def test_streams_are_read_and_written_like_files():
    table = ScoreTable(["a", "a"], ["b", "c"], [0.1, 1 / 3], [True, False])
    stream = io.StringIO()
    write_scores(stream, table)
    stream.seek(0)
    back = read_scores(stream)
    assert back.scores.tobytes() == table.scores.tobytes() and not stream.closed
    assert read_trials(io.StringIO("\ufeff1 a b\n0 a c")).labels.tolist() == [True, False]
    with pytest.raises(ValueError, match="<stream>:2: label '2'"):
        read_trials(io.StringIO("1 a b\n2 a c"))
    with pytest.raises(ValueError, match="<stream>: not UTF-8"):
        read_trials(io.TextIOWrapper(io.BytesIO(b"1 \xff b\n"), encoding="utf-8"))
    with pytest.raises(ValueError, match="<stream>: identifier ''"):
        write_trials(stream, Trials([""], ["b"]))


@pytest.mark.parametrize("labels", [None, [True, False]])
def test_a_name_that_begins_like_a_comment_comes_back(tmp_path, labels):
    table = ScoreTable(["a", "#1/x"], ["#2", "b"], [0.5, 0.25], labels)
    write_scores(tmp_path / "scores.txt", table)
    back = read_scores(tmp_path / "scores.txt")
    assert back.enroll.tolist() == ["a", "#1/x"] and back.scores.tolist() == [0.5, 0.25]
    trials = Trials(["a", "#1/x"], ["#2", "b"], labels)
    if labels:
        write_trials(tmp_path / "trials.txt", trials)
        assert read_trials(tmp_path / "trials.txt").test.tolist() == ["#2", "b"]
    else:
        with pytest.raises(ValueError, match="the line of '#1/x' would be read as a comment; rename"):
            write_trials(tmp_path / "trials.txt", trials)


def test_a_missing_label_is_an_error_not_a_guess(given):
    # peers: a random label was invented where one was missing
    with pytest.raises(ValueError, match="list.txt:2: 2 columns"):
        read_trials(given("1 a b\na c\n"))


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "scores.npy"
    np.save(path, np.ones(3))
    with pytest.raises(ValueError, match="scores.npy: no list but a numpy array"):
        read_scores(path)


def test_a_layout_given_must_fit(given):
    with pytest.raises(ValueError, match="unknown layout 'voxcelebs'; choose one of voxceleb"):
        read_trials(given("1 a b\n"), layout="voxcelebs")
    with pytest.raises(ValueError, match="this file has 3 columns"):
        read_trials(given("1 a b\n"), layout="unlabeled")
    with pytest.raises(ValueError, match="list.txt:1: label 'b'"):
        read_trials(given("1 a b\n"), layout="kaldi")


def test_repeats_are_kept_and_counted_but_contradictions_refused(given):
    trials = read_trials(given("1 a b\n1 a b\n0 b a\n1 a b\n"))
    assert len(trials) == 4 and count_duplicates(trials) == 2
    with pytest.raises(ValueError, match="list.txt: pair 'a b' has two labels"):
        read_trials(given("1 a b\n0 a c\n0 a b\n"))
    with pytest.raises(ValueError, match="list.txt: pair 'a b' has two labels"):
        read_scores(given("a b 1 0.5\na b 0 0.5\n"))
    with pytest.raises(ValueError, match="list.txt: pair 'a b' has two scores, 0.5 and 0.6"):
        read_scores(given("a b 1 0.5\na c 0 0.1\na b 1 0.6\n"))  # counted twice, one of them wrongly
    assert len(read_scores(given("a b 1 0.5\na b 1 0.5\n"))) == 2


@pytest.mark.parametrize("labels", [None, [True, False, True]])
def test_trials_come_back_from_the_file(tmp_path, labels):
    trials = Trials(["a/1.wav", "b", "c"], ["d", "e/f/2.flac", "ü"], labels)
    write_trials(tmp_path / "out.txt", trials)
    back = read_trials(tmp_path / "out.txt")
    assert back.enroll.tolist() == trials.enroll.tolist() and back.test.tolist() == trials.test.tolist()
    assert (back.labels is None) == (labels is None)
    assert labels is None or back.labels.tolist() == labels


@pytest.mark.parametrize("labelled", [True, False])
def test_scores_come_back_bit_for_bit(tmp_path, labelled):
    # peers: scores rounded to 5 decimals before AS-norm
    # tie what was apart and move every rate at a low FPR
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=500), 0.5 + np.arange(50) * 2.0**-53, [0.0, 1.0, 5e-324, -1e300]])
    names = [f"u{i}" for i in range(scores.size)]
    table = ScoreTable(names, names[::-1], scores, np.arange(scores.size) % 3 == 0 if labelled else None)
    write_scores(tmp_path / "scores.txt", table)
    back = read_scores(tmp_path / "scores.txt")
    assert back.scores.tobytes() == scores.tobytes()
    assert back.enroll.tolist() == names
    assert (back.labels is not None) == labelled
    assert not labelled or (back.labels == table.labels).all()


def test_written_scores_are_in_wespeakers_layout(tmp_path):
    write_scores(tmp_path / "scores.txt", ScoreTable(["a", "a"], ["b", "c"], [0.5, 0.1], [True, False]))
    assert (tmp_path / "scores.txt").read_text() == "a b 0.5 target\na c 0.1 nontarget\n"


def test_a_refused_table_leaves_the_old_file_alone(given):
    path = given("a b 0.5 target\n")
    with pytest.raises(ValueError, match="1 of 2 scores are NaN, infinite or beyond .*, first c d nan"):
        write_scores(path, ScoreTable(["a", "c"], ["b", "d"], [0.5, np.nan]))
    for identifier in ("two words", "", "line\nbreak", "end "):
        with pytest.raises(ValueError, match="empty or contains white space"):
            write_scores(path, ScoreTable(["a"], [identifier], [0.5]))
        with pytest.raises(ValueError, match="empty or contains white space"):
            write_trials(path, Trials([identifier], ["a"]))
    assert path.read_text() == "a b 0.5 target\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["list.txt"]


def test_labels_are_attached_in_the_order_of_the_list():
    trials = Trials(["a", "b", "a", "a"], ["b", "a", "c", "b"], [True, False, False, True])
    table = ScoreTable(["a", "b", "a"], ["c", "a", "b"], [0.1, 0.2, 0.3])
    labelled = label_scores(table, trials)
    assert labelled.scores.tolist() == [0.3, 0.2, 0.1, 0.3]  # the repeated trial is scored as published
    assert labelled.target_scores.tolist() == [0.3, 0.3]
    assert labelled.nontarget_scores.tolist() == [0.2, 0.1]


def test_labels_are_attached_only_to_the_very_list():
    trials = Trials(["a", "a", "a"], ["b", "c", "d"], [True, False, False])
    with pytest.raises(ValueError, match=r"2 of 3 trials have no score \(such as 'a c', 'a d'\) and 0 of 1"):
        label_scores(ScoreTable(["a"], ["b"], [0.5]), trials)
    with pytest.raises(ValueError, match=r"0 of 3 trials .* 1 of 4 scored pairs .* \(such as 'b a'\)"):
        label_scores(ScoreTable(["a", "a", "a", "b"], ["b", "c", "d", "a"], [1, 2, 3, 4]), trials)
    with pytest.raises(ValueError, match="pair 'a b' has two scores, 0.5 and 0.6"):
        label_scores(ScoreTable(["a"] * 4, ["b", "c", "d", "b"], [0.5, 0, 0, 0.6]), trials)
    with pytest.raises(ValueError, match="pair 'a c' is labelled 1 in the scores and 0 in the trial list"):
        label_scores(ScoreTable(["a"] * 3, ["b", "c", "d"], [1, 2, 3], [True, True, False]), trials)
    with pytest.raises(ValueError, match="no labels"):
        label_scores(ScoreTable(["a"], ["b"], [0.5]), Trials(["a"], ["b"]))


@pytest.mark.parametrize("scores", [["1_0"], [None], [1j], np.array(["0.5"]), np.ma.array([0.5], mask=[1])])
def test_scores_of_a_table_are_real_numbers(scores):
    with pytest.raises(ValueError, match="scores (must be real numbers|has 1 masked)"):
        ScoreTable(["a"], ["b"], scores)
    assert ScoreTable(["a"], ["b"], np.array([2], dtype=object)).scores.tolist() == [2.0]


@pytest.mark.parametrize("missing", [None, float("nan"), 1.5, np.ma.masked])
def test_a_missing_name_is_nobody(missing):
    for names in (["a", missing], np.array(["a", missing], dtype=object)):
        with pytest.raises(ValueError, match="names must be text or whole numbers, found"):
            Trials(names, ["b", "c"])
    with pytest.raises(ValueError, match="labels has 1 masked values"):
        Trials(["a", "b"], ["c", "d"], np.ma.array([1, 0], mask=[0, 1]))
    assert Trials([1, np.int64(2)], ["c", "d"]).enroll.tolist() == ["1", "2"]


def test_tables_with_columns_of_different_length_do_not_exist():
    with pytest.raises(ValueError, match="one value a trial"):
        Trials(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="one value a trial"):
        ScoreTable(["a"], ["b"], [0.1, 0.2])
    with pytest.raises(ValueError, match="one value a trial"):
        Trials(["a"], ["b"], [True, False])
    with pytest.raises(ValueError, match="booleans or 0 / 1"):
        Trials(["a"], ["b"], [2])


def test_an_unlabelled_table_has_no_sides():
    with pytest.raises(ValueError, match="label_scores"):
        _ = ScoreTable(["a"], ["b"], [0.5]).target_scores
