"""Files of pairs are pickles of bytes and booleans; no other pickle does anything here."""

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.face.pair_file import read_pairs
from alpha_sv.face.sources import PairSource
from tests.fixtures.faces import encoded, face


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pairs_of_every_python_are_read(protocol, tmp_path):
    images = [b"a" * 3, b"", b"b" * 300, b"c" * 70000]
    same = images[2]
    content = ([*images, same, same], [True, False, True])
    if protocol == 2:  # Python 2 wrote its strings so
        strings = b"".join(b"U" + bytes([len(i)]) + i if len(i) < 256 else b"T" + struct.pack("<i", len(i)) + i
                           for i in content[0])  # fmt: skip
        data = b"\x80\x02](" + strings + b"e](\x88\x89\x88e\x86."
    else:
        data = pickle.dumps(content, protocol)
    (tmp_path / "lfw.bin").write_bytes(data)
    found, labels = read_pairs(tmp_path / "lfw.bin")
    assert found == content[0] and labels.tolist() == content[1]


def test_names_are_one_person_or_two(tmp_path):
    images = [encoded(face(p, n)) for p, n in ((0, 0), (0, 1), (1, 0), (2, 0))]
    (tmp_path / "x.bin").write_bytes(pickle.dumps((images, [True, False])))
    source = PairSource(tmp_path / "x.bin")
    assert source.trials.enroll.tolist() == ["0/a", "1/a"] and source.trials.test.tolist() == ["0/b", "1-other/b"]
    assert np.array_equal(source.read(3, 32), face(2, 0))


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


HOSTILE = {
    "a command": pickle.dumps(([Call(os.system, "touch ran")], [True])),
    "a builtin": pickle.dumps(Call(eval, "open('ran', 'w')")),
    "protocol 0": pickle.dumps(([b"a", b"b"], [True]), 0),
    "a class": b"c__builtin__\nlist\n.",
    "a stack global": pickle.dumps(os.system, 4),
    "an array": pickle.dumps(([np.zeros(3)] * 2, [True])),
    "a dictionary": pickle.dumps(({}, [True])),
    "numbers": pickle.dumps(([b"a", b"b"], [1])),
    "text": pickle.dumps((["a", "b"], [True])),
    "a bytearray": pickle.dumps(([bytearray(b"a")] * 2, [True]), 5),
    "none": pickle.dumps(None),
    "too few": pickle.dumps(([b"a"], [True])),
    "nothing": pickle.dumps(([], [])),
    "three": pickle.dumps(([b"a", b"b"], [True], [])),
    "empty": b"",
    "no end": b"\x80\x02](",
    "below the stack": b"\x80\x02e.",
    "a tuple of nothing": b"\x80\x02\x86.",
    "an unknown place": b"\x80\x02h\x07.",
    "to a tuple": b"\x80\x02]\x86(\x88e.",
    "a list in itself": b"\x80\x02]q\x00(h\x00e].",
    "long beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.",
    "a far place": b"\x80\x02]r\xff\xff\xff\xff.",
    "a persistent id": b"\x80\x02Pother\n.",
    "a huge number": b"I" + b"9" * 10_000 + b"\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_other_pickle_is_refused_and_does_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.bin").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="x.bin"):
        read_pairs("x.bin")
    assert os.listdir() == ["x.bin"]


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_and_random_bytes_are_a_value_error_or_pairs(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "x.bin"
    content = bytearray(pickle.dumps(([b"ab", b"c", b"d" * 20, b""], [True, False]), data.draw(st.integers(2, 5))))
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(data.draw(st.one_of(st.just(bytes(content)), st.binary(max_size=60))))
    try:
        images, labels = read_pairs(path)
        assert all(type(image) is bytes for image in images) and len(images) == 2 * len(labels) > 0
    except ValueError:
        pass


def test_a_file_too_large_is_not_read(tmp_path):
    with open(tmp_path / "x.bin", "wb") as file:
        file.truncate((2 << 30) + 1)  # a hole: no blocks on disk
    with pytest.raises(ValueError, match="have less than"):
        read_pairs(tmp_path / "x.bin")
