"""A synthetic voice says a sentence:
espeak-ng called so that the same arguments give the same samples.

espeak-ng is licensed under the GPL. It is neither copied nor linked here: the optional package
`espeakng-loader` brings it (``pip install 'alpha_sv[demo]'``), and only the demo corpus calls it.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import tempfile
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy import signal

from alpha_sv.demo.voices import Voice, variant_file

# espeak-ng 1.52: speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _RATE, _CHARS_UTF8 = 2, 0x8000, 1, 1
_ENGINE_RATE = 22050  # Hz
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_MAX_DATA_PATH = 130  # espeak keeps the path of its data, plus a file name, in char[160]


def _loader():
    try:
        import espeakng_loader
    except ImportError as error:
        message = "the demo corpus needs espeak-ng from the package espeakng-loader: pip install 'alpha_sv[demo]'"
        raise ImportError(message) from error
    return espeakng_loader


def install_engine(folder: str | os.PathLike) -> Path:
    """Copy the English part of espeak-ng's data (1 MB) to `folder`,
    so that voices can be added to it.

    Raises
    ------
    ImportError
        If `espeakng-loader` is not installed.
    ValueError
        If the path is too long for espeak-ng's fixed buffers.
    """
    source, folder = Path(_loader().get_data_path()), Path(folder).absolute()
    if len(os.fsencode(folder)) > _MAX_DATA_PATH:
        raise ValueError(f"{folder}: espeak-ng takes no path of more than {_MAX_DATA_PATH} bytes; shorten TMPDIR")
    data = folder / "espeak-ng-data"
    (data / "voices" / "!v").mkdir(parents=True, exist_ok=True)
    for name in ("phondata", "phonindex", "phontab", "intonations", "en_dict"):
        shutil.copyfile(source / name, data / name)
    shutil.copytree(source / "lang" / "gmw", data / "lang" / "gmw", dirs_exist_ok=True)
    return folder


def engine_version() -> str:
    """Version of the installed espeak-ng, such as ``'1.52.0'``.
    Raises ImportError if there is none."""
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
    raw = text.encode()
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
        raise OSError(f"cannot load {copy} ({error}); set TMPDIR to a folder that allows execution") from error
    try:
        found = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(engine), _DONT_EXIT)
        _check(found - _ENGINE_RATE, "Initialize", engine)  # returns Hz
        library.espeak_ng_SetRandSeed(ctypes.c_long(zlib.crc32(raw) & 0x7FFFFFFF))
        library.espeak_SetSynthCallback(collect)
        _check(library.espeak_SetVoiceByName(f"{voice.accent}+demo".encode()), "SetVoiceByName", voice.accent)
        rate = round(voice.rate / voice.tract)
        _check(library.espeak_SetParameter(_RATE, rate, 0), "SetParameter", rate)
        size = ctypes.c_size_t(len(raw) + 1)
        _check(library.espeak_Synth(raw, size, 0, 1, 0, _CHARS_UTF8, None, None), "Synth", text)
        library.espeak_Terminate()
    finally:
        _unload(library)
        os.unlink(copy)
    wave = np.concatenate(blocks).astype(np.float64) if blocks else np.zeros(0)
    if not wave.any():
        raise RuntimeError(f"espeak-ng returned no sound for {text!r} ({voice.accent}); reinstall espeakng-loader")

    # Played `tract` times faster, everything moves up by `tract`; rounded (by about 0.1 % at most)
    # to a ratio of small numbers, for which the polyphase filter is short.
    ratio = Fraction(sample_rate / (_ENGINE_RATE * voice.tract)).limit_denominator(300)
    wave = _trim(signal.resample_poly(wave, ratio.numerator, ratio.denominator), sample_rate)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def _check(status: int, call: str, value: object) -> None:
    if status != 0:
        raise RuntimeError(f"espeak_{call}({value}) failed with status {status}; reinstall espeakng-loader")


def _unload(library: ctypes.CDLL) -> None:
    close = _ctypes.FreeLibrary if os.name == "nt" else _ctypes.dlclose
    close(library._handle)


def _trim(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Drop what is 45 dB below the peak at either end, 30 ms excepted."""
    loud = np.flatnonzero(np.abs(wave) > 10 ** (-45 / 20) * np.abs(wave).max())
    margin = round(0.03 * sample_rate)
    return wave[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]
