"""Synthetic speakers: voices drawn at random, sentences from a small grammar, spoken by espeak-ng.

A speaker is a `Voice`: about forty numbers that espeak-ng reads from a *voice variant* file
(frequency, height and width of each formant, breath, voicing, roughness, spectral tilt, consonants,
pitch, timing), plus two it has no knob for: the accent, which is the espeak language, and the
length of the vocal tract, which moves all formants together and is done by resampling. How much
each one matters was measured on one sentence, as the mean change of the long-term spectrum: tilt up
to 3.8 dB, voicing 2.3, consonants 1.9, breath 1.8, any of formants 1 to 5 by 15-20 % 0.5 to 1.8,
roughness 0.7. Formants 0 and 6 to 8 change less than 0.1 dB, so they are left alone.

espeak-ng is licensed under the GPL. It is neither copied nor linked here: the optional package
`espeakng-loader` brings it (``pip install 'alpha_sv[demo]'``), and only the demo corpus calls it.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy import signal

# espeak-ng 1.52: speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _RATE, _CHARS_UTF8 = 2, 0x8000, 1, 1
_ENGINE_RATE = 22050  # Hz
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_MAX_DATA_PATH = 130  # espeak keeps the path of its data, plus a file name, in char[160]

ACCENTS = (
    "en-us",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)

# A sentence is one entry of each column: 24 * 20 * 24 * 16 = 184,320 different ones.
_SUBJECTS = """the old farmer|my younger sister|a careful doctor|our noisy neighbour|the village baker|
her first teacher|a tired soldier|the quiet painter|your best friend|the ship's captain|a clever student|
the new mayor|his grandmother|this young pilot|the night nurse|a famous singer|that shy boy|
the chief engineer|some lucky tourist|the lighthouse keeper|a friendly judge|our piano player|
the river fisherman|every good cook"""
_VERBS = """carried|painted|forgot|repaired|measured|borrowed|discovered|examined|polished|followed|
described|collected|bought|hid|photographed|watched|recognised|delivered|washed|misplaced"""
_OBJECTS = """seven baskets|a golden ring|the broken clock|two blue jackets|an unusual map|fresh oranges|
the wooden boat|his gray horse|a long letter|cheap umbrellas|the church bells|five empty bottles|
a strange machine|their yellow kite|warm bread|the garden fence|her leather shoes|a puzzle box|
some juicy peaches|the zoo keys|a heavy suitcase|smooth pebbles|the video camera|thick blankets"""
_PLACES = """near the station|after lunch|on Thursday|before sunrise|in the kitchen|under the bridge|
with great joy|by the harbour|last winter|for a while|behind the school|during the storm|without help|
at midnight|along the shore|this morning"""
_COLUMNS = tuple(text.replace("\n", "").split("|") for text in (_SUBJECTS, _VERBS, _OBJECTS, _PLACES))
NUM_SENTENCES = math.prod(len(column) for column in _COLUMNS)


def sentence(index: int) -> str:
    """Sentence number `index` of the grammar; different numbers are different sentences.

    Raises
    ------
    ValueError
        If `index` is not in ``range(NUM_SENTENCES)``.

    Example
    -------
    >>> sentence(0)
    'The old farmer carried seven baskets near the station.'
    """
    if not 0 <= index < NUM_SENTENCES:
        raise ValueError(
            f"sentence: index {index} is outside 0 .. {NUM_SENTENCES - 1}; the grammar has no more"
        )
    words = []
    for column in reversed(_COLUMNS):
        index, entry = divmod(index, len(column))
        words.append(column[entry])
    text = " ".join(reversed(words))
    return text[0].upper() + text[1:] + "."


@dataclass(frozen=True, slots=True)
class Voice:
    """What makes a synthetic speaker. Percentages are relative to espeak-ng's default voice."""

    accent: str
    tract: float  # factor on every resonance: 1.1 is a vocal tract 9 % shorter than the default
    pitch: float  # Hz, the bottom of the intonation range
    pitch_span: float  # factor: top of the range / bottom
    rate: float  # words per minute
    formants: tuple[tuple[float, float, float], ...]  # formants 1 to 5: frequency, height, width, %
    tilt: tuple[float, ...]  # spectral gain 0 .. 255 at 300, 1000, 2200 and 4000 Hz
    breath: tuple[float, ...]  # noise let through formants 0 to 5
    voicing: float  # strength of the voiced source, %
    roughness: float  # 0 .. 7: alternate glottal periods differ
    flutter: float  # slow random pitch movement
    consonants: tuple[float, float]  # level of unvoiced and voiced consonants, %
    stress_length: tuple[float, float]  # duration of unstressed and stressed vowels (default 170 and 220)


def draw_voice(rng: np.random.Generator) -> Voice:
    """A random speaker. Pitch and tract are correlated, as in people, and overlap between speakers.

    Example
    -------
    >>> voice = draw_voice(np.random.default_rng(0))
    >>> 0.85 < voice.tract < 1.2, 70 < voice.pitch < 260
    (True, True)
    """
    size = float(np.clip(rng.normal(), -2, 2))  # > 0: a shorter tract and, usually, a higher voice
    tract = 1.02 * math.exp(0.055 * size)
    pitch = 125.0 * math.exp(0.14 * size + 0.16 * float(np.clip(rng.normal(), -2, 2)))
    spread = np.array([0.06, 0.06, 0.055, 0.05, 0.05])  # formants 1 to 5, on top of the tract
    frequency = 100 * np.exp(spread * np.clip(rng.normal(size=5), -2, 2))
    height = 100 * np.exp(0.28 * rng.normal(size=5))
    width = 100 * np.exp(0.25 * rng.normal(size=5))
    formants = np.stack([frequency, np.clip(height, 45, 170), np.clip(width, 60, 180)], axis=1)
    breathiness = float(rng.choice([0.0, rng.uniform(1, 14)], p=[0.4, 0.6]))
    return Voice(
        accent=ACCENTS[int(rng.integers(len(ACCENTS)))],
        tract=tract,
        pitch=pitch,
        pitch_span=float(rng.uniform(1.2, 1.7)),
        rate=float(rng.uniform(175, 205)),
        formants=tuple(tuple(float(v) for v in row) for row in formants),
        tilt=tuple(float(v) for v in rng.uniform([150, 90, 70, 60], [255, 200, 190, 180])),
        breath=tuple(float(v) for v in breathiness * rng.uniform(0.3, 1.5, size=6)),
        voicing=float(rng.uniform(60, 120)),
        roughness=float(rng.integers(0, 5)),
        flutter=float(rng.uniform(0, 6)),
        consonants=(float(rng.uniform(60, 150)), float(rng.uniform(60, 130))),
        stress_length=(float(rng.uniform(140, 190)), float(rng.uniform(200, 260))),
    )


def variant_file(voice: Voice) -> str:
    """The text of an espeak-ng voice variant (`voices/!v/...`) for `voice`, its tract apart.

    Reference: espeak-ng, docs/voices.md.

    Example
    -------
    >>> print(variant_file(draw_voice(np.random.default_rng(0))).splitlines()[0])
    language variant
    """
    # Resampling by `tract` multiplies the pitch by it too; divide beforehand.
    low = voice.pitch / voice.tract
    short, long = (round(value) for value in voice.stress_length)
    lines = [
        "language variant",
        "name demo",
        f"pitch {low:.0f} {low * voice.pitch_span:.0f}",
        *(f"formant {n} {f:.0f} {h:.0f} {w:.0f}" for n, (f, h, w) in enumerate(voice.formants, start=1)),
        "tone "
        + " ".join(f"{hz} {g:.0f}" for hz, g in zip((300, 1000, 2200, 4000), voice.tilt, strict=True)),
        "breath " + " ".join(f"{value:.0f}" for value in voice.breath),
        "breathw 150 150 200 200 400 400",
        f"voicing {voice.voicing:.0f}",
        f"roughness {voice.roughness:.0f}",
        f"flutter {voice.flutter:.0f}",
        f"consonants {voice.consonants[0]:.0f} {voice.consonants[1]:.0f}",
        f"stressLength {short} {short - 20} {long} {long} 0 0 {long + 20} {long + 40}",
    ]
    return "\n".join(lines) + "\n"


def _loader():
    try:
        import espeakng_loader
    except ImportError as error:
        message = (
            "the demo corpus needs espeak-ng from the package espeakng-loader: pip install 'alpha_sv[demo]'"
        )
        raise ImportError(message) from error
    return espeakng_loader


def install_engine(folder: str | os.PathLike) -> Path:
    """Copy the English part of espeak-ng's data (1 MB) to `folder`, so that voices can be added to it.

    Raises
    ------
    ImportError
        If `espeakng-loader` is not installed.
    ValueError
        If the path is too long for espeak-ng's fixed buffers.
    """
    source, folder = Path(_loader().get_data_path()), Path(folder).absolute()
    if len(os.fsencode(folder)) > _MAX_DATA_PATH:
        raise ValueError(
            f"{folder}: espeak-ng takes no path of more than {_MAX_DATA_PATH} bytes; shorten TMPDIR"
        )
    data = folder / "espeak-ng-data"
    (data / "voices" / "!v").mkdir(parents=True, exist_ok=True)
    for name in ("phondata", "phonindex", "phontab", "intonations", "en_dict"):
        shutil.copyfile(source / name, data / name)
    shutil.copytree(source / "lang" / "gmw", data / "lang" / "gmw", dirs_exist_ok=True)
    return folder


def engine_version() -> str:
    """Version of the installed espeak-ng, such as ``'1.52.0'``. Raises ImportError if there is none."""
    library = ctypes.CDLL(str(_loader().get_library_path()))
    try:
        library.espeak_Info.restype = ctypes.c_char_p
        return library.espeak_Info(None).decode()
    finally:
        _unload(library)


def speak(engine: str | os.PathLike, voice: Voice, text: str, sample_rate: int = 16000) -> np.ndarray:
    """Say `text`: the same arguments give the same samples, in any process and in any order.

    Parameters
    ----------
    engine : path-like
        A folder made by `install_engine`, used by one process at a time.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray, float32 [T]
        Peak 0.5, silence trimmed to 30 ms at either end.

    Raises
    ------
    RuntimeError
        If espeak-ng refuses a call or returns no sound.
    """
    engine = Path(engine)
    (engine / "espeak-ng-data" / "voices" / "!v" / "demo").write_text(variant_file(voice), encoding="utf-8")
    blocks: list[np.ndarray] = []

    @_CALLBACK
    def collect(samples, count, _events):
        if samples and count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    # espeak-ng never resets its pitch flutter and wave phase (not even in espeak_Terminate), so an
    # utterance would depend on all before it. A private copy of the library (0.6 MB) is loaded with
    # fresh variables. Its breath noise is seeded with the time of day; we seed it with the text.
    original = Path(_loader().get_library_path())
    handle, copy = tempfile.mkstemp(dir=engine, suffix=original.suffix)
    os.close(handle)
    shutil.copyfile(original, copy)
    try:
        library = ctypes.CDLL(copy)
    except OSError as error:
        raise OSError(
            f"cannot load {copy} ({error}); set TMPDIR to a folder that allows execution"
        ) from error
    try:
        found = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(engine), _DONT_EXIT)
        _check(found - _ENGINE_RATE, "Initialize", engine)  # returns Hz
        library.espeak_ng_SetRandSeed(ctypes.c_long(zlib.crc32(text.encode()) & 0x7FFFFFFF))
        library.espeak_SetSynthCallback(collect)
        _check(library.espeak_SetVoiceByName(f"{voice.accent}+demo".encode()), "SetVoiceByName", voice.accent)
        rate = round(voice.rate / voice.tract)
        _check(library.espeak_SetParameter(_RATE, rate, 0), "SetParameter", rate)
        raw = text.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        _check(library.espeak_Synth(raw, size, 0, 1, 0, _CHARS_UTF8, None, None), "Synth", text)
        library.espeak_Terminate()
    finally:
        _unload(library)
        os.unlink(copy)
    wave = np.concatenate(blocks).astype(np.float64) if blocks else np.zeros(0)
    if not wave.any():
        raise RuntimeError(
            f"espeak-ng returned no sound for {text!r} ({voice.accent}); reinstall espeakng-loader"
        )

    # Played `tract` times faster, everything moves up by `tract`; rounded (by about 0.1 % at most)
    # to a ratio of small numbers, for which the polyphase filter is short.
    ratio = Fraction(sample_rate / (_ENGINE_RATE * voice.tract)).limit_denominator(300)
    wave = _trim(signal.resample_poly(wave, ratio.numerator, ratio.denominator), sample_rate)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def _check(status: int, call: str, value: object) -> None:
    if status != 0:
        raise RuntimeError(f"espeak_{call}({value}) failed with status {status}; reinstall espeakng-loader")


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    close = _ctypes.FreeLibrary if os.name == "nt" else _ctypes.dlclose
    close(library._handle)


def _trim(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Drop what is 45 dB below the peak at either end, 30 ms excepted."""
    loud = np.flatnonzero(np.abs(wave) > 10 ** (-45 / 20) * np.abs(wave).max())
    margin = round(0.03 * sample_rate)
    return wave[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]
