"""VoxCeleb1 and VoxCeleb2 in small: folders, names and lists as they are published, with synthetic voices."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from tests.corpus import RATE, voice

TEST = tuple(f"id{number}" for number in range(10270, 10280))  # of VoxCeleb1-O; an interval needs ten speakers
DEV = ("id10001", "id10002", "id10003", "id10004", "id11251")  # VoxCeleb1 dev, which E and H test too
VOX2 = tuple(f"id{number:05d}" for number in (12, 15, 16, 18, 19, 20, 22, 23, 24, 25, 26, 9272))  # VoxCeleb2 dev
VOX2_TEST = ("id00017", "id00061")
LISTS = {"veri_test2.txt": TEST, "list_test_all2.txt": TEST + DEV, "list_test_hard2.txt": TEST[:2] + DEV}
VIDEOS = ("5r0dWxy17C8", "_CJ7LWzyV6k")


def make_corpora(folder: Path, audio: str) -> Path:
    """voxceleb1/, voxceleb2/, the trial lists, musan/ and rirs/ in `folder`.

    Parameters
    ----------
    audio : {"m4a", "wav"}
        VoxCeleb2 as it comes (made with ffmpeg), with its test half, beside VoxCeleb1 in one folder; or converted by
        somebody else, beside VoxCeleb1 in two halves.
    """
    halves = ("wav", "wav") if audio == "m4a" else ("dev/wav", "test/wav")
    for half, speakers in zip(halves, (DEV, TEST), strict=True):
        _speakers(folder / "voxceleb1" / half, speakers, 2)
    kind = "aac" if audio == "m4a" else "wav"
    _speakers(folder / "voxceleb2/dev" / kind, VOX2, 3, f".{audio}")
    _speakers(folder / "voxceleb2/test" / kind, VOX2_TEST, 1, f".{audio}")
    for name, speakers in LISTS.items():
        (folder / name).write_text("".join(f"{line}\n" for line in _trials(speakers)))
    rng = np.random.default_rng(0)
    (folder / "musan/noise").mkdir(parents=True)
    soundfile.write(folder / "musan/noise/0.wav", 0.1 * rng.standard_normal(2 * RATE), RATE)
    (folder / "rirs").mkdir()
    soundfile.write(folder / "rirs/0.wav", 0.5 * np.exp(-np.arange(2000) / 300) * rng.standard_normal(2000), RATE)
    return folder


def _speakers(folder: Path, speakers: tuple[str, ...], takes: int, extension: str = ".wav") -> None:
    """<folder>/<speaker>/<video>/00001<extension>, `takes` of each of two videos."""
    for speaker in speakers:
        encode, outputs, waves = ["ffmpeg", "-v", "error"], [], []
        for video, take in itertools.product(VIDEOS, range(1, takes + 1)):
            path = folder / speaker / video / f"{take:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound(speaker, video, take), RATE)
            encode += ["-i", path]
            outputs += ["-map", str(len(waves)), "-c:a", "aac", "-b:a", "64k", path.with_suffix(extension)]
            waves.append(path)
        if extension == ".m4a":
            subprocess.run(encode + outputs, check=True)
            for path in waves:
                path.unlink()


def sound(speaker: str, video: str, take: int) -> np.ndarray:
    """What a file holds, float32 [T]; no two of the speakers here have the same voice."""
    return voice(int(speaker[2:]) % 40, 10 * VIDEOS.index(video) + take, (0.8, 1.1, 1.37)[take % 3])


def _trials(speakers: tuple[str, ...]) -> list[str]:
    """`1 id10270/5r0dWxy17C8/00001.wav id10270/_CJ7LWzyV6k/00002.wav`: every pair, as veri_test2.txt writes one."""
    names = [f"{s}/{video}/{take:05d}.wav" for s in speakers for video in VIDEOS for take in (1, 2)]
    return [f"{int(a[:7] == b[:7])} {a} {b}" for a, b in itertools.combinations(names, 2)]
