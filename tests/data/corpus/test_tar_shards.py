"""Shards: webdataset's layout to others, loose files to us."""

import dataclasses
import hashlib
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from alpha_sv.data.audio.read import AudioError, read_audio, read_blocks, read_header
from alpha_sv.data.audio.tar_member import Member, open_bytes, parse_member
from alpha_sv.data.corpus.manifest import Utterance, manifest_hash
from alpha_sv.data.corpus.tar_shards import key_of, write_shards
from alpha_sv.sb.chunks import RandomChunks
from tests.batteries import damaged_files

EXTENSIONS = ("wav", "flac", "ogg", "opus")


def rows_in(folder, count=12, extensions=EXTENSIONS, split="train"):
    rows = []
    for i in range(count):
        name, size = f"s{i % 3}/v/{i:03d}.{extensions[i % len(extensions)]}", 9000 + 371 * i
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
        soundfile.write(path, np.random.default_rng(i).uniform(-0.3, 0.3, size), 16000, **options)
        rows.append(Utterance(name, str(path), f"s{i % 3}", "v", size, 16000, 1, split))
    return rows


def write(rows, folder, **options):
    return write_shards(rows, folder, progress=False, **{"samples_per_shard": 5, **options})


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.tar"))}


@pytest.fixture
def loose(tmp_path):
    return rows_in(tmp_path / "loose")


def test_a_member_is_read_like_the_loose_file(loose, tmp_path):
    stored = write(loose, tmp_path / "shards")
    assert [dataclasses.replace(s, path=u.path) for s, u in zip(stored, loose, strict=True)] == loose
    assert manifest_hash(stored) == manifest_hash(loose)
    for a, b in zip(loose, stored, strict=True):
        assert read_header(a.path) == read_header(b.path)
        assert np.array_equal(read_audio(a.path), read_audio(b.path))
        assert np.array_equal(read_audio(a.path, 3001, 4000), read_audio(b.path, 3001, 4000))
        with open_bytes(b.path) as file:
            assert file.read() == Path(a.path).read_bytes()


def test_training_on_shards_is_training_on_loose_files(loose, tmp_path):
    labels = {"s0": 0, "s1": 1, "s2": 2}
    sets = [
        RandomChunks(rows, labels, 0.5, speeds=(1.0, 0.9, 1.1)) for rows in (loose, write(loose, tmp_path / "shards"))
    ]
    for index in [(epoch, number) for epoch in (1, 2, 3) for number in range(len(loose))]:
        (one, label), (two, other) = (chunks[index] for chunks in sets)
        assert np.array_equal(one, two) and label == other


def test_a_long_flac_can_be_searched_within_its_window(tmp_path):
    """libsndfile searches a FLAC for a sample by halving the file:
    beyond the window lies another valid FLAC."""
    rows = []
    for i, level in enumerate((0.1, 0.2, 0.3)):
        path = tmp_path / f"{i}.flac"
        soundfile.write(path, level * np.random.default_rng(i).uniform(-1, 1, 400_000), 16000)
        rows.append(Utterance(path.name, str(path), "s", "", 400_000, 16000, 1, "train"))
    for a, b in zip(rows, write(rows, tmp_path / "shards"), strict=True):
        for start in (1, 123_456, 399_000):
            assert np.array_equal(read_audio(a.path, start, 1000), read_audio(b.path, start, 1000))
        assert len(list(read_blocks(b.path))) > 1


def test_tar_and_webdataset_agree_about_the_places(loose, tmp_path):
    stored = write(loose, tmp_path / "shards")
    found = {}
    for path in sorted((tmp_path / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            found |= {m.name: str(Member(str(path), m.offset_data, m.size)) for m in members}
            assert all((m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) == (0, 0, 0, "", "", 0o644) for m in members)
    assert {u.utt_id: u.path for u in stored} == {n: place for n, place in found.items() if not n.endswith(".json")}


def test_webdataset_reads_the_same_audio_and_labels(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    loose = rows_in(tmp_path / "a.b", extensions=("wav", "flac"))  # a dot in a folder is no extension
    write(loose, tmp_path / "shards")
    urls = [str(path) for path in sorted((tmp_path / "shards").glob("shard-train-*.tar"))]
    assert len(urls) == 3
    by_key = {key_of(u.utt_id): u for u in loose}
    speakers = []
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        utterance = by_key.pop(sample["__key__"])
        assert sample[Path(utterance.path).suffix[1:]] == Path(utterance.path).read_bytes()
        facts = json.loads(sample["json"])
        assert (facts["utt_id"], facts["speaker"], facts["split"]) == (utterance.utt_id, utterance.speaker, "train")
        speakers.append(facts["speaker"])
    assert not by_key, "every utterance once"
    assert speakers != sorted(speakers), "a sequential reader gets mixed speakers"


def test_same_utterances_same_bytes(loose, tmp_path):
    write(loose, tmp_path / "one")
    for path in (Path(u.path) for u in loose):
        os.utime(path, (1, 1))
    write(loose[::-1], tmp_path / "two", workers=1)
    write(loose, tmp_path / "three", seed=5)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") != digests(tmp_path / "three")


def test_each_shard_holds_one_split(loose, tmp_path):
    rows = [dataclasses.replace(u, split=("train", "valid", "test")[i % 3]) for i, u in enumerate(loose)]
    for utterance in write(rows, tmp_path / "shards", samples_per_shard=3):
        assert f"/shard-{utterance.split}-00000" in utterance.path
    assert len(digests(tmp_path / "shards")) == 6


def test_an_interrupted_call_keeps_whole_shards_and_makes_the_same(loose, tmp_path):
    whole, folder = write(loose, tmp_path / "whole"), tmp_path / "shards"
    broken = next(
        a for a, b in zip(loose, whole, strict=True) if "-000000.tar" not in b.path and a.path.endswith("wav")
    )
    content = Path(broken.path).read_bytes()
    stamp = os.stat(broken.path).st_mtime_ns
    Path(broken.path).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=broken.utt_id):
        write(loose, folder)
    assert "shard-train-000000.tar" in digests(folder) and len(digests(folder)) < 3 and not list(folder.glob(".*"))
    before = os.stat(folder / "shard-train-000000.tar").st_mtime_ns
    Path(broken.path).write_bytes(content)
    os.utime(broken.path, ns=(stamp, stamp))
    again = write(loose, folder)
    assert os.stat(folder / "shard-train-000000.tar").st_mtime_ns == before
    assert digests(folder) == digests(tmp_path / "whole")
    assert [u.path.replace("/shards/", "/whole/") for u in again] == [u.path for u in whole]
    with open(folder / "shard-train-000002.tar", "rb+") as file:  # cut by a full disk, say
        file.truncate(1000)
    write(loose, folder)
    assert digests(folder) == digests(tmp_path / "whole")


def test_shards_of_something_else_are_not_overwritten(loose, tmp_path):
    """The fault: an older manifest names places by number, and would read other speech there."""
    folder = tmp_path / "shards"
    write(loose, folder)
    before = digests(folder)
    with pytest.raises(ValueError, match="shard-train-000000.tar was made from other files"):
        write(loose, folder, seed=2)
    with pytest.raises(ValueError, match="shards of something else .shard-train-000001.tar"):
        write(loose, folder, samples_per_shard=100)
    os.utime(loose[0].path, (1, 1))
    with pytest.raises(ValueError, match="was made from other files"):
        write(loose, folder)
    assert digests(folder) == before


def test_what_cannot_be_sharded_is_named(loose, tmp_path):
    clash = dataclasses.replace(loose[0], utt_id="s0/v/000.flac")
    with pytest.raises(ValueError, match="'s0/v/000.wav' and 's0/v/000.flac' would both have the key 's0/v/000'"):
        write([loose[0], clash], tmp_path / "shards")
    longer = dataclasses.replace(loose[0], num_samples=1)
    with pytest.raises(ValueError, match="000.wav.*the manifest says 1, 16000 and 1.*prepare the data again"):
        write([longer], tmp_path / "shards")
    with pytest.raises(ValueError, match="absent.wav: no such file"):
        write([dataclasses.replace(loose[0], path=str(tmp_path / "absent.wav"))], tmp_path / "shards")
    with pytest.raises(ValueError, match="in a shard already"):
        write(write(loose, tmp_path / "shards"), tmp_path / "again")
    with pytest.raises(ValueError, match="samples_per_shard"):
        write(loose, tmp_path / "shards", samples_per_shard=0)


def test_truncated_missing_and_foreign_places(loose, tmp_path):
    (utterance,) = write(loose[:1], tmp_path / "shards")
    member = parse_member(utterance.path)
    for bad, problem, message in (
        (member._replace(offset=10**9), "truncated", "the tar has .* bytes and ends before byte"),
        (member._replace(size=10**9), "truncated", "the tar has .* bytes and ends before byte"),
        (member._replace(tar=str(tmp_path / "absent.tar")), "unreadable", "no such file"),
        (member._replace(offset=member.offset + 8), "unreadable", "Format not recognised"),
        (member._replace(size=member.size - 100), "truncated", "at least 100 bytes are missing"),
        (member._replace(size=0), "empty", "0 bytes"),
    ):
        with pytest.raises(AudioError, match=message) as caught:
            read_audio(str(bad))
        assert caught.value.problem == problem and str(bad) in str(caught.value)
    with open(member.tar, "rb+") as file:
        file.truncate(member.offset + member.size // 2)
    with pytest.raises(AudioError, match="write the shards again") as caught:
        read_header(utterance.path)
    assert caught.value.problem == "truncated"


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_member_that_was_broken_off_before_it_was_packed(tmp_path, extension):
    (row,) = rows_in(tmp_path, 1, (extension,))
    content = Path(row.path).read_bytes()[:-200]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        Path(row.path).write_bytes(content)
        tar.add(row.path, "a")  # and the end-of-archive blocks behind it must not fill the gap
    with tarfile.open(tmp_path / "a.tar") as tar:
        (member,) = tar.getmembers()
    with pytest.raises(AudioError) as caught:
        read_audio(str(Member(str(tmp_path / "a.tar"), member.offset_data, member.size)))
    assert caught.value.problem == "truncated"


def test_threads_read_one_shard_at_the_same_time(loose, tmp_path):
    stored = write(loose, tmp_path / "shards", samples_per_shard=100)
    expected = [read_audio(u.path) for u in loose]
    wrong = []

    def read_all():
        wrong.extend(
            u.utt_id for u, e in zip(stored, expected, strict=True) if not np.array_equal(read_audio(u.path), e)
        )

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_a_damaged_index_is_not_trusted(loose, tmp_path, content):
    write(loose, tmp_path / "shards")
    index = sorted((tmp_path / "shards").glob("*.json"))[0]
    index.write_bytes(content)
    with pytest.raises(ValueError, match=f"{index.stem}.tar was made from other files"):
        write(loose, tmp_path / "shards")


def test_an_index_that_lacks_a_place_is_made_again(loose, tmp_path):
    stored = write(loose, tmp_path / "shards")
    index = sorted((tmp_path / "shards").glob("*.json"))[0]
    known = json.loads(index.read_text())
    index.write_text(json.dumps({**known, "places": known["places"][:-1]}))
    assert write(loose, tmp_path / "shards") == stored and json.loads(index.read_text()) == known
