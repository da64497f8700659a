import json
import os
import shutil
import socket
import struct

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus import audit
from alpha_sv.data.corpus.audit import examine
from tests.fixtures.replaced import counted
from tests.fixtures.wav_tree import RATE, audit_of, make_trials, write


def spoil(root):
    """One file of every kind of harm in the folder of s1; returns ID -> problem."""
    good = (root / "s2/x/0.wav").read_bytes()
    bad = root / "s1/bad"
    write(bad / "nan.wav", signal=np.array([0.1, np.nan] * 4000), subtype="FLOAT")
    write(bad / "silent.wav", signal=np.zeros(8000))
    write(bad / "hush.wav", signal=np.full(8000, 9e-5), subtype="FLOAT")
    write(bad / "offset.wav", signal=np.full(8000, 0.3))
    write(bad / "huge.wav", signal=1e30 * np.random.default_rng(5).uniform(-1, 1, 8000), subtype="FLOAT")
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
        "offset": "silent",
        "huge": "too-large",
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
    assert json.loads((tmp_path / "out/prepare.json").read_text())["left_out"]["unusable (see audit.csv)"] == 13


def test_headers_alone_show_less_and_never_decode(tmp_path, tree, prepare):
    expected = spoil(tree)
    with counted(audit, "read_blocks") as calls:
        prepare(tree, audit="headers")
    assert not calls
    heard = {f"s1/bad/{name}" for name in ("nan.wav", "silent.wav", "hush.wav", "offset.wav", "huge.wav", "cut.flac")}
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
    signal[::2, 0] = 1.0
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
    remedy = "wrong-rate +16 .*16000 Hz, 8000 Hz wanted: .*--resample.*ffmpeg -i IN -ar 8000"
    with pytest.raises(ValueError, match=f"(?s)no usable file is left.*{remedy}"):
        prepare(tree, sample_rate=8000)


def test_speakers_that_the_audit_empties_do_not_count(tmp_path, tree, prepare):
    for speaker in ("s1", "s2", "s3"):
        for path in (tree / speaker).rglob("*.wav"):
            write(path, rate=8000)
    with pytest.raises(ValueError, match=r"1 training speakers.*unusable .see audit.csv.: 12 files of 3"):
        prepare(tree)


def test_the_formats_of_one_recording_are_twins(tmp_path, tree, prepare):
    soundfile.write(tree / "s2/x/0.flac", *soundfile.read(tree / "s2/x/0.wav", dtype="int16"))
    write(tree / "s2/x/1.ogg")
    assert len(prepare(tree)) == 18
    assert audit_of(tmp_path / "out") == {
        *(("s2/x/0.wav", problem) for problem in ("twin", "duplicate")),
        ("s2/x/1.wav", "twin"),
    }


def test_what_a_header_does_not_count_is_a_finding(tmp_path, tree, prepare):
    content = bytearray(write(tree / "s1/x/0.wav", seconds=1).read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 16000)  # half of its bytes
    (tree / "s1/x/0.wav").write_bytes(content)
    content = bytearray(write(tree / "s1/x/f.flac", seconds=1).read_bytes())
    content[22:26] = struct.pack(">I", 9000)
    (tree / "s1/x/f.flac").write_bytes(content)
    lengths = {u.utt_id: u.num_samples for u in prepare(tree)}
    assert lengths["s1/x/0.wav"] == 8000 and lengths["s1/x/f.flac"] == 9000
    assert audit_of(tmp_path / "out") == {("s1/x/0.wav", "uncounted"), ("s1/x/f.flac", "uncounted")}


def test_codecs_that_cannot_seek_are_like_any_other(tmp_path, tree, prepare):
    for name, subtype in (("gsm", "GSM610"), ("g721", "G721_32")):
        write(tree / f"s1/x/{name}.wav", signal=np.sin(np.arange(8000) / 9) / 9, subtype=subtype)
    assert len(prepare(tree)) == 18 and audit_of(tmp_path / "out") == set()


def test_pipes_sockets_and_names_that_are_not_unicode_are_left_out(tmp_path, tree, prepare):
    os.mkfifo(tree / "s1/x/pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tree / "s1/x")  # the name of a socket is short
        try:
            server.bind("socket.wav")
        finally:
            os.chdir(here)
    (tree / "s1/x/self.wav").symlink_to("self.wav")
    (tree / "s1/x/device.wav").symlink_to("/dev/zero")
    (tree / "s1/x/\udcff.wav").symlink_to(tree / "s1/x/0.wav")
    assert len(prepare(tree)) == 16
    names = {"pipe", "socket", "self", "device", "%FF"}
    assert audit_of(tmp_path / "out") == {(f"s1/x/{name}.wav", "unreadable") for name in names}
