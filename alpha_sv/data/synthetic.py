"""The demo corpus: speakers, sessions and a trial list made from nothing but a seed.

`build_corpus` writes a small VoxCeleb: synthetic speakers (`synthetic_voices`), each recorded in
several sessions, and trials between speakers never heard in training. What makes verification hard
is there. A session has its own channel, noise, level, tempo and mood, so that the same speaker
sounds different across sessions, and target trials always cross sessions. The channel is drawn
without looking at the speaker, so it says nothing about who speaks.

    <folder>/wav/<speaker>/<session>/<utterance>.flac     16 bit mono
    <folder>/trials.txt                                   `label enroll test`, paths relative to <folder>/wav
    <folder>/noise/*.flac, rir/*.flac                     for training augmentation
    <folder>/speakers.tsv, corpus.json                    who they are; the parameters and versions

Every random number comes from a generator keyed by (seed, purpose, speaker, session, utterance): a
file is the same bytes however many workers run, and whichever files exist already.

The speech comes from espeak-ng, which is under the GPL: an optional installed package, no part of this one.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from scipy import fft
from tqdm import tqdm

from alpha_sv.data import synthetic_voices as voices
from alpha_sv.data.files import atomic_write

_FORMAT = "alpha_sv.synthetic/1"  # raise the number whenever the same parameters would give other files
_VOICE, _DRIFT, _CHANNEL, _NOISE, _BABBLE, _CLIP, _RIR, _TEXT, _TRIALS = range(9)
_NOISES = ("white", "pink", "brown", "hum", "babble")
_CHANNELS = ("flat", "telephone", "muffled", "bright", "boxy")
_OCTAVES = np.array([62.5, 125, 250, 500, 1000, 2000, 4000, 8000])  # Hz, knots of a channel's gain curve
_CLIPS_PER_NOISE, _NUM_RIRS = 4, 20
_NONTARGETS_PER_TARGET = 10


def build_corpus(
    folder: str | os.PathLike,
    num_train_speakers: int = 60,
    num_test_speakers: int = 20,
    utterances_per_speaker: int = 20,
    sessions_per_speaker: int = 4,
    seed: int = 1234,
    sample_rate: int = 16000,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the corpus in `folder`, or finish it, or find it complete; the result is the same bytes.

    Parameters
    ----------
    folder : path-like
        New, empty, or holding this very corpus, whole or in part. Nothing else is ever overwritten.
    sessions_per_speaker : int
        At least 2; utterances go round the sessions.
    sample_rate : int
        Hz, 8000 to 48000 (espeak-ng itself has nothing above 11 kHz).
    workers : int, optional
        Processes; one per available core if None.

    Returns
    -------
    Path
        `folder`. Speakers ``spk000`` and on are for training, the last `num_test_speakers` for the trials.

    Raises
    ------
    ImportError
        If `espeakng-loader` is not installed and something is missing from the folder.
    ValueError
        If a parameter is out of range, or `folder` holds something else.

    Example
    -------
    >>> folder = build_corpus("data/demo")  # doctest: +SKIP
    """
    parameters = _Parameters(
        num_train_speakers, num_test_speakers, utterances_per_speaker, sessions_per_speaker, seed, sample_rate
    )
    folder = Path(folder).absolute()
    _check_folder(folder, parameters)
    missing = [job for job in _jobs(folder, parameters) if not job[0].exists()]
    others = [folder / name for name in ("trials.txt", "speakers.tsv", "corpus.json")]
    if not missing and all(path.exists() for path in others):
        return folder

    description = {"format": _FORMAT, "parameters": dataclasses.asdict(parameters), "versions": _versions()}
    _check_engine(folder, description)
    _write_json(folder / "corpus.part.json", description)
    _run(missing, parameters, workers, progress)
    with atomic_write(folder / "speakers.tsv") as file:
        file.writelines(_speaker_lines(parameters))
    with atomic_write(folder / "trials.txt") as file:
        file.writelines(f"{label} {enroll} {test}\n" for label, enroll, test in _trials(parameters))
    _write_json(folder / "corpus.json", description)
    (folder / "corpus.part.json").unlink(missing_ok=True)
    return folder


@dataclasses.dataclass(frozen=True, slots=True)
class _Parameters:
    """What decides the bytes of the corpus."""

    num_train_speakers: int
    num_test_speakers: int
    utterances_per_speaker: int
    sessions_per_speaker: int
    seed: int
    sample_rate: int

    def __post_init__(self) -> None:
        lowest = {"num_train_speakers": 1, "num_test_speakers": 2, "sessions_per_speaker": 2, "seed": 0}
        lowest |= {"utterances_per_speaker": self.sessions_per_speaker, "sample_rate": 8000}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"build_corpus: {name} = {getattr(self, name)}; it must be at least {low}")
        if self.sample_rate > 48000:
            raise ValueError(f"build_corpus: sample_rate = {self.sample_rate}; it must be at most 48000")
        if self.num_speakers * self.utterances_per_speaker > voices.NUM_SENTENCES:
            raise ValueError(
                f"build_corpus: more than {voices.NUM_SENTENCES} utterances; ask for fewer speakers"
            )

    @property
    def num_speakers(self) -> int:
        return self.num_train_speakers + self.num_test_speakers


def _read_description(folder: Path) -> tuple[Path, dict] | None:
    found = next((p for n in ("corpus.json", "corpus.part.json") if (p := folder / n).exists()), None)
    if found is None:
        return None
    try:
        return found, json.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{found}: not JSON ({error}); delete the folder and build again") from error


def _check_folder(folder: Path, parameters: _Parameters) -> None:
    """Raise ValueError unless `folder` is new, empty or holds this corpus, whole or in part."""
    read = _read_description(folder)
    if read is None:
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(
                f"{folder}: not empty and not a demo corpus; choose a new folder or empty this one"
            )
        return
    path, old = read
    wanted = {"format": _FORMAT, **dataclasses.asdict(parameters)}
    held = {"format": old.get("format"), **old.get("parameters", {})}
    names = sorted(n for n in held.keys() | wanted.keys() if held.get(n) != wanted.get(n))
    if names:
        clash = ", ".join(f"{n} = {held.get(n)}, wanted {wanted.get(n)}" for n in names)
        raise ValueError(f"{path}: another demo corpus ({clash}); choose another folder or delete {folder}")


def _check_engine(folder: Path, description: dict) -> None:
    """Half a corpus from one espeak-ng is not finished by another."""
    read = _read_description(folder)
    if read is not None:
        old, new = (d.get("versions", {}).get("espeak-ng") for d in (read[1], description))
        if old != new:
            raise ValueError(
                f"{read[0]}: begun with espeak-ng {old}, {new} is installed; delete {folder} and build again"
            )


def _versions() -> dict[str, str]:
    names = ("numpy", "scipy", "soundfile", "espeakng-loader")
    return {"espeak-ng": voices.engine_version()} | {name: version(name) for name in names}


def _write_json(path: Path, content: dict) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def _rng(seed: int, purpose: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def _utterance_path(speaker: int, utterance: int, sessions: int) -> str:
    return f"spk{speaker:03d}/s{utterance % sessions}/u{utterance:02d}.flac"


def _speaker_lines(p: _Parameters) -> list[str]:
    lines = ["speaker\tsplit\taccent\tpitch_hz\ttract\trate_wpm\n"]
    for speaker in range(p.num_speakers):
        voice = voices.draw_voice(_rng(p.seed, _VOICE, speaker))
        split = "train" if speaker < p.num_train_speakers else "test"
        numbers = f"{voice.pitch:.1f}\t{voice.tract:.4f}\t{voice.rate:.1f}"
        lines.append(f"spk{speaker:03d}\t{split}\t{voice.accent}\t{numbers}\n")
    return lines


def _trials(p: _Parameters) -> list[tuple[int, str, str]]:
    """Every cross-session pair of a test speaker; ten times as many nontargets, spread evenly."""
    rng = _rng(p.seed, _TRIALS)
    size, sessions = p.utterances_per_speaker, p.sessions_per_speaker
    speakers = range(p.num_train_speakers, p.num_speakers)
    pairs = [(s, i, s, j) for s in speakers for i in range(size) for j in range(i) if (i - j) % sessions]
    num_targets = len(pairs)
    couples = [(a, b) for a in speakers for b in speakers if a < b]
    each = min(-(-_NONTARGETS_PER_TARGET * num_targets // len(couples)), size * size)
    for a, b in couples:
        pairs += [
            (a, k // size, b, k % size) for k in sorted(rng.choice(size * size, each, replace=False).tolist())
        ]
    swap = rng.random(len(pairs)) < 0.5  # either side may enroll
    trials = []
    for n, (a, i, b, j) in enumerate(pairs):
        sides = _utterance_path(a, i, sessions), _utterance_path(b, j, sessions)
        trials.append((int(n < num_targets), *(sides[::-1] if swap[n] else sides)))
    return [trials[n] for n in rng.permutation(len(trials))]


# One file: a job is (path, kind, key), small enough to send to a worker and enough to make the file.


def _jobs(folder: Path, p: _Parameters) -> list[tuple[Path, str, tuple]]:
    size, sessions = p.utterances_per_speaker, p.sessions_per_speaker
    texts = _rng(p.seed, _TEXT).choice(voices.NUM_SENTENCES, p.num_speakers * size, replace=False).tolist()
    jobs = []
    for n, text in enumerate(texts):
        speaker, utterance = divmod(n, size)
        path = folder / "wav" / _utterance_path(speaker, utterance, sessions)
        jobs.append((path, "speech", (speaker, utterance % sessions, utterance, text)))
    for n in range(_CLIPS_PER_NOISE * len(_NOISES)):
        kind = _NOISES[n % len(_NOISES)]
        jobs.append((folder / "noise" / f"{kind}{n // len(_NOISES)}.flac", "noise", (n, kind)))
    return jobs + [(folder / "rir" / f"rir{n:02d}.flac", "rir", (n,)) for n in range(_NUM_RIRS)]


def _run(jobs: list[tuple[Path, str, tuple]], p: _Parameters, workers: int | None, progress: bool) -> None:
    """Do the jobs in child processes: espeak-ng sets the locale, and a crash in C must not end the caller."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 1:
        raise ValueError(
            f"build_corpus: workers = {workers}; it must be at least 1, or None for one per core"
        )
    # Forked children start at once and do not import the caller's script again; elsewhere, the default.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    chunks = [jobs[n : n + 10] for n in range(0, len(jobs), 10)]
    with (
        tempfile.TemporaryDirectory(prefix="alpha_sv_") as engines,
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        futures = [pool.submit(_do, chunk, engines, p.seed, p.sample_rate) for chunk in chunks]
        try:
            with tqdm(total=len(jobs), desc="demo corpus", unit="file", disable=not progress) as bar:
                for future in concurrent.futures.as_completed(futures):
                    bar.update(future.result())
        except concurrent.futures.process.BrokenProcessPool as error:
            message = "a process of the demo corpus died (memory?); run again, it goes on where it stopped"
            raise RuntimeError(message) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the files begun: their folder goes next
            raise


def _do(jobs: list[tuple[Path, str, tuple]], engines: str, seed: int, sample_rate: int) -> int:
    engine = _engine(engines, os.getpid())
    for path, kind, key in jobs:
        if kind == "speech":
            wave = render(engine, seed, *key, sample_rate=sample_rate)
        elif kind == "noise":
            number, noise = key
            bank = _babble(engine, seed, sample_rate, 1 + number) if noise == "babble" else None
            wave = 0.1 * _noise(_rng(seed, _CLIP, number), noise, 6 * sample_rate, sample_rate, bank)
        else:
            wave = _room(_rng(seed, _RIR, *key), sample_rate)
        _write_flac(path, wave, sample_rate)
    return len(jobs)


@functools.cache
def _engine(engines: str, process: int) -> Path:
    return voices.install_engine(Path(engines) / str(process))


def _write_flac(path: Path, wave: np.ndarray, sample_rate: int) -> None:
    samples = np.round(32767 * wave * min(1.0, 0.98 / np.abs(wave).max())).astype(np.int16)
    with io.BytesIO() as buffer, atomic_write(path, "wb") as file:
        soundfile.write(buffer, samples, sample_rate, format="FLAC", subtype="PCM_16")
        file.write(buffer.getvalue())


# The world between the mouth and the file.


def render(
    engine: Path,
    seed: int,
    speaker: int,
    session: int,
    utterance: int,
    text: int,
    sample_rate: int,
    clean: bool = False,
) -> np.ndarray:
    """One utterance, float64 [T]; `clean` leaves out room, noise, channel and level, but not the mood."""
    mood = _rng(seed, _DRIFT, speaker, session)
    voice = voices.draw_voice(_rng(seed, _VOICE, speaker))
    voice = dataclasses.replace(
        voice,
        rate=voice.rate * mood.uniform(0.85, 1.15),
        pitch=voice.pitch * np.exp(np.clip(mood.normal(0, 0.05), -0.1, 0.1)),
        pitch_span=voice.pitch_span * np.exp(mood.normal(0, 0.05)),
        tilt=tuple(float(t) for t in np.clip(np.array(voice.tilt) + mood.normal(0, 15, size=4), 40, 255)),
    )
    wave = voices.speak(engine, voice, voices.sentence(text), sample_rate).astype(np.float64)
    if clean:
        return wave
    bank = _babble(engine, seed, sample_rate, 0)
    own = _rng(seed, _NOISE, speaker, session, utterance)
    return _record(wave, _rng(seed, _CHANNEL, speaker, session), own, sample_rate, bank)


def _record(
    wave: np.ndarray,
    session: np.random.Generator,
    own: np.random.Generator,
    sample_rate: int,
    bank: np.ndarray,
) -> np.ndarray:
    """Room, noise, gain curve of the device, level. `session` draws what all its utterances share."""
    kind = _CHANNELS[session.integers(len(_CHANNELS))]
    noise = _NOISES[session.integers(len(_NOISES))]
    snr = session.uniform(5, 30)
    level = session.uniform(-32, -18)
    curve = _gain_curve(session, kind)
    reverberant = session.random() < 0.5
    room = _room(session, sample_rate)

    count = fft.next_fast_len(len(wave) + len(room), real=True)
    if reverberant:
        wave = fft.irfft(fft.rfft(wave, count) * fft.rfft(room, count), count)[: len(wave)]
    snr += own.uniform(-2, 2)
    wave = wave / _rms(wave) + 10 ** (-snr / 20) * _noise(own, noise, len(wave), sample_rate, bank)
    gain = np.interp(np.log2(np.maximum(fft.rfftfreq(count, 1 / sample_rate), 20)), np.log2(_OCTAVES), curve)
    wave = fft.irfft(fft.rfft(wave, count) * 10 ** (gain / 20), count)[: len(wave)]
    return wave * 10 ** ((level + own.uniform(-1, 1)) / 20) / _rms(wave)


def _gain_curve(rng: np.random.Generator, kind: str) -> np.ndarray:
    """dB at `_OCTAVES`: the shape of the kind of channel, plus what no two devices share."""
    #        Hz:     62  125  250  500  1k   2k   4k   8k
    shape = {
        "flat": [-3, 0, 0, 0, 0, 0, 0, 0],
        "telephone": [-45, -30, -6, 0, 1, 2, -12, -50],
        "muffled": [2, 3, 3, 1, 0, -7, -16, -26],
        "bright": [-18, -12, -6, -2, 0, 4, 8, 9],
        "boxy": [-15, -6, 3, 8, 3, -4, -6, -12],
    }[kind]
    return np.array(shape) + np.clip(rng.normal(0, 3, size=len(shape)), -7, 7)


def _room(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """A room: the direct sound, then noise that loses 60 dB in the reverberation time (Polack's model)."""
    reverberation_time = rng.uniform(0.1, 0.5)  # s
    direct_to_reverberant = rng.uniform(0, 10)  # dB
    time = np.arange(round(reverberation_time * sample_rate)) / sample_rate
    tail = rng.normal(size=len(time)) * np.exp(-np.log(1000) * time / reverberation_time)
    tail[: round(0.002 * sample_rate)] = 0
    tail *= 10 ** (-direct_to_reverberant / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _noise(
    rng: np.random.Generator, kind: str, length: int, sample_rate: int, bank: np.ndarray | None
) -> np.ndarray:
    """`length` samples of noise of RMS 1. Pink is 1/f and brown 1/f^2 in power; babble is cut from `bank`."""
    if kind == "babble":
        start = int(rng.integers(len(bank)))
        wave = np.take(bank, np.arange(start, start + length), mode="wrap")
        return wave / _rms(wave)
    count = fft.next_fast_len(length, real=True)
    frequency = np.maximum(fft.rfftfreq(count, 1 / sample_rate), 30)
    slope = {"white": 0, "pink": 0.5, "brown": 1, "hum": 1}[kind]
    wave = fft.irfft(fft.rfft(rng.normal(size=count)) * frequency**-slope, count)[:length]
    wave = wave / _rms(wave)
    if kind == "hum":
        mains = rng.choice([50.0, 60.0])
        harmonics = np.arange(1, 13)[:, None]
        phases = rng.uniform(0, 2 * np.pi, size=(12, 1))
        tones = np.sin(2 * np.pi * mains * harmonics * np.arange(length) / sample_rate + phases)
        wave = 0.3 * wave + np.sum(tones * rng.uniform(0.2, 1, size=(12, 1)), axis=0)
    return wave / _rms(wave)


@functools.lru_cache(maxsize=2)
def _babble(engine: Path, seed: int, sample_rate: int, number: int) -> np.ndarray:
    """8 s of five people talking at once, none of them a speaker of the corpus."""
    total = np.zeros(8 * sample_rate)
    for person in range(5):
        rng = _rng(seed, _BABBLE, number, person)
        voice = voices.draw_voice(rng)
        texts = rng.integers(voices.NUM_SENTENCES, size=5).tolist()
        talk = np.concatenate(
            [voices.speak(engine, voice, voices.sentence(text), sample_rate) for text in texts]
        )
        total += np.resize(talk / _rms(talk), len(total))
    return total / _rms(total)


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
