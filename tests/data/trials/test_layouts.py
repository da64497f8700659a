"""Files of other toolkits are read where they can mean one thing only;
else the error names the right column."""

import gzip
import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_sv.data.trials.files import read_scores, read_trials
from alpha_sv.data.trials.layouts import NUMBERS, WORDS, is_number
from alpha_sv.files import InputError


def stream(text):
    return io.BytesIO(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    "content",
    [
        "a,b,0.5,target\na,c,-1e-3,nontarget\n",
        "a;b;0.5;target\r\na;c;-1e-3;nontarget",
        'a, "b", 0.5, target\na, "c", -1e-3, nontarget\n',
        "Enroll,Test,Score,Label\na,b,0.5,1\na,c,-1e-3,0\n",
        "ENROLL TEST LABEL SCORE\na b 1 0.5\na c 0 -1e-3\n",
        "modelid\tsegmentid\tside\tLLR\ttargettype\na\tb\ta\t0.5\ttarget\na\tc\ta\t-1e-3\tnontarget\n",  # NIST SRE
        gzip.compress(b"a b 0.5 target\na c -1e-3 nontarget\n", mtime=0),
        gzip.compress("a b 0.5 target\na c -1e-3 nontarget\n".encode("utf-16"), mtime=0),
        "a b 0.5 target\r\na c -1e-3 nontarget\r\n".encode("utf-16"),
        b"\xfe\xff" + "a b 0.5 target\na c -1e-3 nontarget".encode("utf-16-be"),
        "a b 0.5 target\ra c -1e-3 nontarget",  # an old Mac
        "a b 0.5 target\n\u3000\na\u00a0c\u2003-1e-3 nontarget\n",
        "a b 0.5 target\na c -1e-3 nontarget\n".encode("utf-16-le"),  # no byte-order mark, but every other byte 0
        "a b 0.5 target\na c -1e-3 nontarget\n".encode("utf-16-be"),
        "a b 0.5 target\na c -1e-3 nontarget\n".encode("utf-32"),
        "1 a b 0.5\n0 a c -1e-3\n",
        "label;score;enroll_path;test_path\n1;0.5;a;b\n0;-1e-3;a;c\n",
        "# enroll test score label\na b 0.5 1\na c -1e-3 0\n",  # numpy.savetxt
        "file1,file2,score,label\na,b,0.5,1\na,c,-1e-3,0\n",
        "Utt_1 Utt_2 key LLR\na b 1 0.5\na c 0 -1e-3\n",
        "enrollment_id test_id is_target similarity\na b True 0.5\na c FALSE -1e-3\n",
        *(f"a b 0.5 {yes}\na c -1e-3 {no}\n" for no, yes in NUMBERS + WORDS),
        *(f"a b {yes.upper()} 0.5\na c {no.title()} -1e-3\n" for no, yes in WORDS),
        *(f"a b 0.5 {yes}\na c -1e-3 {no}\n" for (no, _), (_, yes) in itertools.pairwise(WORDS)),  # any with any
        "a b 0.5 Same_Speaker\na c -1e-3 different-speaker\n",
    ],
)
def test_one_table_in_many_forms(content):
    table = read_scores(stream(content))
    assert (table.enroll.tolist(), table.test.tolist()) == (["a", "a"], ["b", "c"])
    assert table.scores.tolist() == [0.5, -1e-3] and table.labels.tolist() == [True, False]


@pytest.mark.parametrize(
    ("read", "content", "expected"),
    [
        (read_scores, "a/1 b/1 0.51 tgt\n", ":1: label 'tgt' is not"),
        (read_scores, "a b 0.5 1\na c 0.4 yes\n", ":2: label 'yes' is not one of 0 | 1"),
        (read_trials, "a b tgt\na c tgt\n", ":1: label 'tgt' is not one of .*no other word"),
        (read_scores, "a b 0,51\na c 0.3\n", ":1: score '0,51' is not a number; write 0.51, with a point"),
        (read_scores, "a b 1,5 target\na c 0,3 nontarget\n", ":1: score '1,5' .*write 1.5"),
        (read_scores, "0,5 a b\n0,3 a c\n", ":1: score '0,5' .*write 0.5"),
        (read_scores, "a;b;0,51\na;c;0,3\n", ":1: score '0,51' .*write 0.51"),
        (read_scores, "a b 0.5\na c 1_0\n", ":2: score '1_0' is not a number"),
        (read_scores, "a b 0.5\na c ٣\n", ":2: score '٣' is not a number"),
        (read_scores, "a b 0.5\na c 0x1p3\n", ":2: score '0x1p3' is not a number"),
        (read_scores, "a b 0.5\na c +-\n", r":2: score '\+-' is not a number"),
        (read_scores, "a b 0.5\na c 1e400\n", ":2: score '1e400' is not finite"),
        (read_scores, "first second cosine\na b 0.5\na c 0.1\n", ":1: score 'cosine' .*If line 1 is a header"),
        (read_trials, "LA_0039 LA_E_1 - A07 spoof\nLA_0039 LA_E_2 - - bonafide\n", "ASVspoof .column 5 .*awk"),
        (read_trials, "LA_0039 LA_E_1 alaw ita A07 spoof notrim eval\n", "ASVspoof .column 6 .*awk"),
        (read_scores, "modelid segmentid side LLR\na b a 0.5\na b b 0.4\n", "side are no columns of a score file"),
        (read_trials, "1 a b\n0 a c\0\n", r":2: the control character '\\x00'"),
        (read_trials, "1 a b\n0 a c\x1b[0m\n", r":2: the control character '\\x1b'"),
        (read_trials, "1 a b\n\ufeff0 a c\n", r":2: the control character '\\ufeff'"),
        (read_trials, "1 a b\n0 a c\n".encode("utf-32-le"), "control character .*save the file as UTF-8"),
        (read_trials, "1 a b\n".encode("utf-16")[:-1], "damaged as wide text"),
        (read_trials, gzip.compress(b"1 a b\n0 a c\n", mtime=0)[:-4], "damaged .*end-of-stream"),
        (read_trials, gzip.compress(b"1 a b\n" * 99, mtime=0)[:20] + b"\0\0\0\0\0\0\0\0\0\0\0\0", "damaged"),
        (read_trials, b"PK\x03\x04" + bytes(30), "zip.*unpack it first"),
        (read_trials, b"1 a b\n0 a \xff\n", "not UTF-8 text .line 2"),
        (read_trials, "1 a b\n0 a " + "c" * 5000, ":2: the name 'cccc.* is longer than 4,096 characters"),
        (read_trials, b"a" * (1 << 25), ":1: a line of more than 16 MiB"),
        (read_trials, "1,a,b\n0,a,c d\n", ":2: the field 'c d' between ','"),
        (read_trials, "1,a,b\n0,,c\n", ":2: the field '' between ','"),
        (read_trials, '1,a,b\n0,"a ""b""",c\n', ":2: the field 'a \"b\"' between ','"),
        (read_trials, '1,a,b\n0,"a,c\n', ":2: damaged .*each line whole"),
        (read_scores, ",enroll,test,score\n0,a,b,0.5\n", ":1: the field '' .*numbers the lines.*index=False"),
        (read_scores, "a b \u22120.5\na c 0.3\n", ":1: score '\u22120.5' is not a number; write -0.5 and nothing else"),
        (read_scores, "a b tensor(0.5)\na c tensor(0.3)\n", r":1: score 'tensor\(0.5\)' .*write 0.5"),
        (read_scores, "a b 51%\na c 30%\n", ":1: score '51%' is not a number"),
        (read_scores, "# scores of a model\na b 0.5\na c 0.3\n", ":1: '# scores of a model' is a comment, .*remove"),
        (read_scores, "a x 0.5 target\na y 0.3 nontarget\n#b x 0.9 nontarget\n", ":3: '#b x 0.9 nontarget' is a comm"),
        (read_scores, "a x 0.5\n# hello 3\n", ":2: '# hello 3' is a comment"),
        (read_scores, "#a,x,0.5\n#a,y,0.3\n", ":1: '#a x 0.5' is a comment.*put a column before it"),
        (read_trials, "1 a b\n# 0 a c\n", ":2: '# 0 a c' is a comment"),
        (read_trials, "a b\n#a c\n", ":2: '#a c' is a comment"),
        (read_trials, "sex enroll test\nm a b\n#m a c\n", ":3: '#m a c' is a comment"),
        (
            read_scores,
            "a,b,0,51\na,c,1,20\n",
            ":1: labels and scores may be the two parts of numbers with a decimal comma",
        ),
        (
            read_scores,
            "a,b,0,51\na,c,0,32\nb,c,1,5E-05\n",
            ":1: labels and scores may be the two parts of numbers with a decimal comma",
        ),
        (read_scores, "1 0 1 0.5\n0 1 0 0.3\n", ":1: every line fits the layouts voxceleb and speechbrain"),
        (read_trials, "LA_1 -3.2\nLA_2 4.1\n", ":1: every name of the column 'test' is a number"),
        (read_trials, "a 1\nb 0\n", ":1: every name of the column 'test' is a number, which looks like labels"),
        (read_trials, "LA_1 E_1 bonafide target\nLA_1 E_2 A07 spoof\n", "ASVspoof .column 4 .*leave the spoofs out"),
        (
            read_trials,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n",
            "Git LFS .*git lfs pull",
        ),
        (read_trials, b"<!DOCTYPE html>\n<html>404</html>", "no list but a web page"),
        (read_scores, '[{"enroll": "a", "test": "b", "score": 0.5}]', "no list but JSON"),
        (read_scores, b"RIFF\x24\0\0\0WAVEfmt ", "no list but a recording"),
        (read_scores, "- target 5.1\n- nontarget -3.1\nA07 spoof 2.2\n", ":1: every name .*'test' .*a label"),
        (read_scores, "utt1 1 0.5\nutt2 0 0.3\n", ":1: every name of the column 'test' looks like a label"),
        (read_trials, "utt1 target\nutt2 nontarget\n", ":1: every name of the column 'test' looks like a label"),
        (read_scores, "a*b 0.5 1\na*c 0.1 0\n", ":1: .*'enroll' may be a pair, which ESPnet joins"),
        (read_trials, "1 a b\n0 a\u200b c\n", r":2: the control character '\\u200b'"),
        (read_trials, b"\x93NUMPY\x01\0", "no list but a numpy array"),
        (read_trials, gzip.compress(gzip.compress(b"1 a b\n", mtime=0), mtime=0), "packed .gzip.; unpack it first"),
    ],
)
def test_the_error_names_the_right_line_column_and_remedy(read, content, expected):
    with pytest.raises(InputError, match=f"<stream>.*{expected}"):
        read(stream(content))


@pytest.mark.parametrize(
    ("read", "content", "layout", "column", "expected"),
    [
        (read_scores, "a,b,0,51\na,c,1,20\n", "speechbrain", "scores", [51, 20]),
        (read_trials, "LA_1 -3.2\nLA_2 4.1\n", "unlabeled", "test", ["-3.2", "4.1"]),
        (read_trials, "1001 1002\n1001 1003\n", None, "test", ["1002", "1003"]),  # numbers, but no labels or scores
        (read_scores, 'enroll,test,score\n"a,1","b",0.5\n', None, "enroll", ["a,1"]),
        (read_trials, "utt1 utt2 target\nutt1 utt3 nontarget\n", None, "test", ["utt2", "utt3"]),  # no header
    ],
)
def test_what_may_be_something_else_is_read_when_it_is_said(read, content, layout, column, expected):
    assert getattr(read(stream(content), layout=layout), column).tolist() == expected


def test_conditions_of_a_nist_key_are_kept():
    key = "modelid\tsegmentid\tside\ttargettype\tgender\nm\ts\ta\ttarget\tfemale\nm\tt\ta\tnontarget\tmale\n"
    trials = read_trials(stream(key))
    assert trials.labels.tolist() == [True, False]
    assert {name: values.tolist() for name, values in trials.conditions.items()} == {
        "side": ["a", "a"],
        "gender": ["female", "male"],
    }


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_every_number_that_python_writes_is_a_number(value):
    assert is_number(repr(value)) and is_number(f"{value:+g}") and is_number(f"{float(value):e}")


def test_a_long_name_costs_its_own_memory_only():
    # a column as wide as the longest name asked for 22 GiB
    names = [f"u{n}" for n in range(200_000)]
    names[5] = "n" * 4000
    table = read_scores(stream("".join(f"{name} x 0.5\n" for name in names)))
    assert table.enroll.tolist() == names and table.enroll.dtype == object
    assert sum(side.table.nbytes + side.codes.nbytes for side in table.sides) < 8_000_000
    assert np.unique(table.test).tolist() == ["x"]
