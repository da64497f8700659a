"""Copies at the wanted rate: opt-in, made once, exact in length."""

import logging

import numpy as np
import pytest
import soundfile

from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.corpus.prepare import prepare_tree
from tests.fixtures.wav_tree import audit_of, by_split, make_trials, write


@pytest.fixture
def mixed(tree):
    write(tree / "s1/x/phone.wav", rate=8000)
    write(tree / "s2/x/studio.flac", rate=44100, signal=np.random.default_rng(0).uniform(-0.5, 0.5, (17641, 2)))
    write(tree / "s3/x/pod cast.mp3", rate=48000)
    return tree


def test_any_rate_is_used_when_it_is_asked_for(tmp_path, mixed, prepare):
    assert len(prepare(mixed)) == 16
    trials = make_trials(tmp_path / "t.txt", ("s1/x/phone.wav", "s1/x/0.wav"))
    found = prepare(mixed, trials=trials, resample=True)
    assert {(u.sample_rate, u.channels) for u in found} == {(16000, 1)}
    assert by_split(found, "test") == {"s1/x/phone.wav", "s1/x/0.wav"}
    new = {u.utt_id: u for u in found if "resampled" in u.path}
    assert set(new) == {"s1/x/phone.wav", "s2/x/studio.flac", "s3/x/pod%20cast.mp3"}
    for row in new.values():
        assert len(read_audio(row.path)) == row.num_samples == pytest.approx(6400, abs=1)
    problems = {(name, "resampled") for name in new} | {("s2/x/studio.flac", "multichannel")}
    assert audit_of(tmp_path / "out") == problems


def test_copies_are_made_once_and_follow_their_sources(tmp_path, mixed, prepare, caplog):
    caplog.set_level(logging.INFO)
    prepare(mixed, resample=True)
    copies = sorted((tmp_path / "out/resampled").rglob("*.flac"))
    times = [path.stat().st_ino for path in copies]
    found = prepare(mixed, resample=True, seed=5)
    assert [path.stat().st_ino for path in copies] == times
    copies[0].unlink()  # somebody tidied up
    assert prepare(mixed, resample=True, seed=5) == found and copies[0].is_file()
    assert prepare(mixed, resample=True, seed=5) == found and "reused" in caplog.text
    write(mixed / "s1/x/phone.wav", rate=8000, signal=np.resize([0.2504, 0.2496], 3200))
    prepare(mixed, resample=True, seed=5)
    np.testing.assert_allclose(soundfile.read(copies[0])[0][1000:5000], 0.25, atol=1e-3)


def test_nothing_is_copied_for_what_is_refused(tmp_path, mixed):
    def refuse(*hashes):
        raise ValueError("another corpus")

    with pytest.raises(ValueError, match="another corpus"):
        prepare_tree(mixed, tmp_path / "out", resample=True, progress=False, check=refuse)
    assert not (tmp_path / "out/resampled").exists()
