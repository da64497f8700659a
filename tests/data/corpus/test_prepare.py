import csv
import itertools
import json
import logging
import os
import shutil

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus import prepare as trees
from alpha_sv.data.corpus import tree as folders
from alpha_sv.data.corpus.audit import examine
from alpha_sv.data.corpus.manifest import manifest_hash, read_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.corpus.tree import find_files
from alpha_sv.data.trials.files import Trials, read_trials, write_trials
from alpha_sv.files import sha256_file

RATE = 16000


def write(path, seed=None, rate=RATE, seconds=0.4, signal=None, **options):
    """Noise that is the file's own, unless a signal or a seed is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if signal is None:
        seed = list(str(path).encode()) if seed is None else seed
        signal = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate))
    soundfile.write(path, signal, rate, **options)
    return path


def make_tree(root, speakers=("s1", "s2", "s3", "s4"), sessions=("x", "y"), per_session=2):
    for speaker, session, number in itertools.product(speakers, sessions, range(per_session)):
        write(root / speaker / session / f"{number}.wav")
    return root


def make_trials(path, *pairs):
    enroll, test = zip(*pairs, strict=True)
    labels = [a.split("/")[0] == b.split("/")[0] for a, b in pairs]
    write_trials(path, Trials(enroll, test, labels))
    return path


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "wav")


@pytest.fixture
def prepare(tmp_path):
    def run(data_folders, **options):
        options = {"output_folder": tmp_path / "out", "progress": False} | options
        return read_manifest(prepare_tree(data_folders, **options))

    return run


def by_split(utterances, split):
    return {u.utt_id for u in utterances if u.split == split}


def outputs_of(folder):
    """Name -> content of what a preparation wrote, without how long the reading took."""
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    facts = json.loads(found["prepare.json"])
    del facts["reading"]
    return found | {"prepare.json": facts}


def audit_of(folder):
    with open(folder / "audit.csv", newline="") as file:
        return {(row["utt_id"], row["problem"]) for row in csv.DictReader(file)}


# The tree


def test_speaker_and_session_are_the_parts_of_the_path(tmp_path, prepare):
    make_tree(tmp_path / "wav")
    write(tmp_path / "wav/s1/2024/may/a.flac")
    write(tmp_path / "wav/s2/b.WAV", format="WAV")
    found = {u.utt_id: (u.speaker, u.session) for u in prepare(tmp_path / "wav")}
    assert found["s1/x/0.wav"] == ("s1", "x")
    assert found["s1/2024/may/a.flac"] == ("s1", "2024/may")
    assert found["s2/b.WAV"] == ("s2", "")
    assert len(found) == 18


def test_a_second_wav_in_the_path_does_not_break_the_speaker_id(tmp_path, prepare):
    # splitting the path at "/wav/", as one toolkit does, gives another speaker for each of these
    root = make_tree(tmp_path / "wav/corpus/wav", sessions=("wav", "wav/wav"))
    found = prepare(root)
    assert {u.speaker for u in found} == {"s1", "s2", "s3", "s4"}
    assert {u.session for u in found} == {"wav", "wav/wav"}
    assert all(os.path.samefile(u.path, root / u.utt_id) for u in found)


def test_two_data_folders_pool_into_one_manifest(tmp_path, prepare):
    # preparing one after the other, into the same CSV, kept the last one only
    first = make_tree(tmp_path / "a", ("s1", "s2"))
    second = make_tree(tmp_path / "b", ("s3", "s4"))
    found = prepare([first, second])
    assert {u.speaker for u in found} == {"s1", "s2", "s3", "s4"}
    assert prepare([second, first]) == found


def test_a_speaker_in_two_data_folders_is_an_error(tmp_path):
    first, second = make_tree(tmp_path / "a"), make_tree(tmp_path / "b", ("s0", "s4"))
    with pytest.raises(ValueError, match="1 speakers are in two data folders .such as s4.*rename"):
        find_files([first, second])
    with pytest.raises(ValueError, match="one lies in the other"):
        find_files([first, first / "s1"])
    with pytest.raises(ValueError, match="are one"):
        find_files([first, tmp_path / "b/../a"])


def test_folders_that_do_not_have_the_layout(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        find_files([tmp_path / "nowhere"])
    (tmp_path / "m4a/s1").mkdir(parents=True)
    (tmp_path / "m4a/s1/a.m4a").touch()
    with pytest.raises(ValueError, match=r"no audio .*1 \.m4a files.*ffmpeg"):
        find_files([tmp_path / "m4a"])
    root = make_tree(tmp_path / "corpus/wav")
    with pytest.raises(ValueError, match="single 'speaker' 'wav' with 16 files.*give .*corpus/wav if"):
        find_files([tmp_path / "corpus"])  # a level too high
    with pytest.raises(ValueError, match="single 'speaker' 'x' with 2 files.*or .*/deep if .*/deep/s1 is itself"):
        find_files([make_tree(tmp_path / "deep", sessions=("x",)) / "s1"])  # a level too deep
    singles = tmp_path / "singles"
    for name in "abc":
        write(singles / name / "only.wav")
    with pytest.raises(ValueError, match="every one of the 3 speakers has a single file.*too deep"):
        find_files([singles])
    assert len(find_files([root, singles])) == 19  # beside other data, singles are voices like any other
    write(root / "loose.wav")
    with pytest.raises(ValueError, match="1 audio files without a speaker folder .'loose.wav'"):
        find_files([root])
    with pytest.raises(ValueError, match="no data folder"):
        find_files([])


def test_names_that_no_trial_list_can_hold(tmp_path, tree):
    write(tree / "s1/x/my file.wav")
    with pytest.raises(ValueError, match="white space.*my file.*rename"):
        find_files([tree])


def test_links_are_followed_hidden_files_are_not_audio_and_a_loop_is_an_error(tmp_path, tree):
    extra = make_tree(tmp_path / "elsewhere", ("s8",)) / "s8"
    (tree / "s8").symlink_to(extra)
    (tree / "s1/x/._0.wav").write_bytes(b"a macOS resource fork")
    assert {f.speaker for f in find_files([tree])} == {"s1", "s2", "s3", "s4", "s8"}
    assert len(find_files([tree])) == 20
    (tree / "s1/loop").symlink_to(tree)
    with pytest.raises(ValueError, match="contains it"):
        find_files([tree])


# Who trains


def test_speakers_of_either_side_of_the_trials_never_train(tmp_path, tree, prepare):
    # excluding the speakers of one column only would train on s2
    trials = make_trials(tmp_path / "trials.txt", ("s1/x/0.wav", "s1/y/1.wav"), ("s1/x/0.wav", "s2/x/0.wav"))
    found = prepare(tree, trials=trials)
    assert by_split(found, "test") == {"s1/x/0.wav", "s1/y/1.wav", "s2/x/0.wav"}
    assert {u.speaker for u in found if u.split == "train"} == {"s3", "s4"}
    left_out = json.loads((tmp_path / "out/prepare.json").read_text())["left_out"]
    assert left_out["other files of trial speakers"] == 5


def test_several_trial_lists_add_up(tmp_path, prepare):
    tree = make_tree(tmp_path / "wav", [f"s{i}" for i in range(6)])
    lists = [make_trials(tmp_path / f"{s}.txt", (f"{s}/x/0.wav", f"{s}/y/0.wav")) for s in ("s1", "s2")]
    assert {u.speaker for u in prepare(tree, trials=lists) if u.split == "train"} == {"s0", "s3", "s4", "s5"}


def test_a_trial_that_names_no_file(tmp_path, tree, prepare):
    trials = make_trials(tmp_path / "t.txt", ("wav/s1/x/0.wav", "s1/x/1.wav"), ("s1/x/0.flac", "nobody/a.wav"))
    with pytest.raises(ValueError, match=r"t\.txt: 3 of the 4 files.*nobody/a\.wav.*s1/x/0\.flac may be s1/x/0\.wav"):
        prepare(tree, trials=trials)
    with pytest.raises(ValueError, match=r"wav/s1/x/0\.wav may be s1/x/0\.wav: .*relative to the data folder"):
        prepare(tree, trials=make_trials(tmp_path / "t.txt", ("wav/s1/x/0.wav", "wav/s2/x/0.wav")))
    with pytest.raises(ValueError, match="absent.txt: no such trial list"):
        prepare(tree, trials=tmp_path / "absent.txt")


def test_labels_that_contradict_the_folders_are_told(tmp_path, tree, prepare, caplog):
    (tmp_path / "t.txt").write_text("0 s1/x/0.wav s1/x/1.wav\n1 s1/x/0.wav s1/y/1.wav\n")
    prepare(tree, trials=tmp_path / "t.txt")
    assert "1 of 2 labels contradict the speaker folders (such as s1/x/0.wav s1/x/1.wav)" in caplog.text


def test_excluded_speakers_by_name_and_by_file(tmp_path, prepare):
    tree = make_tree(tmp_path / "wav", [f"s{i}" for i in range(5)])
    (tmp_path / "list.tsv").write_text("s2\tf\ns77\tm\n\n")
    found = prepare(tree, exclude_speakers=["s4", tmp_path / "list.tsv"])
    assert {u.speaker for u in found} == {"s0", "s1", "s3"}
    assert {u.speaker for u in prepare(tree, exclude_speakers="s0")} == {"s1", "s2", "s3", "s4"}
    with pytest.raises(ValueError, match="'s77' is neither a speaker"):
        prepare(tree, exclude_speakers=["s77"])


def test_an_excluded_speaker_of_the_trials_is_still_tested(tmp_path, tree, prepare):
    trials = make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    found = prepare(tree, trials=trials, exclude_speakers=["s1"])
    assert by_split(found, "test") == {"s1/x/0.wav", "s1/y/0.wav"}


def test_training_takes_two_speakers(tmp_path, tree, prepare):
    with pytest.raises(ValueError, match="1 training speakers.*12 excluded speakers"):
        prepare(tree, exclude_speakers=["s1", "s2", "s3"])
    with pytest.raises(ValueError, match="3 validation speakers asked for: of 4 .*ask for 2 or fewer"):
        prepare(tree, num_valid_speakers=3)


@pytest.mark.parametrize(
    "option",
    [
        {"audit": "none"},
        {"num_valid_speakers": 1},
        {"num_valid_speakers": -1},
        {"sample_rate": 0},
        {"workers": 0},
    ]
    + [{"min_duration": float("nan")}, {"seed": -1}],
)
def test_arguments_out_of_range(tree, prepare, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        prepare(tree, **option)


# Validation


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


# The audit


def spoil(root):
    """One file of every kind of harm in the folder of s1; returns ID -> problem."""
    good = (root / "s2/x/0.wav").read_bytes()
    bad = root / "s1/bad"
    write(bad / "nan.wav", signal=np.array([0.1, np.nan] * 4000), subtype="FLOAT")
    write(bad / "silent.wav", signal=np.zeros(8000))
    write(bad / "hush.wav", signal=np.full(8000, 9e-5), subtype="FLOAT")
    write(bad / "phone.wav", rate=8000)
    write(bad / "blip.wav", seconds=0.2)
    write(bad / "none.wav", signal=np.zeros(0))
    (bad / "zero.wav").touch()
    (bad / "text.wav").write_text("no audio")
    (bad / "cut.wav").write_bytes(good[: len(good) // 2])
    flac = write(bad / "cut.flac", seconds=2).read_bytes()
    (bad / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (bad / "gone.wav").symlink_to(root / "nothing.wav")
    problems = {
        "nan": "nan",
        "silent": "silent",
        "hush": "silent",
        "phone": "wrong-rate",
        "blip": "too-short",
    }
    problems |= {
        "none": "empty",
        "zero": "empty",
        "text": "unreadable",
        "cut": "truncated",
        "gone": "unreadable",
    }
    return {f"s1/bad/{name}.wav": problem for name, problem in problems.items()} | {"s1/bad/cut.flac": "truncated"}


def test_the_audit_finds_every_kind_of_harm_and_leaves_it_out(tmp_path, tree, prepare, caplog):
    good = {u.utt_id for u in prepare(tree)}
    expected = spoil(tree)
    found = prepare(tree)
    assert {u.utt_id for u in found} == good
    assert audit_of(tmp_path / "out") == set(expected.items())
    for problem in set(expected.values()):
        assert problem in caplog.text
    assert json.loads((tmp_path / "out/prepare.json").read_text())["left_out"]["unusable (see audit.csv)"] == 11


def test_headers_alone_show_less_and_never_decode(tmp_path, tree, prepare, monkeypatch):
    expected = spoil(tree)
    monkeypatch.setattr("alpha_sv.data.corpus.audit.read_blocks", None)
    prepare(tree, audit="headers")
    heard = {"s1/bad/nan.wav", "s1/bad/silent.wav", "s1/bad/hush.wav", "s1/bad/cut.flac"}
    assert audit_of(tmp_path / "out") == {item for item in expected.items() if item[0] not in heard}


def test_clipped_multichannel_and_duplicate_files_are_kept_and_told(tmp_path, tree, prepare):
    write(tree / "s1/x/loud.wav", signal=np.clip(np.random.default_rng(0).normal(0, 0.5, 8000), -1, 1))
    write(tree / "s1/x/stereo.wav", signal=np.random.default_rng(1).uniform(-0.5, 0.5, (8000, 2)))
    shutil.copy(tree / "s2/x/0.wav", tree / "s2/y/copy.wav")
    soundfile.write(tree / "s3/x/other.flac", *soundfile.read(tree / "s2/x/0.wav", dtype="int16"))
    found = prepare(tree)
    assert len(found) == 20 and next(u for u in found if u.utt_id == "s1/x/stereo.wav").channels == 2
    assert audit_of(tmp_path / "out") == {
        ("s1/x/loud.wav", "clipped"),
        ("s1/x/stereo.wav", "multichannel"),
        ("s2/y/copy.wav", "duplicate"),
        ("s3/x/other.flac", "duplicate-across-speakers"),  # the same samples in another format
    }


def test_a_peak_is_not_clipping(tmp_path):
    signal = np.random.default_rng(0).uniform(-0.5, 0.5, 10000)
    signal[:9] = 1.0
    assert examine(write(tmp_path / "a.wav", signal=signal), RATE, 0.3).problems == ()
    signal[:10] = 1.0  # 0.1 %
    assert [p for p, _ in examine(write(tmp_path / "a.wav", signal=signal), RATE, 0.3).problems] == ["clipped"]


def test_one_clipped_channel_is_clipped_though_the_mean_is_not(tmp_path):
    signal = np.zeros((10000, 2))
    signal[:, 0] = 1.0
    problems = [p for p, _ in examine(write(tmp_path / "a.wav", signal=signal), RATE, 0.3).problems]
    assert problems == ["multichannel", "clipped"]


def test_a_bad_file_that_a_trial_needs_is_an_error(tmp_path, tree, prepare):
    spoil(tree)
    trials = make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/bad/silent.wav"))
    with pytest.raises(ValueError, match=r"1 files that trials need.*s1/bad/silent\.wav: silent: peak"):
        prepare(tree, trials=trials)
    assert ("s1/bad/silent.wav", "silent") in audit_of(tmp_path / "out")
    assert not (tmp_path / "out/manifest.csv").exists()


def test_nothing_usable_shows_the_counts(tree, prepare):
    with pytest.raises(ValueError, match=r"(?s)no usable file is left.*wrong-rate +16 .*16000 Hz, 8000 Hz wanted"):
        prepare(tree, sample_rate=8000)


def test_speakers_that_the_audit_empties_do_not_count(tmp_path, tree, prepare):
    for speaker in ("s1", "s2", "s3"):
        for path in (tree / speaker).rglob("*.wav"):
            write(path, rate=8000)
    with pytest.raises(ValueError, match="1 training speakers.*12 unusable"):
        prepare(tree)


# The cache


def test_the_same_inputs_are_not_read_again(tmp_path, tree, prepare, monkeypatch, caplog):
    found = prepare(tree, num_valid_speakers=2)
    monkeypatch.setattr(trees, "examine_files", None)
    caplog.set_level(logging.INFO)
    assert prepare(tree, num_valid_speakers=2, workers=3) == found
    assert "reused" in caplog.text


def test_switching_the_trial_list_prepares_again(tmp_path, tree, prepare):
    # a skip test that ignores the list goes on with the old split, so that the new test speakers train
    trials = make_trials(tmp_path / "trials.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    assert by_split(prepare(tree, trials=trials), "test") == {"s1/x/0.wav", "s1/y/0.wav"}
    make_trials(tmp_path / "trials.txt", ("s2/x/0.wav", "s2/y/0.wav"))  # same path, same size
    found = prepare(tree, trials=trials)
    assert by_split(found, "test") == {"s2/x/0.wav", "s2/y/0.wav"}
    assert "s2" not in {u.speaker for u in found if u.split == "train"}
    assert not by_split(prepare(tree), "test")


def test_every_input_is_part_of_the_key(tmp_path, tree, prepare, monkeypatch):
    monkeypatch.setattr(trees, "examine_files", runs := Counted(trees.examine_files))
    (tmp_path / "absent.txt").write_text("s9\n")
    for options in (
        {"seed": 5},
        {"audit": "headers"},
        {"min_duration": 0.1},
        {"num_valid_speakers": 2},
        {"exclude_speakers": ["s4"]},
        {"exclude_speakers": tmp_path / "absent.txt"},
    ):
        prepare(tree)
        prepare(tree, **options)
    assert runs.count == 12
    (tmp_path / "absent.txt").write_text("s4\n")
    assert {u.speaker for u in prepare(tree, exclude_speakers=tmp_path / "absent.txt")} == {"s1", "s2", "s3"}
    prepare(tree)
    write(tree / "s1/x/0.wav", seed=99)  # the same length, other samples
    os.utime(tree / "s1/x/0.wav", ns=(0, 12345))
    prepare(tree)
    write(tree / "s1/x/new.wav")
    assert "s1/x/new.wav" in {u.utt_id for u in prepare(tree)}
    (tree / "s1/x/new.wav").unlink()
    assert "s1/x/new.wav" not in {u.utt_id for u in prepare(tree)}
    assert runs.count == 17


class Counted:
    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("name", ["manifest.csv", "valid_trials.txt", "audit.csv", "split.txt.gz", "prepare.json"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_damaged_outputs_are_made_again(tmp_path, tree, prepare, name, harm):
    found = prepare(tree, num_valid_speakers=2)
    path = tmp_path / "out" / name
    whole = outputs_of(tmp_path / "out")
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:-5])
    assert prepare(tree, num_valid_speakers=2) == found
    assert outputs_of(tmp_path / "out") == whole


def test_a_failure_leaves_the_earlier_preparation_as_it_was(tmp_path, tree, prepare):
    prepare(tree, num_valid_speakers=2)
    before = outputs_of(tmp_path / "out")
    with pytest.raises(ValueError, match="no usable"):
        prepare(tree, sample_rate=8000)

    def refuse(manifest, trials):
        raise ValueError("another run's")

    with pytest.raises(ValueError, match="another run's"):
        prepare(tree, num_valid_speakers=2, seed=99, check=refuse)
    assert outputs_of(tmp_path / "out") == before
    prepare(tree)
    assert not (tmp_path / "out/valid_trials.txt").exists()


def test_the_check_is_given_the_hashes_of_what_is_then_written(tmp_path, tree, prepare):
    seen = []
    utterances = prepare(tree, num_valid_speakers=2, check=lambda *hashes: seen.append(hashes))
    assert seen == [(manifest_hash(utterances), sha256_file(tmp_path / "out" / "valid_trials.txt"))]


def test_an_input_is_never_overwritten(tmp_path, tree, prepare):
    prepare(tree, num_valid_speakers=2)
    with pytest.raises(ValueError, match="would be overwritten"):
        prepare(tree, trials=tmp_path / "out/valid_trials.txt")
    assert (tmp_path / "out/valid_trials.txt").exists()


def test_the_manifest_hash_is_the_same_wherever_the_data_lies(tmp_path, tree, prepare):
    found = prepare(tree, num_valid_speakers=2)
    moved = shutil.copytree(tree, tmp_path / "mnt/data")
    assert manifest_hash(prepare(moved, num_valid_speakers=2)) == manifest_hash(found)
