"""The fast reader never accepts what the plain one refuses,
and reads the same values, whatever is in a file."""

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alpha_sv.data.trials.arrow_reader import Unreadable, read_columns
from alpha_sv.data.trials.files import read_scores, read_trials
from alpha_sv.data.trials.layouts import SCORE_LAYOUTS, TRIAL_LAYOUTS
from alpha_sv.data.trials.line_reader import TextTable
from alpha_sv.data.trials.name_column import Names
from alpha_sv.data.trials.text import Text
from alpha_sv.files import InputError

NUMBERS = ["0.5", "-1e-3", "1", "0", "+.5", "3.", "1e400", "1e-400", "nan", "-inf", "1_0", "٣", "0x1p3", "+-", "0,5"]
LABELS = ["target", "nontarget", "Target", "tgt", "imp", "true", "FALSE", "-1", "2", "same", "different", "x"]
NAMES = [
    "a",
    "b/1.wav",
    "ü",
    "u\u0308",
    "enroll",
    "12",
    '"q"',
    "a,b",
    "c;",
    "#",
    "#a",
    "n" * 5000,
    "a\0",
    "\x0bz",
    "é\u3000e",
]
tokens = st.sampled_from(NUMBERS + LABELS + NAMES) | st.text(max_size=4)
columns = st.sampled_from([["a", "b", "ü"], ["0", "1"], ["target", "nontarget"], ["tgt", "imp"], ["0.5", "-1", "2e3"]])
HEADERS = ["enroll test label", "label ENROLL Test sex", "modelid segmentid side LLR", "score enroll test", "a b c"]


@st.composite
def files(draw):
    """Bytes of a list: mostly in order, with something odd here and there."""
    kinds = draw(st.lists(columns, min_size=2, max_size=5))
    rows = draw(st.lists(st.tuples(*map(st.sampled_from, kinds)).map(list), min_size=1, max_size=12))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(kinds) - 1))] = draw(tokens)
    blank = draw(st.sampled_from([" ", "\t", "  ", ",", ";", ", ", "\u00a0"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", " \n", "\n\n \n "]))
    header = draw(st.sampled_from(["", "", *HEADERS])).replace(" ", blank)
    text = end.join([*[header] * bool(header), *map(blank.join, rows)]) + draw(st.sampled_from(["", end]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding, "replace")


def flat(columns):
    """Columns as lists, to be compared."""
    found = {name: columns[name] for name in ("enroll", "test", "labels", "scores") if name in columns}
    found |= {f"condition {name}": values for name, values in columns["conditions"].items()}
    return {k: (v.array if isinstance(v, Names) else np.asarray(v, dtype=object)).tolist() for k, v in found.items()}


def plain(content, layouts, layout):
    text = Text(io.BytesIO(content))
    table = TextTable.read(text.path, text.blocks())
    return flat(table.arrays(table.roles(layouts, layout, "otherwise")))


def both_agree(content, layouts, layout, head, block):
    try:
        fast = flat(read_columns(Text(io.BytesIO(content)), layouts, layout, head, block))
    except (Unreadable, InputError):
        return
    assert fast == plain(content, layouts, layout)


@example(b"1 a b\n-1 a c\n", TRIAL_LAYOUTS, None, 8, 8)  # the first lines are of another vocabulary than all of them
@example(b"1 a 0\n1 a 1\n0 a b\n", TRIAL_LAYOUTS, None, 12, 6)
@example(b"a b 1\na b 1\na c 0.5\n", SCORE_LAYOUTS, None, 12, 100)
@example(b"a b tgt\na c tgt\na d imp\n", TRIAL_LAYOUTS, None, 8, 8)
@example(b"a,b,0,51\na,c,1,5e-05\n", SCORE_LAYOUTS, None, 1 << 16, 100)
@example(b"a b 0.5\na c 0.5\n#a d 0.5\n", SCORE_LAYOUTS, None, 10, 100)
@example(b"a b\na c\n#a d\n", TRIAL_LAYOUTS, None, 8, 4)
@settings(max_examples=250, deadline=None)
@given(
    files() | st.binary(max_size=40),
    st.sampled_from([TRIAL_LAYOUTS, SCORE_LAYOUTS]),
    st.sampled_from([None, None, "unlabeled", "kaldi", "wespeaker"]),
    st.sampled_from([8, 20, 1 << 16]),
    st.sampled_from([7, 30, 1 << 16]),
)
def test_the_fast_reader_agrees_with_the_plain_one(content, layouts, layout, head, block):
    both_agree(content, layouts, layout, head, block)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(
    files() | st.binary(max_size=80),
    st.sampled_from([TRIAL_LAYOUTS, SCORE_LAYOUTS]),
    st.sampled_from([None, "unlabeled", "kaldi", "wespeaker", "voxsrc"]),
    st.sampled_from([8, 20, 1 << 16]),
    st.sampled_from([7, 30, 1 << 16]),
)
def test_the_fast_reader_agrees_with_the_plain_one_many_times(content, layouts, layout, head, block):
    both_agree(content, layouts, layout, head, block)


def result_or_input_error(content):
    for read in (read_trials, read_scores):
        try:
            assert len(read(io.BytesIO(content))) > 0
        except InputError as error:
            assert str(error).startswith("<stream>")


@settings(max_examples=300, deadline=None)
@given(files() | st.binary(max_size=60))
def test_any_bytes_are_a_list_or_an_input_error(content):
    result_or_input_error(content)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(files() | st.binary(max_size=200) | st.text(alphabet='01ab .,;"\t\r\n\x00\ufeff-e', max_size=60).map(str.encode))
def test_any_bytes_are_a_list_or_an_input_error_many_times(content):
    result_or_input_error(content)


def test_usual_files_take_the_fast_way():
    """Else the first property would hold of a reader that refuses everything."""
    usual = [
        (b"1 a b\n0 a c\n", TRIAL_LAYOUTS),
        (b"a\tb  target \r\n\r\n  a c\tnontarget", TRIAL_LAYOUTS),
        (b"label ENROLL test sex\n1 a b f\n0 a c m\n", TRIAL_LAYOUTS),
        (b"a b 0.5 target\na c -1e-3 nontarget\n", SCORE_LAYOUTS),
        ("\ufeffa,ü,0.5\na,c,1\n".encode(), SCORE_LAYOUTS),
        (b"a b imp\na c tgt\n", TRIAL_LAYOUTS),
    ]
    for content, layouts in usual:
        for head, block in ((1 << 16, 1 << 16), (1 << 16, 9)):
            found = read_columns(Text(io.BytesIO(content)), layouts, None, head, block)
            assert flat(found) == plain(content, layouts, None)
