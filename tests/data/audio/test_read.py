import pickle
import struct

import numpy as np
import pytest
import soundfile

from alpha_sv.data.audio.read import AudioError, check_signal, read_audio, read_blocks, read_header

RATE = 16000
OPUS = {"format": "OGG", "subtype": "OPUS"}


def noise(num_samples=8000, seed=0, channels=None):
    shape = num_samples if channels is None else (num_samples, channels)
    return np.random.default_rng(seed).uniform(-0.3, 0.3, shape)


def write(path, signal, rate=RATE, **options):
    soundfile.write(path, signal, rate, **(OPUS if path.suffix == ".opus" else options))
    return path


def problem_of(path, **arguments):
    with pytest.raises(AudioError) as caught:
        read_audio(path, **arguments)
    assert str(path) in str(caught.value)
    return caught.value.problem


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus"])
def test_a_crop_is_the_slice_of_the_whole(tmp_path, extension):
    path = write(tmp_path / f"a.{extension}", noise(24000))
    whole = read_audio(path)
    assert whole.dtype == np.float32 and whole.shape == (24000,) and read_header(path) == (24000, RATE, 1)
    for start, length in ((0, 1), (0, 24000), (7777, 5000), (23999, 1), (12000, 12000)):
        # Opus: the position is exact, the decoder state is not; white noise one sample off would differ by
        # 100 %
        tolerance = 0.05 * np.abs(whole).max() if extension == "opus" else 0
        crop = read_audio(path, start, length)
        np.testing.assert_allclose(crop, whole[start : start + length], atol=tolerance, rtol=0)


def test_wav_samples_survive_exactly(tmp_path):
    counts = np.random.default_rng(0).integers(-(2**15), 2**15, 5000).astype(np.int16)
    assert np.array_equal(read_audio(write(tmp_path / "a.wav", counts)) * 2**15, counts)


@pytest.mark.parametrize("extension", ["flac", "opus"])
def test_files_longer_than_a_block_are_read_whole(tmp_path, extension):
    path = write(tmp_path / f"a.{extension}", noise(600_001))
    blocks = list(read_blocks(path))
    assert len(blocks) > 1 and max(map(len, blocks)) < 300_000
    whole, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(read_audio(path), whole)


def test_channels_become_their_mean(tmp_path):
    signal = noise(1000, channels=3)
    path = write(tmp_path / "a.wav", signal, subtype="DOUBLE")
    np.testing.assert_allclose(read_audio(path), signal.mean(axis=1), atol=1e-7)
    mono = write(tmp_path / "b.wav", np.repeat(signal[:, :1], 2, axis=1), subtype="FLOAT")
    assert np.array_equal(read_audio(mono), signal[:, 0].astype(np.float32))
    assert read_header(path)[2] == 3


def test_another_rate_names_the_rates_and_the_command(tmp_path):
    path = write(tmp_path / "it's a file.wav", noise(), rate=8000)
    with pytest.raises(AudioError, match="8000 Hz, 16000 Hz wanted.*ffmpeg -i .*-ar 16000.*sox") as caught:
        read_audio(path)
    assert caught.value.problem == "wrong-rate"
    assert len(read_audio(path, sample_rate=8000)) == 8000


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_broken_off_download_is_an_error_not_a_shorter_recording(tmp_path, extension, kept):
    # libsndfile reads a cut wav or Vorbis file without complaint, as if the speaker had stopped there
    content = write(tmp_path / f"whole.{extension}", noise(50000)).read_bytes()
    cut = tmp_path / f"cut.{extension}"
    cut.write_bytes(content[: int(kept * len(content))])
    assert problem_of(cut) == "truncated"
    if extension != "flac":  # whose header is all there is to see without decoding
        with pytest.raises(AudioError, match="truncated"):
            read_header(cut)


def test_reading_past_the_end_is_truncated(tmp_path):
    path = write(tmp_path / "a.wav", noise(1000))
    assert problem_of(path, start=500, num_samples=501) == "truncated"
    assert problem_of(path, start=1000) == "truncated"


def test_a_flac_header_that_lies_about_its_length(tmp_path):
    content = bytearray(write(tmp_path / "a.flac", noise(8000)).read_bytes())
    path = tmp_path / "lie.flac"

    def claim(num_samples):  # the 36 bits from the middle of byte 21 on
        content[21] = content[21] & 0xF0 | num_samples >> 32
        content[22:26] = struct.pack(">I", num_samples & 0xFFFFFFFF)
        path.write_bytes(content)

    claim(2**36 - 1)  # 256 GB of samples, if it were believed
    assert problem_of(path) == "truncated"
    claim(9000)
    assert problem_of(path) == "truncated"
    claim(0)
    assert problem_of(path) == "unreadable"


def test_a_wav_written_to_a_pipe_is_read(tmp_path):
    # the writer cannot go back to fill in the length, and leaves a huge one: ffmpeg 2^32 - 1, sox 2^31 - 4096
    content = write(tmp_path / "a.wav", noise(8000)).read_bytes()
    where = content.index(b"data") + 4
    for placeholder in (0xFFFFFFFF, 0x7FFFF000):
        (tmp_path / "b.wav").write_bytes(content[:where] + struct.pack("<I", placeholder) + content[where + 4 :])
        assert np.array_equal(read_audio(tmp_path / "b.wav"), read_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_no_numbers(tmp_path, value):
    signal = noise(1000)
    signal[123] = value  # 1e300 is finite in the file, but not as float32
    path = write(tmp_path / "a.wav", signal, subtype="DOUBLE")
    with pytest.raises(AudioError, match="sample 123") as caught:
        read_audio(path)
    assert caught.value.problem == "nan"
    assert len(read_audio(path, start=124)) == 876


def test_empty_missing_and_foreign_files(tmp_path):
    (tmp_path / "zero.wav").touch()
    write(tmp_path / "header_only.wav", np.zeros(0))
    (tmp_path / "text.wav").write_text("not audio at all, whatever it is called")
    (tmp_path / "folder.wav").mkdir()
    assert problem_of(tmp_path / "zero.wav") == "empty"
    assert problem_of(tmp_path / "header_only.wav") == "empty"
    assert problem_of(tmp_path / "text.wav") == "unreadable"
    assert problem_of(tmp_path / "folder.wav") == "unreadable"
    assert problem_of(tmp_path / "absent.wav") == "unreadable"
    with pytest.raises(AudioError, match="Format not recognised"):  # libsndfile's own words
        read_audio(tmp_path / "text.wav")


@pytest.mark.parametrize("start, num_samples", [(-1, 10), (0, 0), (5, -1)])
def test_ranges_that_are_none(tmp_path, start, num_samples):
    path = write(tmp_path / "a.wav", noise(1000))
    with pytest.raises(ValueError, match="start >= 0"):
        read_audio(path, start, num_samples)


def test_only_silence_is_silent():
    signal = np.zeros(100, dtype=np.float32)
    with pytest.raises(AudioError, match="a.wav: silent"):
        check_signal(signal, "a.wav")
    with pytest.raises(AudioError, match="a.wav: silent"):
        check_signal(signal[:0], "a.wav")
    signal[50] = 2**-15
    check_signal(signal, "a.wav")


def test_an_audio_error_crosses_process_borders():
    # multiprocessing pickles exceptions; torch's loader builds them anew from their message alone
    error = pickle.loads(pickle.dumps(AudioError("a.wav: silent", "silent")))
    assert (str(error), error.problem) == ("a.wav: silent", "silent")
    assert str(AudioError("message")) == "message"
