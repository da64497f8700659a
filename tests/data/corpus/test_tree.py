import logging
import os
import unicodedata

import pytest

from alpha_sv.data.corpus.tree import find_files
from tests.fixtures.wav_tree import make_tree, make_trials, write

SIX = range(1272, 1278)


def touched(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.wav").touch()
    return names


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


def test_names_with_white_space_are_written_as_in_a_url(tmp_path, tree, prepare):
    names = {"my file.wav": "my%20file.wav", "a\nb\t.wav": "a%0Ab%09.wav", "100%.wav": "100%.wav"}
    names |= {"\u3000\u00a0.wav": "%E3%80%80%C2%A0.wav", "\x1b[1m.wav": "%1B[1m.wav"}
    for name in names:
        write(tree / "s 1/x" / name)
    files = {f.utt_id: f.path for f in find_files([tree])}
    assert {f"s%201/x/{word}": str(tree / "s 1/x" / name) for name, word in names.items()}.items() <= files.items()
    trials = make_trials(tmp_path / "t.txt", ("s1/x/0.wav", "s1/y/0.wav"))
    assert len(prepare(tree, trials=trials)) == 14 + len(names)  # and survives the manifest
    assert {u.speaker for u in prepare(tree, exclude_speakers="s 1")} == {"s1", "s2", "s3", "s4"}
    write(tree / "s 1/x/my%20file.wav")
    with pytest.raises(ValueError, match=r"my file.wav' and .*my%20file.wav' have one ID|my%20file.wav' and .*my file"):
        find_files([tree])


def test_two_forms_of_one_name_in_one_folder_are_an_error(tree):
    for form in ("NFC", "NFD"):
        write(tree / "s1" / unicodedata.normalize(form, "\u00e9.wav"))
    with pytest.raises(ValueError, match=r"xe9.wav.* have one ID"):
        find_files([tree])


@pytest.mark.parametrize(
    "names",
    [
        {f"{part}/{s}{p}/{s}{c}{p}/{u}" for p, part in ((0, "a"), (1, "x")) for s in SIX for c in "12" for u in "ab"},
        {f"{part}/p{s}/{u}" for part in ("train", "test") for s in (1, 2) for u in "ab"},
        {f"{sex}/{s}/{u}" for sex in ("Male", "Female") for s in ("ann", "bob", "eve") for u in "ab"},
        {f"corpus{p}/wav/{p}{s}/{p}{s}{c}/{u}" for p in "AB" for s in range(6) for c in "12" for u in "ab"},
        {f"{p}/id{ord(p)}{s:02}/{u}" for p in "AB" for s in range(20) for u in "ab"},
    ],
    ids=["LibriSpeech", "splits", "sexes", "corpora", "numbered"],
)
def test_a_level_too_high_is_warned_of_with_the_remedy(tmp_path, caplog, names):
    touched(tmp_path, names)
    with caplog.at_level(logging.WARNING):
        assert find_files([tmp_path])
    assert "look like folders of speakers" in caplog.text
    assert str(tmp_path / min(names).split("/")[0]) in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        {
            f"id1000{s}/{s}{v}x-_/{u}"
            for s in "1234"
            for v in ("5r0dW", "YhT3k", "ABC", "9-a", "q_Z", "1")
            for u in "12"
        },
        {f"SPEAKER{s:04}/session{c}/{u}" for s in range(4) for c in range(12) for u in "ab"},
        {f"{s}/{c}/{s}-{c}-{u}" for s in (1272, 1462, 174) for c in (128104, 135031, 170138) for u in "ab"},
        {f"p{s}/{u}" for s in (225, 226) for u in range(20)},
        {f"ann{s}/wav/{u}" for s in range(5) for u in range(20)},
        {f"ann{s}/day{d}/mic{m}/{u}" for s in "12" for d in range(12) for m in "12" for u in "ab"},
        {f"test{s}/x{c}/{u}" for s in range(13) for c in "ab" for u in "ab"},
    ],
    ids=["VoxCeleb", "speechocean762", "LibriSpeech", "VCTK", "wav", "channels", "many"],
)
def test_the_right_level_is_not_warned_of(tmp_path, caplog, names):
    touched(tmp_path, names)
    find_files([tmp_path])
    assert caplog.text == ""


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    listing = os.scandir

    def refuse(folder):  # root may read everything
        if str(folder).endswith("s2"):
            raise PermissionError(13, "Permission denied", folder)
        return listing(folder)

    monkeypatch.setattr("alpha_sv.data.audio.folder.os.scandir", refuse)
    with pytest.raises(ValueError, match="s2: Permission denied"):
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
