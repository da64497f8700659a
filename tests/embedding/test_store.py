"""A store of embeddings is whole, belongs to its inputs, and is mended when it is damaged."""

import contextlib
import os
import pathlib

import numpy as np
import pytest

from alpha_sv.embedding import EmbeddingStore
from alpha_sv.embedding.store import StoreWriter
from alpha_sv.files import InputError
from tests.batteries import damaged_files


def test_store_refuses_bad_rows_and_unknown_ids(tmp_path):
    writer = StoreWriter(tmp_path / "s", ["a", "b"], ["x", "x"], ["test", "test"], 2, "key")
    with pytest.raises(ValueError, match="b"):
        writer.write([0, 1], np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    with pytest.raises(ValueError, match="zero embedding for a"):
        writer.write([0], np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="2 rows"):
        writer.finish()
    writer.write([0, 1], np.ones((2, 2), np.float32))
    store = writer.finish()
    assert isinstance(store.matrix, np.memmap) and store.rows(["b", "a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="1 utterances are not in the store .*: c"):
        store.rows(["a", "c"])
    with pytest.raises(ValueError, match="distinct"):
        StoreWriter(tmp_path / "t", ["a", "a"], ["x", "x"], ["test", "test"], 2, "key")


@pytest.mark.parametrize("value", [1e300, 1e-300])
def test_what_float32_cannot_hold_is_no_embedding(tmp_path, value):
    writer = StoreWriter(tmp_path / "store", ["a"], ["s"], ["test"], 2, "key")
    with pytest.raises(ValueError, match="infinite or zero embedding for a"):
        writer.write([0], np.full((1, 2), value))
    assert len(writer.missing()) == 1


def test_full_disk_is_an_error_before_the_first_embedding(tmp_path, monkeypatch):
    """Writing to a memory map of a sparse file on a full disk would kill the process instead."""

    def full(fd, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        StoreWriter(tmp_path / "s", ["a"], ["x"], ["test"], 2, "key")
    monkeypatch.undo()
    writer = StoreWriter(tmp_path / "s", ["a"], ["x"], ["test"], 2, "key")
    assert writer.missing().tolist() == [0]


@pytest.mark.parametrize("killed_before", ["os.replace", "meta.json"])
def test_a_store_killed_while_it_is_finished_is_not_extracted_again(tmp_path, monkeypatch, killed_before):
    def writer():
        return StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")

    first = writer()
    first.write([0, 1], np.ones((2, 3), np.float32))
    replace = os.replace

    def kill(source, target):
        if killed_before == "os.replace" or str(target).endswith(killed_before):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", kill)
        first.finish()
    again = writer()
    assert again.finished is None and len(again.missing()) == 0
    assert (again.finish().matrix == 1).all()


def test_what_a_kill_at_the_very_end_leaves_goes_when_it_is_opened_for_writing_again(tmp_path, monkeypatch, caplog):
    def writer():
        return StoreWriter(tmp_path, ["a"], ["s"], ["test"], 3, "key")

    first = writer()
    first.write([0], np.ones((1, 3), np.float32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        first.finish()
    assert (tmp_path / "key.part").exists() and EmbeddingStore.open(tmp_path).ids == ["a"] and not caplog.records
    assert (writer().finished.matrix == 1).all()
    assert sorted(os.listdir(tmp_path)) == ["embeddings.npy", "index.csv", "meta.json"]


def test_the_finished_store_stays_until_the_one_of_another_key_is_whole(tmp_path, caplog):
    def writer(key, ids):
        return StoreWriter(tmp_path, ids, ids, ["test"] * len(ids), 3, key)

    old, new = ("old", ["a", "b"]), ("new", ["c", "d", "e"])
    first = writer(*old)
    first.write([0, 1], np.ones((2, 3), np.float32))
    first.finish()
    writer(*new).write([1], np.full((1, 3), 2, np.float32))
    store = EmbeddingStore.open(tmp_path)
    assert store.ids == old[1] and (store.matrix == 1).all() and "not finished" in caplog.text
    (tmp_path / "embeddings.part.npy").unlink()  # the old matrix must not pass for the part
    assert writer(*new).missing().tolist() == [0, 1, 2]
    writer(*new).write([1], np.full((1, 3), 2, np.float32))
    assert writer(*old).finished is not None  # nothing to do, so nothing of the other is lost
    again = writer(*new)
    assert again.missing().tolist() == [0, 2]
    again.write([0, 2], np.full((2, 3), 2, np.float32))
    store = again.finish()
    assert store.ids == new[1] and (store.matrix == 2).all() and store.meta["key"] == "new"
    assert sorted(os.listdir(tmp_path)) == ["embeddings.npy", "index.csv", "meta.json"]


@pytest.mark.parametrize("step", range(10))
def test_a_kill_during_the_swap_leaves_the_old_store_or_what_the_same_command_completes(tmp_path, monkeypatch, step):
    """Killed before the step-th unlink or rename of `finish`."""

    def writer(key, value):
        made = StoreWriter(tmp_path, [key], [key], ["test"], 3, key)
        if made.finished is None and len(made.missing()):
            made.write([0], np.full((1, 3), value, np.float32))
        return made

    writer("old", 1).finish()
    second, left = writer("new", 2), [step]

    def killing(do):
        def step_by_step(*arguments, **keywords):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return do(*arguments, **keywords)

        return step_by_step

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("os.replace", killing(os.replace))
        patch.setattr("pathlib.Path.unlink", killing(pathlib.Path.unlink))
        second.finish()
    with contextlib.suppress(ValueError):
        store = EmbeddingStore.open(tmp_path)
        assert (store.ids, store.matrix[0, 0]) in ((["old"], 1), (["new"], 2))
        assert store.meta["key"] == store.ids[0]
    again = writer("new", 3)
    store = again.finished or again.finish()
    assert store.ids == ["new"] and (store.matrix == 2).all(), "written once, not extracted again"


@pytest.mark.parametrize("file", ["embeddings.part.npy", "done.part.npy", "key.part"])
def test_a_damaged_part_of_a_store_is_made_again(tmp_path, file):
    def writer():
        return StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")

    writer().write([0], np.ones((1, 3), np.float32))
    assert writer().missing().tolist() == [1]
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert writer().missing().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name in ("meta.json", "index.csv") for content in damaged_files.JSON.values()]
    + [("embeddings.npy", content) for content in damaged_files.NPY.values()]
    + [("index.csv", b"ID,spk_id,split\na,s\nb,t,test\n"), ("index.csv", b'ID,spk_id,split\na,"s,test\nb,t,test\n')],
)
def test_what_is_no_store_is_named(tmp_path, name, content):
    writer = StoreWriter(tmp_path / "s", ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")
    writer.write([0, 1], np.ones((2, 3), np.float32))
    writer.finish()
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(InputError, match="store .*/s is damaged"):
        EmbeddingStore.open(tmp_path / "s")


@pytest.mark.parametrize("content", damaged_files.NPY.values(), ids=damaged_files.NPY)
def test_a_part_that_is_no_array_is_made_again(tmp_path, content):
    for file in ("embeddings.part.npy", "done.part.npy"):
        StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key").write([0], np.ones((1, 3)))
        (tmp_path / file).write_bytes(content)
        again = StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")
        assert again.missing().tolist() == [0, 1] and (tmp_path / file).stat().st_size < 1000
