"""`load_model(…).embed(…)`: whatever a recording is held in,
its embedding is the same; what cannot be one is said."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from alpha_sv.verify.model import load_model
from tests.fixtures.models import small_embedder
from tests.fixtures.speech_tree import voice

SECONDS = (0.1, 0.37, 1.0, 1.0, 1.003, 2.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    small_embedder().save(folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def waves():
    return [voice(i, 0, seconds) for i, seconds in enumerate(SECONDS)]


@pytest.fixture(scope="module")
def files(waves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    paths = [folder / f"{i} a.wav" for i in range(len(waves))]
    for path, wave in zip(paths, waves, strict=True):
        soundfile.write(path, wave, 16000, subtype="FLOAT")
    return paths


def test_every_way_to_hold_a_recording_gives_its_embedding(model, waves, files):
    expected = model.embed(waves)
    assert expected.shape == (len(waves), 24) and expected.dtype == np.float32
    forms = {
        "paths": files,
        "strings": [str(file) for file in files],
        "tensors": [torch.from_numpy(wave) for wave in waves],
        "a tensor that learns": [torch.from_numpy(wave).requires_grad_() for wave in waves],
        "float64": [wave.astype(np.float64) for wave in waves],
        "a row": [wave[None] for wave in waves],
        "a column": [wave[:, None] for wave in waves],
        "one by one": None,
        "mixed": [str(files[0]), waves[1], torch.from_numpy(waves[2])[None], files[3], *waves[4:]],
        "a tuple": tuple(waves),
        "a generator": (wave for wave in waves),
        "not contiguous": [np.repeat(wave, 2)[::2] for wave in waves],
    }
    for name, form in forms.items():
        got = np.concatenate([model.embed(wave) for wave in waves]) if form is None else model.embed(form)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 40])
def test_an_embedding_depends_on_neither_batch_nor_order(model, waves, batch_size):
    order = np.random.default_rng(batch_size).permutation(len(SECONDS))
    alone = np.concatenate([model.embed(wave) for wave in waves])
    together = model.embed([waves[i] for i in order], batch_size=batch_size)
    np.testing.assert_allclose(together, alone[order], rtol=1e-5, atol=1e-5)


def test_pcm_is_divided_by_its_full_scale(model):
    quiet = np.round(voice(0, 0) * 2**15) / 2**15  # numbers that 16 bits have
    expected = model.embed(quiet)
    for pcm in ((quiet * 2**15).astype(np.int16), (quiet * 2**31).astype(np.int32)):
        np.testing.assert_allclose(model.embed(pcm), expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(model.embed(torch.from_numpy(pcm)), expected, rtol=1e-5, atol=1e-5)
    eight = np.round(voice(0, 0) * 127) / 128
    unsigned = (eight * 128 + 128).astype(np.uint8)
    np.testing.assert_allclose(model.embed(unsigned), model.embed(eight), rtol=1e-5, atol=1e-5)


def test_another_rate_is_resampled_to_the_same_voice_and_said_once(model, caplog, tmp_path):
    time = np.arange(48000) / 48000
    wave = sum(np.sin(2 * np.pi * f * time) / (10 + f / 100) for f in (210, 420, 1300, 2600)).astype(np.float32)
    at_16k = wave[::3]  # nothing above 8 kHz: the very samples of a recording at 16 kHz
    cosine = lambda a, b: float(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))  # noqa: E731
    with caplog.at_level(logging.WARNING):
        resampled = model.embed([wave, wave], sample_rate=48000)
        again = model.embed(wave, sample_rate=48000)
    assert cosine(resampled[0], model.embed(at_16k)[0]) > 0.995
    np.testing.assert_allclose(again[0], resampled[1], rtol=1e-5, atol=1e-5)
    assert [record.getMessage() for record in caplog.records] == ["resampling from 48000 Hz to the 16000 Hz of small"]
    soundfile.write(tmp_path / "a.wav", wave, 48000, subtype="FLOAT")
    np.testing.assert_allclose(model.embed(tmp_path / "a.wav", sample_rate=8000), again, rtol=1e-5, atol=1e-5)
    for rate in (8000, 11025, 44100, 44101, 15999, 96000):
        assert model.embed(wave, sample_rate=rate).shape == (1, 24)


def test_channels_of_a_file_become_their_mean(model, tmp_path):
    stereo = np.stack([voice(0, 0), voice(1, 0)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 16000, subtype="FLOAT")
    got = model.embed(tmp_path / "stereo.wav")
    np.testing.assert_allclose(got, model.embed(stereo.mean(axis=1)), rtol=1e-4, atol=1e-5)


def test_nothing_gives_nothing(model):
    assert model.embed([]).shape == (0, 24)


@pytest.mark.parametrize("counted", [8000, 24000])
def test_what_a_header_does_not_count_is_said(model, tmp_path, caplog, counted):
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(0, 0, 3.0), 16000, subtype="PCM_16")
    whole = bytearray(path.read_bytes())
    model.embed(path)
    assert not caplog.records
    whole[40:44] = (2 * counted).to_bytes(4, "little")
    path.write_bytes(whole)
    got, again = model.embed(path), model.verify(path, GOOD, threshold=0.5)
    assert got.shape == (1, 24) and again.same is not None
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and told[0] == told[1]  # each once
    assert f"{path}: its header counts {counted} samples ({counted / 16000:.2f} s)" in told[0]
    assert f"{2 * (48000 - counted)} bytes lie behind" in told[0]


def test_two_channels_that_cancel_out_are_silent(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([GOOD, -GOOD], axis=1), 16000, subtype="PCM_16")
    with pytest.raises(ValueError, match="a.wav.* is silent: "):
        model.embed(tmp_path / "a.wav")


GOOD = voice(0, 0)
BAD = {
    "silent": np.zeros(16000, np.float32),
    "silent: all 16000 samples are equal": np.full(16000, 0.25, np.float32),
    "silent: its peak is .*e-05 of full scale, 0.0001 is needed": GOOD / np.abs(GOOD).max() * 9e-5,
    "silent: its peak": np.where(np.arange(16000) == 7, 1e-4, 0).astype(np.float32),
    "NaN": np.where(np.arange(16000) == 7, np.nan, GOOD),
    "sample 9 is NaN or infinite": np.where(np.arange(16000) == 9, np.inf, GOOD),
    "too short: 1599 samples": GOOD[:1599],
    "empty": np.zeros(0, np.float32),
    r"shape \[2, 16000\], which may be channels or utterances": np.stack([GOOD, GOOD]),
    r"shape \[16000, 2\]": np.stack([GOOD, GOOD], axis=1),
    r"shape \[1, 1, 16000\]": GOOD[None, None],
    "array of int64": (GOOD * 2**15).astype(np.int64),
    "array of bool": GOOD > 0,
    "array of complex": GOOD.astype(np.complex64),
    "array of object": np.array([None] * 16000),
    "array of <U1": np.array(["a"] * 16000),
    r"lie in \[-1, 1\]": GOOD * 2**15,
    "is a NoneType|is a None": None,
    "is a bool": True,
    "is a float; give an array|is a float, .*give an array": 0.5,
    "is a list, .*give an array": [0.1, 0.2],
    "is a dict": {"a": GOOD},
    "is a bytes": b"a.wav",
    "no such file": "missing/file.wav",
    "cannot be a path": "",
    "a folder": str(Path(__file__).parent),
    "unreadable|known extensions": __file__,
    "shape|not a path": torch.tensor(0.5),
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_what_is_no_recording_is_refused_by_its_number(model, reason):
    with pytest.raises(ValueError, match=reason) as told:
        model.embed([GOOD, GOOD, BAD[reason]])
    assert "input 2" in str(told.value) or str(BAD[reason]) in str(told.value)
    if not isinstance(BAD[reason], list):
        with pytest.raises(ValueError, match="the input|missing/file.wav|embed|known ext"):
            model.embed(BAD[reason])


@pytest.mark.parametrize("rate", [0, -16000, True, "16000", 16000.5, float("nan"), 8, [16000]])
def test_a_rate_that_is_none_is_refused(model, rate):
    with pytest.raises(ValueError, match="sample_rate is a whole number of Hz"):
        model.embed(GOOD, sample_rate=rate)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, None])
def test_a_batch_size_that_is_none_is_refused(model, size):
    with pytest.raises(ValueError, match="batch_size is a whole number"):
        model.embed(GOOD, batch_size=size)


@pytest.mark.parametrize(
    "source, reason", [("nothing", "neither a folder"), ("", "named by"), (None, "named by"), (__file__, "import")]
)
def test_what_is_no_model_is_said(source, reason):
    with pytest.raises(ValueError, match=reason):
        load_model(source)


def test_a_device_that_is_not_there_is_said(tmp_path):
    small_embedder().save(tmp_path)
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:NUMBER, got 'cud'"):
        load_model(tmp_path, device="cud")


def test_the_output_folder_of_a_training_will_do(tmp_path):
    small_embedder().save(tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path).embed(GOOD), load_model(tmp_path / "model").embed(GOOD))
    with pytest.raises(ValueError, match="not a saved embedder"):
        load_model(tmp_path / "..")
