"""The demo corpus: the same bytes from the same seed, sound trials, speakers who differ."""

from __future__ import annotations

import collections
import dataclasses
import importlib.util
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from alpha_sv.demo import channel as synthetic_channel
from alpha_sv.demo import corpus as synthetic
from alpha_sv.demo import corpus_plan as synthetic_plan
from alpha_sv.demo import espeak as synthetic_espeak
from alpha_sv.demo.sentences import NUM_SENTENCES, sentence
from alpha_sv.demo.voices import draw_voice
from alpha_sv.files import FolderInUse, folder_lock, sha256_file

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'alpha_sv[demo]')",
)
SMALL = {
    "num_train_speakers": 2,
    "num_test_speakers": 2,
    "utterances_per_speaker": 4,
    "sessions_per_speaker": 2,
    "seed": 5,
}
DEFAULT = synthetic_plan.Parameters(60, 20, 20, 4, 1234, 16000)


def hashes(folder):
    return {str(p.relative_to(folder)): sha256_file(p) for p in folder.rglob("*") if p.is_file()}


def trials(folder):
    lines = (folder / "trials.txt").read_text().splitlines()
    return [(label == "1", enroll, test) for label, enroll, test in (line.split() for line in lines)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return synthetic.build_corpus(tmp_path_factory.mktemp("corpus"), **SMALL, workers=2, progress=False)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return synthetic_espeak.install_engine(tmp_path_factory.mktemp("espeak"))


# Determinism


@needs_espeak
def test_one_worker_in_another_process_makes_the_same_bytes(corpus, tmp_path):
    code = f"""from alpha_sv.demo.corpus import build_corpus
build_corpus({str(tmp_path / "again")!r}, **{SMALL!r}, workers=1, progress=False)"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "77"})
    assert hashes(tmp_path / "again") == hashes(corpus)


@needs_espeak
@pytest.mark.slow
def test_another_seed_makes_other_speech(corpus, tmp_path):
    other = synthetic.build_corpus(tmp_path / "other", **{**SMALL, "seed": 6}, progress=False)
    same = {name for name, value in hashes(other).items() if hashes(corpus).get(name) == value}
    assert same == set()


@needs_espeak
def test_an_utterance_does_not_depend_on_those_before_it_or_on_the_clock(engine):
    # espeak-ng keeps flutter and wave phase from call to call,
    # and seeds its breath noise with the time.
    voice = draw_voice(np.random.default_rng(0))
    voice = dataclasses.replace(voice, breath=(10.0,) * 6, flutter=6.0, roughness=3.0)
    first = synthetic_espeak.speak(engine, voice, "The quiet painter washed seven baskets.")
    synthetic_espeak.speak(engine, dataclasses.replace(voice, accent="en-029"), "Something else entirely.")
    time.sleep(1.1)
    second = synthetic_espeak.speak(engine, voice, "The quiet painter washed seven baskets.")
    np.testing.assert_array_equal(first, second)


# Trials and layout


@needs_espeak
def test_trials_are_of_test_speakers_only(corpus):
    rows = [line.split("\t") for line in (corpus / "speakers.tsv").read_text().splitlines()[1:]]
    split = {row[0]: row[1] for row in rows}
    assert sorted(split.values()) == ["test", "test", "train", "train"]
    heard = {utterance.split("/")[0] for _, *sides in trials(corpus) for utterance in sides}
    assert heard == {speaker for speaker, part in split.items() if part == "test"}


@needs_espeak
def test_trials_name_files_and_their_labels_are_true(corpus):
    for target, enroll, test in trials(corpus):
        assert (corpus / "wav" / enroll).is_file() and (corpus / "wav" / test).is_file()
        assert target == (enroll.split("/")[0] == test.split("/")[0])


def test_default_target_trials_cross_sessions():
    for label, enroll, test in synthetic_plan.trials(DEFAULT):
        if label:
            assert enroll.split("/")[1] != test.split("/")[1]


def test_default_trials_are_balanced_and_never_repeated():
    rows = synthetic_plan.trials(DEFAULT)
    assert len({frozenset(sides) for _, *sides in rows}) == len(rows)
    target, nontarget = collections.Counter(), collections.Counter()
    for label, enroll, test in rows:
        pair = frozenset((enroll.split("/")[0], test.split("/")[0]))
        (target if label else nontarget)[pair] += 1
    assert len(target) == 20 and len(set(target.values())) == 1
    assert len(nontarget) == 20 * 19 // 2 and len(set(nontarget.values())) == 1
    assert target.total() >= 2000
    assert nontarget.total() == pytest.approx(10 * target.total(), rel=0.01)


def test_no_two_utterances_say_the_same(tmp_path):
    texts = [key[-1] for _, kind, key in synthetic_plan.jobs(tmp_path, DEFAULT) if kind == "speech"]
    assert len(texts) == 1600
    assert len({sentence(text) for text in texts}) == 1600


def test_sentence_outside_the_grammar_is_an_error():
    with pytest.raises(ValueError, match="184320"):
        sentence(NUM_SENTENCES)


# Sound


@needs_espeak
def test_durations_and_levels_are_those_of_speech(corpus):
    paths = sorted((corpus / "wav").rglob("*.flac"))
    assert len(paths) == 16
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        wave, _ = soundfile.read(path)
        assert 1.5 <= info.duration <= 4.0, path
        assert -36 < 20 * np.log10(synthetic_channel.rms(wave)) < -14, path
        assert np.abs(wave).max() < 0.99, path


@needs_espeak
def test_augmentation_material_is_there(corpus):
    noise = {path.stem.rstrip("0123456789") for path in (corpus / "noise").glob("*.flac")}
    assert noise == {"white", "pink", "brown", "hum", "babble"}
    for path in (corpus / "rir").glob("*.flac"):
        response, rate = soundfile.read(path)
        assert np.argmax(np.abs(response)) == 0  # the direct sound comes first
        energy = np.cumsum(response[::-1] ** 2)[::-1]  # Schroeder's backward integral falls
        half = energy[len(energy) // 2] / energy[round(0.003 * rate)]
        assert half < 10**-2.5  # half the reverberation time: -30 dB


@needs_espeak
@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_a_shorter_tract_raises_the_spectrum_but_keeps_the_tempo(engine, sample_rate):
    voice = draw_voice(np.random.default_rng(1))
    small = dataclasses.replace(voice, tract=0.92 * voice.tract)
    centre, length = {}, {}
    for name, who in (("long", small), ("short", dataclasses.replace(voice, tract=1.12 * voice.tract))):
        wave = synthetic_espeak.speak(engine, who, sentence(4321), sample_rate)
        power = np.abs(np.fft.rfft(wave)) ** 2
        centre[name] = np.sum(power * np.fft.rfftfreq(len(wave), 1 / sample_rate)) / power.sum()
        length[name] = len(wave) / sample_rate
    assert centre["short"] > 1.05 * centre["long"]
    assert length["short"] == pytest.approx(length["long"], rel=0.08)


@needs_espeak
def test_voices_differ_more_between_speakers_than_within(engine):
    def spectrum(speaker, session, text):
        wave = synthetic_channel.render(engine, 5, speaker, session, 0, text, 16000, clean=True)
        frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::160] * np.hanning(512)
        power = np.mean(np.abs(np.fft.rfft(frames)) ** 2, axis=0)[1:]
        return 10 * np.log10(power.reshape(32, 8).mean(axis=1))

    # Unrelated sentences throughout: neighbouring numbers share most of their words.
    texts = np.random.default_rng(0).integers(NUM_SENTENCES, size=(8, 3)).tolist()
    spectra = np.array([[spectrum(who, n, texts[who][n]) for n in range(3)] for who in range(8)])
    distance = np.abs(spectra[:, None, :, None] - spectra[None, :, None, :]).mean(axis=-1)
    same_speaker, same_session = np.eye(8, dtype=bool), np.eye(3, dtype=bool)
    within = distance[same_speaker][:, ~same_session].mean()
    between = distance[~same_speaker].mean()
    assert between > 1.5 * within


@needs_espeak
def test_a_speaker_changes_tempo_and_mood_from_session_to_session(engine):
    waves = [synthetic_channel.render(engine, 5, 0, n, 0, 4321, 16000, clean=True) for n in range(6)]
    lengths = np.array([len(wave) for wave in waves])
    assert lengths.std() > 0.03 * lengths.mean()
    assert lengths.max() < 1.45 * lengths.min()  # +-15 % about the speaker's own tempo, and rounding


@needs_espeak
def test_utterances_of_a_session_share_its_channel(engine):
    def channel(session, utterance):
        recorded, clean = (
            synthetic_channel.render(engine, 5, 0, session, utterance, 77 * utterance, 16000, clean=clean)
            for clean in (False, True)
        )
        power = [np.abs(np.fft.rfft(wave, 1 << 16)[1:]) ** 2 for wave in (recorded, clean)]
        bands = [10 * np.log10(p[: 1 << 15].reshape(64, -1).mean(axis=1)) for p in power]
        return bands[0] - bands[1] - np.mean(bands[0] - bands[1])

    found = np.array([[channel(session, utterance) for utterance in range(2)] for session in range(4)])
    within = np.abs(found[:, 0] - found[:, 1]).mean()
    across = np.mean([np.abs(found[a, 0] - found[b, 1]).mean() for a in range(4) for b in range(4) if a != b])
    assert across > 4 * within


# Building again


@pytest.mark.slow
@needs_espeak
def test_an_interrupted_build_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    class Interrupted(synthetic.tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    folder = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "tqdm", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthetic.build_corpus(folder, **SMALL, workers=1, progress=False)
    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}
    assert done and not (folder / "corpus.json").exists()
    last = max(done)
    last.unlink()  # and whatever the interrupt left, one more file must come back
    synthetic.build_corpus(folder, **SMALL, workers=1, progress=False)
    assert all(path.stat().st_mtime_ns == moment for path, moment in done.items() if path != last)
    assert hashes(folder) == hashes(corpus)


@needs_espeak
def test_a_complete_corpus_is_reused_untouched_and_needs_no_espeak(corpus, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert synthetic.build_corpus(str(corpus), **SMALL, progress=False) == corpus
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


@needs_espeak
def test_changed_parameters_never_reuse_a_stale_corpus(corpus):
    # SpeechBrain's preparation looks only at whether its CSV files exist.
    before = hashes(corpus)
    with pytest.raises(ValueError, match="seed = 5, wanted 9.*choose another folder"):
        synthetic.build_corpus(corpus, **{**SMALL, "seed": 9}, progress=False)
    assert hashes(corpus) == before


@needs_espeak
def test_another_espeak_does_not_finish_the_corpus_of_the_first(corpus, tmp_path, monkeypatch):
    part = tmp_path / "corpus.part.json"
    part.write_text((corpus / "corpus.json").read_text())
    monkeypatch.setattr(synthetic_espeak, "engine_version", lambda: "9.99")
    with pytest.raises(ValueError, match="begun with espeak-ng .*9.99 is installed"):
        synthetic.build_corpus(tmp_path, **SMALL, progress=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(ValueError, match="not empty and not a demo corpus"):
        synthetic.build_corpus(tmp_path, **SMALL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    with folder_lock(tmp_path), pytest.raises(FolderInUse):
        synthetic.build_corpus(tmp_path, **SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


@needs_espeak
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sessions of processes")
def test_the_workers_of_a_killed_build_end_and_the_next_one_finishes(corpus, tmp_path):
    code = (
        f"from alpha_sv.demo.corpus import build_corpus; build_corpus({str(tmp_path / 'c')!r}, **{SMALL!r}, workers=2)"
    )
    build = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not list(tmp_path.rglob("*.flac")):
        time.sleep(0.01)
    build.kill()
    build.wait()
    for _ in range(1000):
        try:
            os.killpg(build.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.01)
    else:
        pytest.fail("a worker lives on")
    assert hashes(synthetic.build_corpus(tmp_path / "c", **SMALL, progress=False)) == hashes(corpus)


def test_without_espeak_the_error_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"pip install 'alpha_sv\[demo\]'"):
        synthetic.build_corpus(tmp_path / "corpus", **SMALL, progress=False)


@needs_espeak
@pytest.mark.skipif(sys.platform != "linux", reason="only forked workers inherit the patched function")
def test_a_crash_inside_espeak_is_an_error_and_not_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_channel, "render", lambda *args, **kwargs: os._exit(11))
    with pytest.raises(OSError, match="run again"):
        synthetic.build_corpus(tmp_path / "corpus", **SMALL, workers=1, progress=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sessions_per_speaker", 1),  # no target trial could cross sessions
        ("num_test_speakers", 1),  # no nontarget trial
        ("utterances_per_speaker", 1),
        ("num_train_speakers", 0),
        ("seed", -1),
        ("sample_rate", 4000),
        ("sample_rate", 96000),
        ("num_train_speakers", 100_000),
        pytest.param("workers", 0, marks=needs_espeak),
    ],
)
def test_parameters_out_of_range_are_named(tmp_path, name, value):
    with pytest.raises(ValueError, match="utterances" if value == 100_000 else f"{name} = {value}"):
        synthetic.build_corpus(tmp_path / "corpus", **{**SMALL, name: value}, progress=False)
