import os
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from alpha_sv.data.corpus import convert
from alpha_sv.data.corpus.convert import FAILURES, convert_file, convert_tree, m4a_seconds
from tests.fixtures.replaced import set_sizes

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (apt install ffmpeg)")

FAKE = """#!/bin/sh
# writes a second of silence to its last argument; fails for sources whose name holds 'bad'
echo "$@" >> "$FAKE_LOG"
for last; do :; done
case "$*" in *bad*) echo "no AAC here" >&2; exit 3;; esac
cp "$FAKE_WAV" "$last"
"""


def box(kind, content=b""):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def m4a(seconds=1.0, version=0, mdat=100):
    """The boxes of an m4a file around no sound at all."""
    times = struct.pack(">BxxxIIII" if version == 0 else ">BxxxQQIQ", version, 0, 0, 1000, round(1000 * seconds))
    return box(b"ftyp", b"M4A ") + box(b"moov", box(b"mvhd", times + bytes(80))) + box(b"mdat", bytes(mdat))


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "dev/aac"
    for speaker in ("id00012", "id00015"):
        for number in range(3):
            path = root / speaker / "video" / f"{number:05d}.m4a"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(m4a())
            os.utime(path, (1.5e9, 1.5e9))
    return root


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A fake ffmpeg; a function that says how often it ran since it was last asked."""
    (tmp_path / "bin").mkdir()
    script, log, wav = (tmp_path / "bin" / name for name in ("ffmpeg", "log", "second.wav"))
    script.write_text(FAKE)
    script.chmod(0o755)
    soundfile.write(wav, np.zeros(16000), 16000)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setenv("FAKE_WAV", str(wav))

    def count():
        number = len(log.read_text().splitlines()) if log.exists() else 0
        log.write_text("")
        return number

    return count


def test_every_file_is_converted_once(tmp_path, source, runs):
    target = tmp_path / "dev/wav"
    assert convert_tree(source, target, progress=False) == 6 and runs() == 6
    assert len(list(target.rglob("*.wav"))) == 6 and not list(target.rglob("*.part"))
    assert soundfile.info(target / "id00012/video/00000.wav").frames == 16000
    assert convert_tree(source, target, progress=False) == 0 and runs() == 0


def test_an_interrupted_conversion_goes_on(tmp_path, source, runs):
    target = tmp_path / "dev/wav"
    convert_tree(source, target, progress=False)
    runs()
    (target / "id00012/video/00001.wav").unlink()
    (target / "id00015/video/00000.wav").write_bytes(b"")  # renamed, but its data never reached the disk
    (target / "id00015/video/.00000.wav.77.part").write_bytes(b"RIFF")  # of a process that was killed
    assert convert_tree(source, target, progress=False) == 2 and runs() == 2
    assert soundfile.info(target / "id00015/video/00000.wav").frames == 16000


def test_a_file_of_another_source_is_neither_kept_nor_overwritten(tmp_path, source, runs):
    target = tmp_path / "dev/wav"
    convert_tree(source, target, progress=False)
    os.utime(source / "id00012/video/00002.m4a", (1.6e9, 1.6e9))
    before = (target / "id00012/video/00002.wav").stat()
    with pytest.raises(ValueError, match=r"1 of the 6 files .*00002\.wav.*another folder"):
        convert_tree(source, target, progress=False)
    assert (target / "id00012/video/00002.wav").stat() == before


def test_a_file_that_fails_does_not_stop_the_others(tmp_path, source, runs):
    target = tmp_path / "dev/wav"
    bad = source / "id00012/video/bad.m4a"
    bad.write_bytes(m4a())
    (source / "id00015/video/00001.m4a").write_bytes(m4a()[:-1])
    with pytest.raises(ValueError, match=r"2 of 7 files .*bad\.m4a: ffmpeg fails \(no AAC here\).*conversion_failures"):
        convert_tree(source, target, progress=False)
    assert len(list(target.rglob("*.wav"))) == 5 and not list(target.rglob("*.part"))
    listed = (target / FAILURES).read_text().splitlines()
    assert len(listed) == 2 and "00001.m4a: truncated: 1 bytes missing" in listed[1]
    runs()
    bad.unlink()
    (source / "id00015/video/00001.m4a").write_bytes(m4a())
    assert convert_tree(source, target, progress=False) == 1 and runs() == 1
    assert not (target / FAILURES).exists()


def test_when_nothing_at_all_converts_it_stops(tmp_path, source, runs, monkeypatch):
    set_sizes(monkeypatch, convert, SLAB=3)
    for path in source.rglob("*.m4a"):
        path.rename(path.with_name("bad" + path.name))
    with pytest.raises(ValueError, match="3 of 6 files were not converted"):
        convert_tree(source, tmp_path / "dev/wav", progress=False)


def test_less_sound_than_promised_is_damage(tmp_path, source, runs):
    path = source / "id00012/video/00000.m4a"
    path.write_bytes(m4a(seconds=1.4))  # priming samples may lack
    convert_file(path, tmp_path / "a.wav")
    path.write_bytes(m4a(seconds=1.6))
    with pytest.raises(ValueError, match=r"damaged: ffmpeg wrote 1\.00 s at 16000 Hz in 1 channels.*promises 1\.60 s"):
        convert_file(path, tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists() and not list(tmp_path.glob(".*"))


def test_without_ffmpeg_there_is_a_remedy_and_none_is_needed_when_all_is_done(tmp_path, source, runs, monkeypatch):
    convert_tree(source, tmp_path / "dev/wav", progress=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"ffmpeg is not on the PATH, and 6 \.m4a .*apt install.*conda.*brew"):
        convert_tree(source, tmp_path / "dev/other", progress=False)
    assert convert_tree(source, tmp_path / "dev/wav", progress=False) == 0


def test_an_unknown_format(tmp_path, source):
    with pytest.raises(ValueError, match="one of wav, flac, got 'mp3'"):
        convert_tree(source, tmp_path / "x", "mp3")


@pytest.mark.parametrize("version", [0, 1])
def test_the_length_is_in_the_boxes(tmp_path, version):
    (tmp_path / "a.m4a").write_bytes(m4a(4.25, version))
    assert m4a_seconds(tmp_path / "a.m4a") == 4.25
    big = m4a(4.25, version)[: -8 - 100] + struct.pack(">I4sQ", 1, b"mdat", 16 + 100) + bytes(100)  # a 64-bit length
    (tmp_path / "a.m4a").write_bytes(big)
    assert m4a_seconds(tmp_path / "a.m4a") == 4.25


def test_every_cut_is_found_but_between_boxes_at_the_end(tmp_path):
    whole, path = m4a(), tmp_path / "a.m4a"
    for length in range(len(whole) - 108):  # up to the beginning of mdat, and then within it
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.m4a: (truncated|no MPEG-4)"):
            m4a_seconds(path)
    for length in range(len(whole) - 100, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"truncated: {len(whole) - length} bytes"):
            m4a_seconds(path)


@pytest.fixture
def speech(tmp_path):
    def encode(name, seconds=3.0, rate=16000, *options):
        time = np.arange(int(seconds * rate)) / rate
        soundfile.write(tmp_path / "in.wav", 0.3 * np.sin(2 * np.pi * 440 * time), rate)
        command = ["ffmpeg", "-v", "error", "-y", "-i", tmp_path / "in.wav", "-c:a", "aac", *options, tmp_path / name]
        subprocess.run(command, check=True)
        return tmp_path / name

    return encode


@needs_ffmpeg
@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_real_m4a_becomes_16_khz_mono_16_bit(tmp_path, speech, audio_format):
    path = speech("a.m4a", 3.0, 44100, "-ac", "2")
    output = tmp_path / f"a.{audio_format}"
    convert_file(path, output, audio_format)
    found, (signal, _) = soundfile.info(output), soundfile.read(output)
    assert (found.samplerate, found.channels, found.subtype) == (16000, 1, "PCM_16")
    assert found.frames == pytest.approx(3 * 16000, abs=2500)
    spectrum = np.abs(np.fft.rfft(signal[8000:40000]))
    assert np.argmax(spectrum) * 16000 / 32000 == pytest.approx(440, abs=1)
    assert output.stat().st_mtime == pytest.approx(path.stat().st_mtime, abs=1e-3)


@needs_ffmpeg
def test_both_formats_hold_the_same_samples_and_the_same_bytes_each_time(tmp_path, speech):
    path = speech("a.m4a")
    for name in ("a.wav", "b.wav", "a.flac"):
        convert_file(path, tmp_path / name, name[2:])
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav")[0], soundfile.read(tmp_path / "a.flac")[0])


@needs_ffmpeg
@pytest.mark.parametrize("options", [(), ("-movflags", "+faststart")], ids=["index-last", "index-first"])
def test_a_half_download_is_found_though_ffmpeg_may_take_it(tmp_path, speech, options):
    path = speech("a.m4a", 3.0, 16000, *options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="truncated"):
        convert_file(path, tmp_path / "a.wav")
    assert not (tmp_path / "a.wav").exists()


@needs_ffmpeg
@pytest.mark.parametrize("harm", ["text", "zeros"])
def test_damage_within_is_found(tmp_path, speech, harm):
    path = speech("a.m4a", 3.0, 16000, "-movflags", "+faststart")
    content = bytearray(path.read_bytes())
    if harm == "text":
        content = b"<html>404 not found</html>" * 20
    else:
        middle = len(content) * 2 // 3
        content[middle : middle + 1500] = bytes(1500)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no MPEG-4" if harm == "text" else "damaged|fails"):
        convert_file(path, tmp_path / "a.wav")
