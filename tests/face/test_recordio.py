"""insightface's record files, as MXNet writes them; whatever else is in them is a ValueError."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.face.recordio import RecordFile
from alpha_sv.face.sources import RecordSource
from tests.fixtures.faces import MAGIC, encoded, face, insightface_records, record, write_records


def test_images_and_identities_of_a_training_set(tmp_path):
    records = insightface_records(people=3, images=4)
    order = np.random.default_rng(0).permutation(len(records))  # the index may stand in any order
    file = RecordFile(write_records(tmp_path / "train.rec", [records[i] for i in order]))
    assert len(file) == 12 and file.keys.tolist() == list(range(1, 13))
    assert file.labels.tolist() == sorted([0, 1, 2] * 4)
    assert [file.image(n) for n in range(12)] == [encoded(face(p, n)) for p in range(3) for n in range(4)]
    source = RecordSource(tmp_path / "train.rec")
    assert np.array_equal(source.read(5, 32), face(1, 1)) and source.identities[5] == 1


def test_a_file_without_record_0_is_images_only(tmp_path):
    file = RecordFile(write_records(tmp_path / "a.rec", [(k, record(float(k % 2), b"image")) for k in range(4)]))
    assert file.labels.tolist() == [0, 1, 0, 1] and file.image(3) == b"image"


@pytest.mark.parametrize("content", [MAGIC, MAGIC * 3, b"abcd" + MAGIC + b"ef", b"ab" + MAGIC, MAGIC + b"x", b""])
def test_the_magic_number_in_the_data(content, tmp_path):
    rows = [(1, record(7.0, content)), (2, record([3.0, 1.0], content)), (3, record(1.0, b"end"))]
    file = RecordFile(write_records(tmp_path / "a.rec", rows))
    assert [file.image(n) for n in range(3)] == [content, content, b"end"] and file.labels.tolist() == [7, 3, 1]


def test_files_that_do_not_belong_together(tmp_path):
    one = write_records(tmp_path / "one.rec", insightface_records(2, 2))
    write_records(tmp_path / "two.rec", insightface_records(3, 3))
    one.with_suffix(".idx").write_bytes((tmp_path / "two.idx").read_bytes())
    with pytest.raises(ValueError, match="outside of it|not where one.idx says"):
        RecordFile(one)
    one.with_suffix(".idx").unlink()
    with pytest.raises(ValueError, match="one.idx is not there"):
        RecordFile(one)


@pytest.mark.parametrize("text", ["", "1\n", "1 0 0\n", "1 -4\n", "1 0\n1 0\n", "x 0\n", "1 1.5\n", "1 1e3\n", "é 0\n",
                                  "1 99999999999999999999\n", "\0", "0x1 0\n", "1 0\n2\n"])  # fmt: skip
def test_an_index_that_is_none(text, tmp_path):
    path = write_records(tmp_path / "a.rec", insightface_records(2, 2))
    path.with_suffix(".idx").write_text(text)
    with pytest.raises(ValueError, match="a.idx"):
        RecordFile(path)


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 2.0**40])
def test_a_label_that_is_no_identity(label, tmp_path):
    path = write_records(tmp_path / "a.rec", [(1, record(0.0, b"x")), (2, record(label, b"x"))])
    with pytest.raises(ValueError, match="record 2 has the label"):
        RecordFile(path)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damage_anywhere_is_a_value_error_or_harmless(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rec")
    path = write_records(folder / "a.rec", insightface_records(2, 2, size=8))
    for file, most in ((path, 4), (path.with_suffix(".idx"), 2)):
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(0, most))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        source = RecordSource(path)
        for number in range(len(source.identities)):
            assert source.read(number, 8).shape == (8, 8, 3)
    except ValueError:
        pass
