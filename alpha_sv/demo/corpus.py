"""The demo corpus: speakers, sessions and a trial list made from nothing but a seed.

`build_corpus` writes a small VoxCeleb: synthetic speakers (`synthetic_voices`), each recorded in
several sessions, and trials between speakers never heard in training. What makes verification hard
is there. A session has its own channel, noise, level, tempo and mood, so that the same speaker
sounds different across sessions, and target trials always cross sessions. The channel is drawn
without looking at the speaker, so it says nothing about who speaks.

    <folder>/wav/<speaker>/<session>/<utterance>.flac   16 bit mono
    <folder>/trials.txt                                 `label enroll test`, paths below wav
    <folder>/noise/*.flac, rir/*.flac                   for training augmentation
    <folder>/speakers.tsv, corpus.json                  who they are; parameters and versions

The seed settles what is to be made (`synthetic_plan`): who (`synthetic_voices`) says which sentence
(`synthetic_text`) in which session. Worker processes have it said by espeak-ng (`synthetic_espeak`:
an optional installed package under the GPL, no part of this one), record it (`synthetic_channel`)
and write the files here.
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
import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from alpha_sv.demo import channel as channel
from alpha_sv.demo import corpus_plan as plan
from alpha_sv.demo import espeak as espeak
from alpha_sv.demo.corpus_plan import Parameters
from alpha_sv.files import InputError, atomic_write, folder_lock, read_json

_DEFAULT = Parameters()
_FORMAT = "alpha_sv.synthetic/1"  # raise the number whenever the same parameters would give other files


def build_corpus(
    folder: str | os.PathLike,
    num_train_speakers: int = _DEFAULT.num_train_speakers,
    num_test_speakers: int = _DEFAULT.num_test_speakers,
    utterances_per_speaker: int = _DEFAULT.utterances_per_speaker,
    sessions_per_speaker: int = _DEFAULT.sessions_per_speaker,
    seed: int = _DEFAULT.seed,
    sample_rate: int = _DEFAULT.sample_rate,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make the corpus in `folder`, or finish it, or find it complete; the result is the same bytes.

    Parameters
    ----------
    folder : path-like
        New, empty, or holding this very corpus, whole or in part. Nothing else is ever overwritten.
    sessions_per_speaker : int
        Sessions of each speaker, at least 2; utterances go round the sessions.
    sample_rate : int
        Hz, 8000 to 48000 (espeak-ng itself has nothing above 11 kHz).
    workers : int, optional
        Processes; one per available core if None.

    Returns
    -------
    Path
        `folder`.
        Speakers ``spk000`` and on are for training, the last `num_test_speakers` for the trials.

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
    parameters = Parameters(
        num_train_speakers, num_test_speakers, utterances_per_speaker, sessions_per_speaker, seed, sample_rate
    )
    folder = Path(folder).absolute()
    _check_folder(folder, _read_description(folder), parameters)
    others = [folder / name for name in ("trials.txt", "speakers.tsv", "corpus.json")]
    if not _missing(folder, parameters) and all(path.exists() for path in others):
        return folder
    with folder_lock(folder):
        _build(folder, parameters, workers, progress)
    return folder


def _missing(folder: Path, parameters: Parameters) -> list[tuple[Path, str, tuple]]:
    return [job for job in plan.jobs(folder, parameters) if not job[0].exists()]


def _build(folder: Path, parameters: Parameters, workers: int | None, progress: bool) -> None:
    held, missing = _read_description(folder), _missing(folder, parameters)  # another process may have been here
    _check_folder(folder, held, parameters)
    description = {"format": _FORMAT, "parameters": dataclasses.asdict(parameters), "versions": _versions()}
    _check_engine(folder, held, description)
    _write_json(folder / "corpus.part.json", description)
    make_files(missing, parameters, workers, progress)
    with atomic_write(folder / "speakers.tsv") as file:
        file.writelines(plan.speaker_lines(parameters))
    with atomic_write(folder / "trials.txt") as file:
        file.writelines(f"{label} {enroll} {test}\n" for label, enroll, test in plan.trials(parameters))
    _write_json(folder / "corpus.json", description)
    (folder / "corpus.part.json").unlink(missing_ok=True)


def _read_description(folder: Path) -> tuple[Path, dict] | None:
    found = next((p for n in ("corpus.json", "corpus.part.json") if (p := folder / n).exists()), None)
    if found is None:
        return None
    try:
        return found, read_json(found, like=dict)
    except InputError as error:
        raise InputError(f"{error}; delete the folder and build again") from error


def _check_folder(folder: Path, held: tuple[Path, dict] | None, parameters: Parameters) -> None:
    """Raise ValueError unless `folder` is new, empty or holds this corpus, whole or in part."""
    if held is None:
        ours = (".lock", ".corpus.part.json.")  # of a process that was killed before it had said what it makes
        if folder.exists() and any(not path.name.startswith(ours) for path in folder.iterdir()):
            raise ValueError(f"{folder}: not empty and not a demo corpus; choose a new folder or empty this one")
        return
    path, old = held
    wanted = {"format": _FORMAT, **dataclasses.asdict(parameters)}
    found = {"format": old.get("format"), **old.get("parameters", {})}
    names = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    if names:
        clash = ", ".join(f"{n} = {found.get(n)}, wanted {wanted.get(n)}" for n in names)
        raise ValueError(f"{path}: another demo corpus ({clash}); choose another folder or delete {folder}")


def _check_engine(folder: Path, held: tuple[Path, dict] | None, description: dict) -> None:
    """Half a corpus from one espeak-ng is not finished by another."""
    if held is not None:
        old, new = (d.get("versions", {}).get("espeak-ng") for d in (held[1], description))
        if old != new:
            raise ValueError(
                f"{held[0]}: begun with espeak-ng {old}, {new} is installed; delete {folder} and build again"
            )


def _versions() -> dict[str, str]:
    names = ("numpy", "scipy", "soundfile", "espeakng-loader")
    return {"espeak-ng": espeak.engine_version()} | {name: version(name) for name in names}


def _write_json(path: Path, content: dict) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def make_files(jobs: list[tuple[Path, str, tuple]], p: Parameters, workers: int | None, progress: bool) -> None:
    """Do jobs of `plan.jobs` in child processes:
    espeak-ng sets the locale, and a crash in C must not end the caller.

    ImportError, RuntimeError and ValueError as `build_corpus`.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"build_corpus: workers = {workers}; it must be at least 1, or None for one per core")
    # Forked children start at once and do not import
    # the caller's script again; elsewhere, the default.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    chunks = [jobs[n : n + 10] for n in range(0, len(jobs), 10)]
    with (
        tempfile.TemporaryDirectory(prefix="alpha_sv_") as engines,
        concurrent.futures.ProcessPoolExecutor(workers, context, _end_with_parent) as pool,
    ):
        futures = [pool.submit(_do, chunk, engines, p.seed, p.sample_rate) for chunk in chunks]
        try:
            with tqdm(total=len(jobs), desc="demo corpus", unit="file", disable=not progress) as bar:
                for future in concurrent.futures.as_completed(futures):
                    bar.update(future.result())
        except concurrent.futures.process.BrokenProcessPool as error:
            message = "a process of the demo corpus died (memory?); run again, it goes on where it stopped"
            raise ChildProcessError(message) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the files begun: their folder goes next
            raise


def _end_with_parent() -> None:
    """A worker of a process that was killed would wait for work for ever."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _do(jobs: list[tuple[Path, str, tuple]], engines: str, seed: int, sample_rate: int) -> int:
    engine = _engine(engines, os.getpid())
    for path, kind, key in jobs:
        if kind == "speech":
            wave = channel.render(engine, seed, *key, sample_rate)
        elif kind == "noise":
            wave = channel.noise_clip(engine, seed, *key, sample_rate)
        else:
            wave = channel.room_response(seed, *key, sample_rate)
        _write_flac(path, wave, sample_rate)
    return len(jobs)


@functools.cache
def _engine(engines: str, process: int) -> Path:
    return espeak.install_engine(Path(engines) / str(process))


def _write_flac(path: Path, wave: np.ndarray, sample_rate: int) -> None:
    samples = np.round(32767 * wave * min(1.0, 0.98 / np.abs(wave).max())).astype(np.int16)
    with io.BytesIO() as buffer, atomic_write(path, "wb") as file:
        soundfile.write(buffer, samples, sample_rate, format="FLAC", subtype="PCM_16")
        file.write(buffer.getvalue())
