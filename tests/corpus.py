"""A tiny speaker tree for tests: each speaker a different harmonic voice, each utterance its own noise."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def voice(speaker: int, utterance: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng((speaker, utterance))
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 90 + 23 * speaker + rng.normal(0, 1.5)
    formant = 500 + 170 * speaker
    harmonics = np.arange(1, 20)
    gains = np.exp(-(((harmonics * pitch - formant) / 400) ** 2)) + 0.05
    wave = (gains * np.sin(2 * np.pi * pitch * harmonics * time[:, None] + rng.uniform(0, 6, len(harmonics)))).sum(1)
    return (0.1 * wave / np.abs(wave).max() + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def make_tree(folder: Path, speakers: int = 6, utterances: int = 6, seconds=(0.8, 1.0, 1.37)) -> Path:
    """<folder>/wav/spk<i>/<session>/<utterance>.wav, and trials.txt over the last two speakers."""
    for speaker in range(speakers):
        for utterance in range(utterances):
            path = folder / "wav" / f"spk{speaker}" / f"s{utterance % 2}" / f"{utterance:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(speaker, utterance, seconds[utterance % len(seconds)]), RATE)
    names = [(s, f"spk{s}/s{u % 2}/{u:02d}.wav") for s in (speakers - 2, speakers - 1) for u in range(utterances)]
    lines = [f"{int(a == b)} {x} {y}" for i, (a, x) in enumerate(names) for b, y in names[i + 1 :]]
    (folder / "trials.txt").write_text("\n".join(lines) + "\n")
    for name, maker in (("noise", lambda r: 0.1 * r.standard_normal(RATE * 2)), ("rir", _rir)):
        (folder / name).mkdir()
        soundfile.write(folder / name / "0.wav", maker(np.random.default_rng(0)), RATE)
    return folder


def _rir(rng):
    return 0.5 * np.exp(-np.arange(2000) / 300) * rng.standard_normal(2000)
