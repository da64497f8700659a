"""What short, noisy, coded, clipped and faint recordings cost:
the table behind the rules of verify/quality.py.

    python benchmarks/quality.py DATA --model campplus

DATA/<corpus>/wav/<speaker>/<session>/<file>, DATA/<corpus>/speakers.tsv (speaker, split),
DATA/noise/wav. Training speakers only: the rules are chosen by this table. Every pair of files
of different or equal speakers is one trial; "one side" leaves the other file as it was.
Intervals resample speakers.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from alpha_sv.data.audio import read_audio
from alpha_sv.metrics import speaker_bootstrap
from alpha_sv.verify.model import load_model
from alpha_sv.verify.quality import measure

RATE = 16000
Change = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, int]]


def shortened(seconds: float) -> Change:
    """The `seconds` around the middle of the energy."""

    def change(wave: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, int]:
        energy = np.cumsum(wave**2)
        middle = int(np.searchsorted(energy, energy[-1] / 2))
        wanted = round(seconds * RATE)
        start = min(max(0, middle - wanted // 2), max(0, len(wave) - wanted))
        return wave[start : start + wanted], RATE

    return change


def noisy(snr: float, clips: list[np.ndarray] | None = None) -> Change:
    """White noise, or a clip at random, at so many dB below the recording."""

    def change(wave: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, int]:
        noise = draw.standard_normal(len(wave)) if clips is None else clips[draw.integers(len(clips))]
        noise = np.resize(noise, len(wave))
        gain = np.sqrt(np.mean(wave**2) / max(np.mean(noise**2), 1e-12)) * 10 ** (-snr / 20)
        mixed = wave + gain * noise
        return mixed / max(1.0, np.abs(mixed).max()), RATE

    return change


def telephone(wave: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, int]:
    """8 kHz, G.711 µ-law."""
    coded = io.BytesIO()
    soundfile.write(coded, resample_poly(wave, 1, 2), 8000, format="WAV", subtype="ULAW")
    coded.seek(0)
    return soundfile.read(coded)[0], 8000


def clipped(share: float) -> Change:
    """So much gain that this share of the samples is at full scale."""

    def change(wave: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, int]:
        return np.clip(wave / max(np.quantile(np.abs(wave), 1 - share), 1e-6), -1, 1), RATE

    return change


def faint(level: float) -> Change:
    """An RMS of `level` dB, rounded to 16 bits."""

    def change(wave: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, int]:
        wave = wave / np.sqrt(np.mean(wave**2)) * 10 ** (level / 20)
        return np.round(wave * 32768) / 32768, RATE

    return change


def conditions(noise: Path) -> dict[str, Change]:
    clips = [read_audio(path) for path in sorted(noise.rglob("*.flac"))]
    return {
        "as recorded": lambda wave, _: (wave, RATE),
        **{f"{seconds:g} s": shortened(seconds) for seconds in (3, 2, 1, 0.5, 0.3)},
        **{f"white noise, {snr} dB": noisy(snr) for snr in (20, 10, 5, 0)},
        **{f"other noise, {snr} dB": noisy(snr, clips) for snr in (10, 5, 0)},
        "telephone (8 kHz, µ-law)": telephone,
        **{f"{share:.0%} clipped": clipped(share) for share in (0.01, 0.05, 0.2)},
        **{f"{level} dB in 16 bits": faint(level) for level in (-50, -60, -70)},
    }


def error_rates(one: np.ndarray, other: np.ndarray, speakers: np.ndarray) -> str:
    """EER with its interval of all pairs i < j between two conditions [N, D] of the same files."""
    one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
    i, j = np.triu_indices(len(one), 1)
    found = speaker_bootstrap((one @ other.T)[i, j], speakers[i], speakers[j], speakers[i] == speakers[j], 200)
    low, high = found.intervals()["eer"]
    return f"{100 * found.observed[0, found.metrics.index('eer')]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="campplus")
    parser.add_argument("--corpus", default="speechocean762")
    parser.add_argument("--speakers", type=int, default=60)
    parser.add_argument("--files", type=int, default=4, help="of each speaker")
    a = parser.parse_args()
    draw = random.Random(0)
    with open(a.data / a.corpus / "speakers.tsv", newline="", encoding="utf-8") as file:
        names = sorted(row["speaker"] for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train")
    chosen = sorted(draw.sample(names, min(a.speakers, len(names))))
    waves, speakers = [], []
    for speaker in chosen:
        files = sorted(path for path in (a.data / a.corpus / "wav" / speaker).rglob("*") if path.is_file())
        for path in draw.sample(files, min(a.files, len(files))):
            waves.append(read_audio(path).astype(np.float64))
            speakers.append(speaker)
    model = load_model(a.model)
    print(f"{len(waves)} files of {len(chosen)} training speakers of {a.corpus}, {model.name}\n")
    print("| condition | EER, both sides | EER, one side | speech | level | clipped | bandwidth | SNR |")
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    clean = None
    for name, change in conditions(a.data / "noise").items():
        random_numbers = np.random.default_rng(0)
        changed = [change(wave, random_numbers) for wave in waves]
        rate = changed[0][1]
        vectors = model.embed([wave.astype(np.float32) for wave, _ in changed], rate)
        clean = vectors if clean is None else clean
        seen = [measure(*pair) for pair in changed]
        kinds = ("speech_seconds", "level", "clipped", "bandwidth", "snr")
        speech, level, cut, band, snr = (np.median([getattr(quality, kind) for quality in seen]) for kind in kinds)
        both, one = (error_rates(side, vectors, np.array(speakers)) for side in (vectors, clean))
        cells = f"{speech:.2f} s | {level:.0f} dB | {cut:.1%} | {band:.0f} Hz | {snr:.0f} dB"
        print(f"| {name} | {both} | {one} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
