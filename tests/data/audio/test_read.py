import os
import pickle
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.data.audio.containers import uncounted
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


CODECS = [
    *(("wav", subtype) for subtype in soundfile.available_subtypes("WAV") if subtype != "MPEG_LAYER_III"),
    *(("flac", "PCM_16"), ("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III"), ("au", "G723_24")),
]


@pytest.mark.parametrize("extension, subtype", CODECS)
def test_a_crop_is_the_slice_of_the_whole(tmp_path, extension, subtype):
    """Codecs with a state, and those of them that cannot seek (GSM 6.10, G.721), included."""
    path = write(tmp_path / f"a.{extension}", noise(24000), subtype=subtype)
    length = read_header(path)[0]
    with soundfile.SoundFile(path) as file:
        whole = file.read(length, dtype="float32")
    assert length >= 24000 and len(whole) == length
    assert np.array_equal(read_audio(path), whole)
    # the last page of Vorbis is where libsndfile's own seek goes astray
    for start, count in ((1, 1), (7777, 5000), (23990, 10), (12000, 12000), (length - 3, 3)):
        assert np.array_equal(read_audio(path, start, count), whole[start : start + count])


@pytest.mark.parametrize("extension", ["ogg", "mp3"])
def test_a_crop_far_into_a_long_file_is_the_slice_of_the_whole(tmp_path, extension):
    path = write(tmp_path / f"a.{extension}", noise(60 * 4000), rate=4000 if extension == "ogg" else 8000)
    rate, whole = read_header(path)[1], soundfile.read(path, dtype="float32")[0]
    for start in (len(whole) - 1000, len(whole) - 20000):
        crop = read_audio(path, start, 1000, sample_rate=rate)
        np.testing.assert_allclose(crop, whole[start : start + 1000], atol=1e-6)


def test_wav_samples_survive_exactly(tmp_path):
    counts = np.random.default_rng(0).integers(-(2**15), 2**15, 5000).astype(np.int16)
    assert np.array_equal(read_audio(write(tmp_path / "a.wav", counts)) * 2**15, counts)


@pytest.mark.parametrize("extension", ["flac", "opus"])
def test_files_longer_than_a_block_are_read_whole(tmp_path, extension):
    path = write(tmp_path / f"a.{extension}", noise(270_001))
    blocks = list(read_blocks(path))
    assert len(blocks) > 1 and max(map(len, blocks)) < 270_000
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


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_broken_off_download_is_an_error_not_a_shorter_recording(tmp_path, extension, kept):
    # libsndfile reads a cut wav or Vorbis file without complaint,
    # as if the speaker had stopped there
    content = write(tmp_path / f"whole.{extension}", noise(50000)).read_bytes()
    cut = tmp_path / f"cut.{extension}"
    cut.write_bytes(content[: int(kept * len(content))])
    assert problem_of(cut) == "truncated"
    if extension != "flac" and (extension, kept) != (
        "mp3",
        0.999,
    ):  # whose header is all there is to see without decoding
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
    # the writer cannot go back to fill in the length,
    # and leaves a huge one: ffmpeg 2^32 - 1, sox 2^31 - 4096
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


def uncounted_of(path):
    with open(path, "rb") as file:
        return uncounted(file, path.stat().st_size)


@pytest.mark.parametrize("options", [{}, {"subtype": "FLOAT"}, {"format": "RF64"}, {"format": "WAVEX"}])
def test_a_wav_header_that_counts_too_few_samples(tmp_path, options):
    content = bytearray(write(tmp_path / "a.wav", noise(8001), **options).read_bytes())
    where = content.index(b"ds64") + 16 if options.get("format") == "RF64" else content.index(b"data") + 4
    samples = 8001 * (4 if "subtype" in options else 2)
    assert uncounted_of(tmp_path / "a.wav") == ""
    for counted in (4000, samples - 8):
        content[where : where + 4] = struct.pack("<I", counted)
        (tmp_path / "b.wav").write_bytes(content)
        assert uncounted_of(tmp_path / "b.wav").endswith(" bytes")


@pytest.mark.parametrize("samples, rate", [(8001, 16000), (4096 * 200, 44100), (4096, 16000), (100, 11025)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_header_that_counts_too_few_samples(tmp_path, samples, rate, channels):
    content = bytearray(write(tmp_path / "a.flac", noise(samples, channels=channels), rate=rate).read_bytes())
    assert uncounted_of(tmp_path / "a.flac") == ""
    for counted in (1, samples // 2, samples - 1):
        content[21] = content[21] & 0xF0
        content[22:26] = struct.pack(">I", counted)
        (tmp_path / "b.flac").write_bytes(content)
        assert uncounted_of(tmp_path / "b.flac") == f"{samples - counted} samples"


@pytest.mark.parametrize("extension", ["wav", "ogg", "opus", "mp3"])
def test_two_files_in_one_are_not_one_recording(tmp_path, extension):
    one = write(tmp_path / f"a.{extension}", noise(20000))
    (tmp_path / f"b.{extension}").write_bytes(2 * one.read_bytes())
    assert uncounted_of(one) == "" and uncounted_of(tmp_path / f"b.{extension}") != ""


def test_tags_and_padding_behind_the_samples_are_no_finding(tmp_path):
    wav, mp3 = (write(tmp_path / f"a.{kind}", noise(8001)).read_bytes() for kind in ("wav", "mp3"))
    comment = b"LIST" + struct.pack("<I", 26) + b"INFOICMT" + struct.pack("<I", 14) + b"said on Monday"
    for number, content in enumerate(
        (wav + comment, wav + bytes(4096), wav + b"TAG" + bytes(125), mp3 + b"TAG" + bytes(125), mp3 + bytes(5000))
    ):
        (tmp_path / str(number)).write_bytes(content)
        assert uncounted_of(tmp_path / str(number)) == ""
    tagged = tmp_path / "tagged.mp3"
    tagged.write_bytes(b"ID3\4\0\0\0\0\2\0" + bytes(256) + mp3)
    assert uncounted_of(tagged) == "" and np.array_equal(read_audio(tagged), read_audio(tmp_path / "a.mp3"))


def test_chunks_and_tags_without_end_are_no_trap(tmp_path):
    wav, mp3 = tmp_path / "a.wav", tmp_path / "a.mp3"
    content = write(wav, noise(100)).read_bytes()
    wav.write_bytes(content + 20_000 * b"LIST\0\0\0\0")
    assert uncounted_of(wav) == "" and len(read_audio(wav)) == 100
    mp3.write_bytes(20_000 * b"ID3\4\0\0\0\0\0\0")
    assert problem_of(mp3) == "unreadable"


def test_a_path_that_libsndfile_finds_too_long(tmp_path):
    deep = tmp_path.joinpath(*9 * ["d" * 200])
    deep.mkdir(parents=True)
    (deep / "a.wav").symlink_to(write(tmp_path / "a.wav", noise(100)))
    assert len(read_audio(deep / "a.wav")) == 100


def test_a_folder_a_pipe_and_a_name_that_is_not_unicode(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="pipe.wav: a folder, pipe or device"):
        read_header(tmp_path / "pipe.wav")
    odd = os.fsencode(tmp_path) + b"/\xff\n.wav"
    os.rename(write(tmp_path / "a.wav", noise(100)), odd)
    assert len(read_audio(os.fsdecode(odd))) == 100
    with pytest.raises(AudioError, match="no such file"):
        read_header("/a\0b.wav")


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("alpha_sv.data.audio.read.open_bytes", refuse)  # root may open everything
    with pytest.raises(AudioError, match="a.wav: unreadable: Permission denied"):
        read_header(write(tmp_path / "a.wav", noise(100)))


@pytest.mark.parametrize("examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "raw", "w64", "caf"])
def test_a_damaged_file_is_read_or_is_an_audio_error(tmp_path, extension, examples):
    path = tmp_path / f"a.{extension}"
    if extension == "raw":
        whole = bytes(3000)
    else:
        whole = write(path, noise(3000)).read_bytes()

    @settings(max_examples=examples, deadline=None)
    @given(st.data())
    def damage(data):
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 6))):
            place = data.draw(st.integers(0, min(len(content) - 1, 200)) | st.integers(0, len(content) - 1))
            new = data.draw(st.binary(max_size=8))
            kind = data.draw(st.sampled_from(("change", "insert", "cut")))
            content[place : len(content) if kind == "cut" else place + len(new) * (kind == "change")] = new
            if len(content) < 2:
                break
        path.write_bytes(content)
        try:
            num_samples, rate, channels = read_header(path)
            with open(path, "rb") as file:
                uncounted(file, len(content))
            if num_samples < 10**7:
                assert read_audio(path, sample_rate=rate).shape == (num_samples,)
                assert read_audio(path, num_samples - 1, 1, rate).shape == (1,)
        except AudioError as error:
            assert str(path) in str(error)

    damage()
