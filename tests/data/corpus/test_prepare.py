import logging
import os
import shutil

import numpy as np
import pytest

from alpha_sv.data.corpus import prepare as trees
from alpha_sv.data.corpus import tree as folders
from alpha_sv.data.corpus.manifest import manifest_hash, read_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.trials.files import read_trials
from alpha_sv.files import sha256_file
from tests.fixtures.replaced import counted
from tests.fixtures.wav_tree import by_split, make_tree, make_trials, outputs_of, write


def test_prepared_validation_speakers_do_not_train(tmp_path, prepare):
    tree = make_tree(tmp_path / "wav", [f"s{i}" for i in range(6)])
    found = prepare(tree, num_valid_speakers=3)
    speakers = {split: {u.speaker for u in found if u.split == split} for split in ("train", "valid")}
    assert len(speakers["valid"]) == len(speakers["train"]) == 3 and not speakers["valid"] & speakers["train"]
    trials = read_trials(tmp_path / "out/valid_trials.txt")
    assert set(trials.enroll) | set(trials.test) == by_split(found, "valid")
    assert prepare(tree, num_valid_speakers=3, output_folder=tmp_path / "again") == found
    others = [prepare(tree, num_valid_speakers=3, seed=seed) for seed in (1, 2, 3)]
    assert any(other != found for other in others)


def test_the_split_does_not_depend_on_the_file_system_or_the_workers(tmp_path, prepare, monkeypatch):
    # shuffling an unsorted directory listing gives a split of its own on every file system
    tree = make_tree(tmp_path / "wav", [f"s{i}" for i in range(6)])
    found = prepare(tree, num_valid_speakers=2, workers=1)
    expected = outputs_of(tmp_path / "out")

    listing = os.scandir

    class Backwards:
        def __init__(self, folder):
            with listing(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(folders.os, "scandir", Backwards)
    assert prepare(tree, num_valid_speakers=2, workers=5, output_folder=tmp_path / "other") == found
    assert outputs_of(tmp_path / "other") == expected


def test_the_same_inputs_are_not_read_again(tmp_path, tree, prepare, caplog):
    found = prepare(tree, num_valid_speakers=2)
    caplog.set_level(logging.INFO)
    with counted(trees, "examine_files") as calls:
        assert prepare(tree, num_valid_speakers=2, workers=3) == found
    assert not calls and "reused" in caplog.text


def test_switching_the_trial_list_prepares_again(tmp_path, tree, prepare):
    # a skip test that ignores the list goes on with the old split,
    # so that the new test speakers train
    trials = make_trials(tmp_path / "trials.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    assert by_split(prepare(tree, trials=trials), "test") == {"s1/x/0.wav", "s1/y/0.wav"}
    make_trials(tmp_path / "trials.txt", ("s2/x/0.wav", "s2/y/0.wav"))  # same path, same size
    found = prepare(tree, trials=trials)
    assert by_split(found, "test") == {"s2/x/0.wav", "s2/y/0.wav"}
    assert "s2" not in {u.speaker for u in found if u.split == "train"}
    assert not by_split(prepare(tree), "test")


def test_every_input_is_part_of_the_key(tmp_path, tree, prepare):
    (tmp_path / "list.txt").write_text("s3\n")
    changes = (
        {"seed": 5},
        {"audit": "headers"},
        {"min_duration": 0.1},
        {"num_valid_speakers": 2},
        {"exclude_speakers": ["s4"]},
        {"exclude_speakers": tmp_path / "list.txt"},
    )
    with counted(trees, "examine_files") as runs:
        for options in changes:
            prepare(tree)
            prepare(tree, **options)
        assert len(runs) == 12
        (tmp_path / "list.txt").write_text("s4\n")
        assert {u.speaker for u in prepare(tree, exclude_speakers=tmp_path / "list.txt")} == {"s1", "s2", "s3"}
        prepare(tree)
        write(tree / "s1/x/0.wav", seed=99)  # the same length, other samples
        os.utime(tree / "s1/x/0.wav", ns=(0, 12345))
        prepare(tree)
        write(tree / "s1/x/new.wav")
        assert "s1/x/new.wav" in {u.utt_id for u in prepare(tree)}
        (tree / "s1/x/new.wav").unlink()
        assert "s1/x/new.wav" not in {u.utt_id for u in prepare(tree)}
        assert len(runs) == 17


@pytest.mark.parametrize("name", ["manifest.csv", "valid_trials.txt", "audit.csv", "split.txt.gz", "prepare.json"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_damaged_outputs_are_made_again(tmp_path, tree, prepare, name, harm):
    found = prepare(tree, num_valid_speakers=2)
    path = tmp_path / "out" / name
    whole = outputs_of(tmp_path / "out")
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:-5])
    assert prepare(tree, num_valid_speakers=2) == found
    assert outputs_of(tmp_path / "out") == whole


def test_what_is_refused_leaves_the_older_preparation_whole(tmp_path, tree, prepare):
    prepare(tree, num_valid_speakers=2)
    before = outputs_of(tmp_path / "out")
    del before["audit.journal"]

    def refuse(manifest, trials, samples):
        assert len(manifest) == 64 and len(trials) in (0, 64)
        raise ValueError("another corpus than that of the run")

    for options, message in (
        ({"sample_rate": 8000}, "no usable"),
        ({"num_valid_speakers": 3}, "3 validation speakers"),
        ({"exclude_speakers": ["s9"]}, "s9"),
        ({"exclude_speakers": ["s4"], "check": refuse}, "another corpus"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(tree, **options)
        after = outputs_of(tmp_path / "out")
        del after["audit.journal"]
        assert after == before
    prepare(tree)
    assert not (tmp_path / "out/valid_trials.txt").exists()


def test_the_first_refused_preparation_leaves_its_findings(tmp_path, tree, prepare):
    with pytest.raises(ValueError, match="no usable"):
        prepare(tree, sample_rate=8000)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"audit.csv", "audit.journal"}


def test_an_input_is_never_overwritten(tmp_path, tree, prepare):
    prepare(tree, num_valid_speakers=2)
    with pytest.raises(ValueError, match="would be overwritten"):
        prepare(tree, trials=tmp_path / "out/valid_trials.txt")
    (tmp_path / "link.txt").symlink_to(tmp_path / "out/valid_trials.txt")
    with pytest.raises(ValueError, match="would be overwritten"):
        prepare(tree, trials=tmp_path / "link.txt")
    assert (tmp_path / "out/valid_trials.txt").exists()


def test_paths_may_begin_at_home(tmp_path, tree, prepare, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trials = make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    (tmp_path / "list.txt").write_text("s2\n")
    expected = prepare(tree, trials=trials, exclude_speakers=[tmp_path / "list.txt"])
    prepare_tree("~/wav", "~/made", "~/t.txt", ["~/list.txt"], progress=False)
    assert read_manifest("~/made/manifest.csv") == expected


def test_the_manifest_hash_is_the_same_wherever_the_data_lies(tmp_path, tree, prepare):
    found = prepare(tree, num_valid_speakers=2)
    moved = shutil.copytree(tree, tmp_path / "mnt/data")
    assert manifest_hash(prepare(moved, num_valid_speakers=2)) == manifest_hash(found)


def test_the_check_is_given_the_hashes_of_what_is_then_written(tmp_path, tree, prepare):
    seen = []
    utterances = prepare(tree, num_valid_speakers=2, check=lambda *hashes: seen.append(hashes))
    assert [hashes[:2] for hashes in seen] == [
        (manifest_hash(utterances), sha256_file(tmp_path / "out" / "valid_trials.txt"))
    ]


def test_other_samples_in_files_of_the_same_length_are_told_by_a_full_audit(tree, prepare):
    seen = {"full": [], "headers": []}
    for audit, found in seen.items():
        for signal in (None, None, np.resize([0.25, -0.25], 6400)):
            if signal is not None:
                write(tree / "s1/x/0.wav", signal=signal)
            prepare(tree, audit=audit, seed=len(found), check=lambda *hashes, found=found: found.append(hashes))
    (first, again, replaced), unknown = seen["full"], seen["headers"]
    assert first[2] == again[2] != replaced[2] and first[0] == again[0] == replaced[0]
    assert {hashes[2] for hashes in unknown} == {""}
