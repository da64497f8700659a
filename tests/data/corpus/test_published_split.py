import gzip
import hashlib
import json
import shutil

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus.manifest import Utterance, read_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.corpus.published_split import read_split, write_split
from tests.batteries import damaged_files


def write(path, seconds=0.5, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * 16000)), 16000)


@pytest.fixture
def root(tmp_path):
    for speaker in range(7):
        for number in range(3):
            write(tmp_path / f"wav/s{speaker}/{number}.wav", 0.4 + 0.1 * number, 10 * speaker + number)
    (tmp_path / "trials.txt").write_text("1 s0/0.wav s0/1.wav\n0 s0/0.wav s1/0.wav\n")
    return tmp_path / "wav"


@pytest.fixture
def prepare(tmp_path, root):
    def run(output="out", data=root, **options):
        options = {"trials": tmp_path / "trials.txt", "num_valid_speakers": 2, "progress": False} | options
        prepare_tree(data, tmp_path / output, **options)
        return tmp_path / output

    return run


def test_the_split_is_sorted_text_without_paths_and_its_hash_is_in_prepare_json(prepare):
    out = prepare()
    text = gzip.decompress((out / "split.txt.gz").read_bytes())
    manifest = sorted(read_manifest(out / "manifest.csv"), key=lambda u: u.utt_id)
    assert text.decode().splitlines() == [f"{u.split} {u.utt_id} {u.num_samples}" for u in manifest]
    facts = json.loads((out / "prepare.json").read_text())
    assert facts["split_sha256"] == hashlib.sha256(text).hexdigest()


def test_the_same_split_is_the_same_bytes_whenever_and_wherever_it_is_made(tmp_path, prepare, root, monkeypatch):
    first = (prepare() / "split.txt.gz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 4e9)  # gzip writes the time unless told otherwise
    moved = shutil.copytree(root, tmp_path / "mnt/data")
    assert (prepare("other", moved) / "split.txt.gz").read_bytes() == first
    rows = [Utterance(f"s/{i}", f"/d/s/{i}", "s", "", 9, 16000, 1, "train") for i in range(3)]
    assert write_split(tmp_path / "a.gz", rows) == write_split(tmp_path / "b.gz", rows[::-1])


def test_a_published_split_is_taken_over_exactly(tmp_path, prepare, root):
    published = prepare(seed=1)
    others = {(prepare(f"seed{seed}", seed=seed) / "split.txt.gz").read_bytes() for seed in (2, 3, 4)}
    write(root / "s2/later.wav")
    write(root / "s9/0.wav")  # a speaker and a file that the publisher did not have
    out = prepare("like", like=published / "split.txt.gz", num_valid_speakers=0, seed=1)
    for name in ("split.txt.gz", "manifest.csv", "valid_trials.txt"):
        assert (out / name).read_bytes() == (published / name).read_bytes()
    assert others != {(out / "split.txt.gz").read_bytes()}
    facts = json.loads((out / "prepare.json").read_text())
    assert facts["left_out"]["not in the published split"] == 2
    (tmp_path / "plain.txt").write_bytes(gzip.decompress((published / "split.txt.gz").read_bytes()))
    assert read_split(tmp_path / "plain.txt") == read_split(published / "split.txt.gz")


def test_a_change_of_the_published_split_prepares_again(tmp_path, prepare):
    for seed in (1, 2, 3):
        shutil.copy(prepare("out", seed=seed) / "split.txt.gz", tmp_path / "split.gz")
        like = prepare("like", like=tmp_path / "split.gz")
        assert (like / "split.txt.gz").read_bytes() == (tmp_path / "split.gz").read_bytes()


def test_files_that_lack_or_differ_are_named_and_counted(tmp_path, prepare, root):
    split = prepare() / "split.txt.gz"
    train = sorted(utt_id for utt_id, (role, _) in read_split(split).items() if role == "train")
    whole = {name: (root / name).read_bytes() for name in train[:2]}
    (root / train[0]).unlink()
    with pytest.raises(ValueError, match=f"1 of its 18 files are not among .*{train[0]}"):
        prepare("like", like=split)
    (root / train[0]).write_bytes(whole[train[0]])
    write(root / train[1], 0.45)
    with pytest.raises(ValueError, match=rf"1 of its 18 files have another length .*{train[1]}: 7200 samples, \d+ p"):
        prepare("like", like=split)
    (root / train[1]).write_bytes(whole[train[1]][:5000])
    with pytest.raises(ValueError, match=f"1 are not usable .*{train[1]}"):
        prepare("like", like=split)
    assert not (tmp_path / "like/manifest.csv").exists()


def test_the_trials_must_be_those_of_the_split(tmp_path, prepare):
    split = prepare() / "split.txt.gz"
    with pytest.raises(ValueError, match=r"role of 3 files differs .*train here, test there"):
        prepare("like", like=split, trials=())  # the tested files would train
    (tmp_path / "trials.txt").write_text("1 s0/0.wav s0/1.wav\n0 s0/0.wav s1/0.wav\n0 s0/0.wav s1/1.wav\n")
    with pytest.raises(ValueError, match=r"role of 1 files differs \(s1/1.wav; 1 are in trials"):
        prepare("like", like=split)
    speaker = next(u.split("/")[0] for u, (role, _) in read_split(split).items() if role == "train")
    (tmp_path / "trials.txt").write_text("1 s0/0.wav s0/1.wav\n0 s0/0.wav s1/0.wav\n")
    with pytest.raises(ValueError, match=r"3 of its 18 files are not among .*excluded"):
        prepare("like", like=split, exclude_speakers=[speaker])


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "empty"),
        (b"train a.wav\n", ":1: 'train a.wav' is no line"),
        (b"train a.wav 5\ndev b.wav 5\n", ":2: "),
        (b"train a.wav 5\ntrain a.wav 5\n", ":2: .*twice"),
        (b"train a.wav -5\n", ":1: "),
        (gzip.compress(b"train a.wav 5\n", mtime=0)[:-4], "damaged"),
        (b"\x1f\x8brubbish", "damaged"),
        (b"train \xff.wav 5\n", "damaged"),
    ],
    ids=["empty", "two-words", "no-split", "twice", "negative", "cut", "no-gzip", "no-text"],
)
def test_a_damaged_split_file(tmp_path, content, error):
    (tmp_path / "split").write_bytes(content)
    with pytest.raises(ValueError, match=f"split.*{error}"):
        read_split(tmp_path / "split")


def test_no_split_file_and_one_in_the_way(tmp_path, prepare):
    with pytest.raises(ValueError, match="absent.gz: no such split"):
        prepare(like=tmp_path / "absent.gz")
    out = prepare()
    with pytest.raises(ValueError, match="would be overwritten"):
        prepare(like=out / "split.txt.gz")


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_what_is_no_split_is_named(tmp_path, content):
    for written in (content, gzip.compress(content, mtime=0), b"train a.wav " + content):
        (tmp_path / "split").write_bytes(written)
        with pytest.raises(ValueError, match="split.*get the published file again"):
            read_split(tmp_path / "split")
