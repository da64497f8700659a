"""The audit of noises and impulse responses, before the first step."""

import logging
import os

import numpy as np
import pytest

from alpha_sv.data.audio.augment import Augmenter
from alpha_sv.data.corpus import audit
from alpha_sv.data.corpus.augmentation import audit_augmentation
from tests.fixtures.replaced import counted
from tests.fixtures.wav_tree import decay, write


@pytest.fixture
def folders(tmp_path):
    for number in range(3):
        write(tmp_path / f"noise/{number}.wav")
        write(tmp_path / f"rir/{number}.wav", signal=decay(0.3, seed=number))
    return tmp_path


def in_use(recordings):
    return {os.path.basename(recordings[number].path) for number in range(len(recordings))}


def test_every_harm_is_found_before_the_first_step(folders, caplog):
    write(folders / "noise/nan.wav", signal=np.array([0.1, np.nan] * 4000), subtype="FLOAT")
    write(folders / "noise/silent.wav", signal=np.zeros(8000))
    write(folders / "noise/phone.wav", rate=8000)
    flac = write(folders / "noise/cut.flac", seconds=2).read_bytes()
    (folders / "noise/cut.flac").write_bytes(flac[: len(flac) // 2])
    (folders / "noise/text.wav").write_text("no audio")
    (folders / "noise/gone.wav").symlink_to("nowhere.wav")
    write(folders / "rir/hiss.wav")
    write(folders / "rir/faint.wav", signal=1e-5 * decay(0.3), subtype="FLOAT")
    write(folders / "rir/nan.wav", signal=np.array([0.1, np.nan] * 4000), subtype="FLOAT")
    augmenter = Augmenter(folders / "noise", folders / "rir")
    with caplog.at_level(logging.INFO):
        audit_augmentation(augmenter, folders / "journal", progress=False)
    assert in_use(augmenter.noises) == {"0.wav", "1.wav", "2.wav"}
    assert in_use(augmenter.rirs) == {"0.wav", "1.wav", "2.wav", "faint.wav"}
    assert "noise: 3 of 9 files are in use as noise" in caplog.text
    assert "rir: 4 of 6 files are in use as impulse response" in caplog.text
    for problem in ("nan", "silent", "wrong-rate", "truncated", "unreadable", "no-impulse-response"):
        assert problem in caplog.text


def test_known_files_are_not_decoded_again(folders):
    first, second = (Augmenter(folders / "noise", folders / "rir") for _ in range(2))
    audit_augmentation(first, folders / "journal", progress=False)
    with counted(audit, "read_header") as calls:
        audit_augmentation(second, folders / "journal", progress=False)
    assert not calls
    wave = np.ones(4000)
    for seed in range(5):
        assert np.array_equal(*(a(wave, np.random.default_rng(seed)) for a in (first, second)))


def test_a_folder_without_a_usable_file_is_an_error(folders):
    for number in range(3):
        write(folders / f"rir/{number}.wav")
    with pytest.raises(ValueError, match="(?s)rir: none of its 3 files is usable.*no-impulse-response +3.*die away"):
        audit_augmentation(Augmenter(None, folders / "rir"), folders / "journal", progress=False)


def test_files_of_another_rate_count_if_they_are_resampled(folders):
    write(folders / "noise/phone.wav", rate=8000)
    write(folders / "rir/studio.wav", signal=decay(0.3, rate=48000), rate=48000)
    augmenter = Augmenter(folders / "noise", folders / "rir", resample=True)
    audit_augmentation(augmenter, folders / "journal", progress=False)
    assert len(augmenter.noises) == 4 and len(augmenter.rirs) == 4


def test_nothing_to_audit(tmp_path):
    audit_augmentation(Augmenter(), tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
