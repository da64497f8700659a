"""Who speaks is taken from names or files, and never against the labels."""

import pytest

from alpha_sv.data.trials.tables import Trials
from alpha_sv.pipeline.speakers import read_speakers, sides_speakers

NAMED = Trials(["id1/a/1.wav", "id1/a/1.wav"], ["id1/b/2.wav", "id2/c/3.wav"], [True, False])
KALDI = Trials(["id1-a-1", "id1-a-1"], ["id1-b-2", "id2-c-3"], [True, False])


@pytest.fixture
def given(tmp_path):
    def write(text, name="utt2spk"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return write


def test_three_kinds_of_files_say_the_same(given, tmp_path):
    expected = {"id1-a-1": "ann", "id1-b-2": "ann", "id2-c-3": "bob"}
    lines = "id1-a-1 ann\r\n\nid1-b-2\tann\nid2-c-3 bob\nid2-c-3 bob"
    assert read_speakers(given(lines)) == expected
    index = "ID,spk_id,split\n" + "".join(f"{u},{s},test\n" for u, s in expected.items())
    assert read_speakers(given("\ufeff" + index, "index.csv")) == expected
    manifest = "split,spk_id,wav,ID\n" + "".join(f'test,{s},"/a, b/{u}.wav",{u}\n' for u, s in expected.items())
    assert read_speakers(given(manifest, "manifest.csv")) == expected
    for file in ("utt2spk", "index.csv", "manifest.csv"):
        enroll, test = sides_speakers(KALDI, tmp_path / file)
        assert enroll.tolist() == ["ann", "ann"] and test.tolist() == ["ann", "bob"]


def test_a_name_without_folders_is_its_own_speaker_only_if_the_labels_agree():
    models = Trials(["id1", "id2"], ["id1/b/2.wav", "id1/b/2.wav"], [True, False])  # models named after speakers
    assert [side.tolist() for side in sides_speakers(models)] == [["id1", "id2"], ["id1", "id1"]]
    with pytest.raises(ValueError, match=r"1 of 2 .*'id1-a-1 id1-b-2' is a target trial, but of two .*--speakers"):
        sides_speakers(KALDI)


def test_a_nontarget_trial_of_one_speaker_is_refused(given):
    flipped = Trials(NAMED.enroll, NAMED.test, ~NAMED.labels)
    with pytest.raises(ValueError, match="2 of 2 trials .* is a nontarget trial, but of one speaker"):
        sides_speakers(flipped)
    with pytest.raises(ValueError, match="utt2spk.*correct the label or the speaker"):
        sides_speakers(NAMED, given("id1/a/1.wav x\nid1/b/2.wav y\nid2/c/3.wav z\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u1 ann\nu2\n", r"utt2spk:2: not an utterance and its speaker \('u2'\)"),
        ("u1 ann 0.5\n", "utt2spk:1"),
        ("u1 ann\nu1 bob\n", "utt2spk:2: 'u1' is of 'bob' here and of 'ann' above"),
        ("ID,spk_id\nu1,ann\nu2\n", "utt2spk:3"),
        ("ID,spk_id\nu1,\n", "utt2spk:2"),
        ("\n\n", "no utterances"),
        (b"\xff\xfe u1", "not UTF-8"),
    ],
)
def test_what_is_no_list_of_speakers_is_named(text, message, given):
    with pytest.raises(ValueError, match=message):
        read_speakers(given(text))


def test_utterances_that_the_file_lacks_are_named(given):
    with pytest.raises(ValueError, match="utt2spk does not say who speaks in 2 of the 3 .*'id1/b/2.wav', 'id2/c/"):
        sides_speakers(NAMED, given("id1/a/1.wav id1\n"))
