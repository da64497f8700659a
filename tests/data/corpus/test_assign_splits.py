import json
import logging
import os
import shutil
import unicodedata

import pytest

from alpha_sv.data.trials.files import read_trials
from tests.fixtures.wav_tree import by_split, make_tree, make_trials


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
    (tmp_path / "list.tsv").write_text("speaker\tsex\ns2\tf\ns1\tm\n\n")
    found = prepare(tree, exclude_speakers=["s4", tmp_path / "list.tsv"])
    assert {u.speaker for u in found} == {"s0", "s3"}
    assert {u.speaker for u in prepare(tree, exclude_speakers="s0")} == {"s1", "s2", "s3", "s4"}


def test_an_exclusion_that_matches_nothing_is_named_also_where_others_match(tmp_path, tree, prepare):
    with pytest.raises(ValueError, match="'s77' is neither a speaker"):
        prepare(tree, exclude_speakers=["s4", "s77"])
    (tmp_path / "list.txt").write_text("s4\ns77\n")
    with pytest.raises(ValueError, match=r"1 of the 2 speakers of the list.*list.txt:2: 's77'"):
        prepare(tree, exclude_speakers=[tmp_path / "list.txt"])
    (tmp_path / "list.txt").write_bytes("s4\nJos\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="list.txt: .*UTF-8"):
        prepare(tree, exclude_speakers=[tmp_path / "list.txt"])


@pytest.mark.parametrize("of_folders, of_lists", [("NFC", "NFD"), ("NFD", "NFC")])
def test_lists_and_folders_may_differ_in_the_form_of_unicode(tmp_path, prepare, of_folders, of_lists):
    """A folder copied from a Mac has NFD; typed names are NFC as a rule. Both look the same."""
    speakers = ["Jos\u00e9", "Zo\u00eb", "\u1ea1nh", "\ud55c", "s1", "s2"]
    folder, listed = ([unicodedata.normalize(form, name) for name in speakers] for form in (of_folders, of_lists))
    assert folder != listed
    tree = make_tree(tmp_path / "wav", folder)
    trials = make_trials(tmp_path / "t.txt", *((f"{s}/x/0.wav", f"{s}/y/0.wav") for s in listed[:1]))
    valid = make_trials(tmp_path / "v.txt", (f"{listed[1]}/x/0.wav", f"{listed[1]}/y/0.wav"))
    (tmp_path / "out.txt").write_text(listed[2], encoding="utf-8")
    found = prepare(tree, trials=trials, valid_trials=valid, exclude_speakers=[listed[3], tmp_path / "out.txt"])
    assert {u.speaker for u in found if u.split == "train"} == {"s1", "s2"}
    assert by_split(found, "test") == {f"{speakers[0]}/x/0.wav", f"{speakers[0]}/y/0.wav"}
    written = read_trials(tmp_path / "out/valid_trials.txt")
    assert set(written.enroll.tolist()) | set(written.test.tolist()) == by_split(found, "valid")
    assert all(os.path.isfile(u.path) for u in found)


def test_the_log_counts_speakers_and_files(tmp_path, tree, prepare, caplog):
    caplog.set_level(logging.INFO)
    prepare(tree, exclude_speakers=["s3"], trials=make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/y/0.wav")))
    assert "other files of trial speakers: 2 files of 1 speakers" in caplog.text
    assert "excluded speakers: 4 files of 1 speakers" in caplog.text
    facts = json.loads((tmp_path / "out/prepare.json").read_text())
    assert facts["left_out"]["excluded speakers"] == 4 and facts["left_out_speakers"]["excluded speakers"] == 1


def test_a_trial_of_a_file_with_itself_or_its_copy_is_told(tmp_path, tree, prepare, caplog):
    shutil.copy(tree / "s1/x/0.wav", tree / "s1/y/copy.wav")
    pairs = ("s1/x/0.wav", "s1/x/0.wav"), ("s1/x/0.wav", "s1/y/copy.wav"), ("s1/x/0.wav", "s1/y/0.wav")
    prepare(tree, trials=make_trials(tmp_path / "t.txt", *pairs))
    assert "1 of 3 trials compare a file with itself (such as s1/x/0.wav)" in caplog.text
    assert (
        "1 of 3 trials compare two files with the very same samples (such as s1/x/0.wav s1/y/copy.wav)" in caplog.text
    )


def test_an_excluded_speaker_of_the_trials_is_still_tested(tmp_path, tree, prepare):
    trials = make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    found = prepare(tree, trials=trials, exclude_speakers=["s1"])
    assert by_split(found, "test") == {"s1/x/0.wav", "s1/y/0.wav"}


def test_training_takes_two_speakers(tmp_path, tree, prepare):
    with pytest.raises(ValueError, match="1 training speakers.*excluded speakers: 12 files of 3 speakers"):
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
