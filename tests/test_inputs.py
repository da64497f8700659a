"""What is read from elsewhere is sound, or an error that names its file."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.files import InputError, atomic_write, nfc, parse_json, read_json, read_npy, read_text, reading
from tests.batteries import damaged_files

LIKE = {"format": str, "systems": [{"eer": (float, None)}]}
plain = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(-1e300, 1e300) | st.text(max_size=5)
trees = st.recursive(plain, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 80 + b"]" * 80, "nested more than 64 deep"),
        (b'{"format": "x", "systems": 5}', "systems must be a list, got 5"),
        (b'{"format": "x", "systems": [{}]}', r"systems\[0\] has no 'eer'"),
        (b'{"format": "x", "systems": [{"eer": true}]}', r"systems\[0\].eer must be a number or null, got True"),
        (b'{"format": "x"}', "has no 'systems'"),
        (b"5", "the content must be an object, got 5"),
        (b'{"format": 1' + b"0" * 400 + b"}", "the number 1000.* is too large"),
        (b'{"format": 1e400}', "the number 1e400 is not finite"),
        (b'{"format": NaN}', "the number NaN is not finite"),
        (b'{"format": -Infinity}', "the number -Infinity is not finite"),
        (b'{"format": "x', "damaged .Unterminated string"),
        (b"", "damaged .Expecting value"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b" " * 2000, "more than 1,000 bytes"),
    ],
)
def test_json_from_elsewhere_is_refused_by_name(tmp_path, content, expected):
    (tmp_path / "m.json").write_bytes(content)
    most = 1000 if content.isspace() else 1 << 20
    with pytest.raises(InputError, match=f"m.json: .*{expected}"):
        read_json(tmp_path / "m.json", LIKE, most=most)


@settings(max_examples=200, deadline=None)
@given(trees)
def test_sound_json_is_what_was_written(tree):
    assert parse_json(json.dumps(tree), "x") == tree


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60) | trees.map(json.dumps).map(str.encode), st.sampled_from([None, LIKE, [int], {"a": [str]}])
)
def test_any_bytes_are_json_or_an_input_error(tmp_path_factory, content, like):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        read_json(path, like)
    except InputError as error:
        assert str(error).startswith(str(path))


def test_a_whole_number_is_a_number_and_a_mark_at_the_start_is_no_text(tmp_path):
    (tmp_path / "m.json").write_bytes(b'\xef\xbb\xbf{"format": "x", "systems": [{"eer": 0}, {"eer": null}]}')
    assert read_json(tmp_path / "m.json", LIKE)["systems"] == [{"eer": 0}, {"eer": None}]
    assert read_text(tmp_path / "m.json").startswith("{")


def test_parsers_errors_name_the_file(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:20])
    with pytest.raises(InputError, match="a.npy: damaged"), reading(tmp_path / "a.npy", also=(ValueError,)):
        np.load(tmp_path / "a.npy")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    with (
        pytest.raises(InputError, match="a.gz: damaged"),
        reading(tmp_path / "a.gz"),
        gzip.open(tmp_path / "a.gz") as f,
    ):
        f.read()
    with pytest.raises(OSError, match="some.txt"), reading("some.txt"):
        raise OSError(5, "Input/output error")
    with pytest.raises(FileNotFoundError, match="none.txt"):
        read_text(tmp_path / "none.txt")


def test_a_write_that_fails_names_its_file(tmp_path):
    with pytest.raises(OSError, match="out.txt"), atomic_write(tmp_path / "out.txt"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_names_have_one_form():
    assert nfc("e\u0301") == nfc("\u00e9") == "\u00e9"


@pytest.mark.parametrize("content", damaged_files.NPY.values(), ids=damaged_files.NPY)
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_damaged_array_is_named_and_left_as_it_is(tmp_path, content, mode):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="a.npy: .*; make the file again"):
        read_npy(tmp_path / "a.npy", mode=mode)
    assert (tmp_path / "a.npy").read_bytes() == content


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.zeros((0, 3)), np.asfortranarray(np.eye(3))])
def test_a_whole_array_is_what_was_saved(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    with pytest.raises(FileNotFoundError, match="none.npy"):
        read_npy(tmp_path / "none.npy")


def test_numbers_that_are_not_finite_are_read_only_where_the_caller_checks_them(tmp_path):
    (tmp_path / "m.json").write_text("[Infinity, 1" + "0" * 400 + "]")
    assert read_json(tmp_path / "m.json", finite=False) == [float("inf"), 10**400]
    with pytest.raises(InputError, match="m.json: .*not finite"):
        read_json(tmp_path / "m.json")
    (tmp_path / "m.json").write_text("9" * 10_000)  # more digits than Python turns into a number
    with pytest.raises(InputError, match="m.json: damaged"):
        read_json(tmp_path / "m.json", finite=False)
