"""Whether something was made from these inputs; errors of a full disk."""

import os
import tracemalloc

import pytest

from alpha_sv.files import atomic_write, file_state, input_key, is_fresh, libtorch_writes
from tests.batteries import damaged_files


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_a_damaged_stamp_means_that_the_outputs_are_made_again(tmp_path, content):
    (tmp_path / "done.json").write_bytes(content)
    assert not is_fresh(tmp_path / "done.json", "key")


def test_the_key_of_a_stream_tells_every_sequence_of_parts_from_every_other():
    sequences = [
        [],
        [[]],
        ["a"],
        ["a", "b"],
        ["b", "a"],
        [["a", "b"]],
        ["ab"],
        ['a"\n"b'],
        [1, 2],
        [12],
        [(1, None)],
        [b"a"],
        [b"a", b"b"],
        [b"ab"],
        [b'"a"\n'],
        [b"1 bytes\na"],
        [memoryview(b"abcd").cast("i")],
        ["/s/\udcff.wav"],
    ]
    keys = [input_key(iter(parts)) for parts in sequences]
    assert len(set(keys)) == len(keys) and keys == [input_key(part for part in parts) for parts in sequences]
    assert input_key(iter([memoryview(b"abcd")])) == input_key(iter([b"abcd"])), "a buffer is its bytes"


def test_the_key_of_many_rows_needs_no_memory():
    tracemalloc.start()
    try:
        input_key((number, "/data/" + "x" * 100) for number in range(20_000))
        assert tracemalloc.get_traced_memory()[1] < 100_000, "the rows have more than 2 MB"
    finally:
        tracemalloc.stop()


def test_the_state_of_a_file_follows_its_size_and_time_through_links(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"abc")
    os.utime(file, ns=(0, 10**18 + 1))
    link.symlink_to(file)
    assert file_state(file) == file_state(link) == (3, 10**18 + 1)
    file.unlink()
    assert file_state(file) is file_state(link) is None


def test_a_full_disk_behind_an_error_of_libtorch_is_an_error_of_the_file():
    torch = pytest.importorskip("torch")
    with pytest.raises(OSError, match="lack of space.*save") as raised, libtorch_writes("save"):
        torch.save({"weight": torch.zeros(10_000)}, "/dev/full")
    assert raised.value.filename == "save"
    with pytest.raises(RuntimeError, match="another"), libtorch_writes("save"):
        raise RuntimeError("another")


def test_an_error_names_the_file_in_the_way_or_the_one_that_was_to_be_written(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(FileExistsError) as found, atomic_write(tmp_path / "a.txt" / "b.json"):
        pass
    assert found.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(OSError) as found, atomic_write(tmp_path / ("b" * 250)):  # the temporary name is too long
        pass
    assert found.value.filename == str(tmp_path / ("b" * 250))
