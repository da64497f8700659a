"""What the demo corpus holds, settled before the first sound:
parameters, files, speakers and trials.

Every random number of the corpus, here and in `synthetic_channel`, comes from a generator keyed by
(seed, purpose, speaker, session, utterance): a file is the same bytes however many workers run, and
whichever files exist already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpha_sv.demo.sentences import NUM_SENTENCES
from alpha_sv.demo.voices import draw_voice

NOISES = ("white", "pink", "brown", "hum", "babble")
VOICE, DRIFT, CHANNEL, NOISE, BABBLE, CLIP, RIR, TEXT, TRIALS = range(9)  # purposes of a `generator`
_CLIPS_PER_NOISE, _NUM_RIRS = 4, 20
_NONTARGETS_PER_TARGET = 10


@dataclass(frozen=True, slots=True)
class Parameters:
    """What decides the bytes of the corpus, checked: the arguments of `build_corpus`."""

    num_train_speakers: int = 60
    num_test_speakers: int = 20
    utterances_per_speaker: int = 20
    sessions_per_speaker: int = 4
    seed: int = 1234
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        lowest = {"num_train_speakers": 1, "num_test_speakers": 2, "sessions_per_speaker": 2, "seed": 0}
        lowest |= {"utterances_per_speaker": self.sessions_per_speaker, "sample_rate": 8000}
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"build_corpus: {name} = {getattr(self, name)}; it must be at least {low}")
        if self.sample_rate > 48000:
            raise ValueError(f"build_corpus: sample_rate = {self.sample_rate}; it must be at most 48000")
        if self.num_speakers * self.utterances_per_speaker > NUM_SENTENCES:
            raise ValueError(f"build_corpus: more than {NUM_SENTENCES} utterances; ask for fewer speakers")

    @property
    def num_speakers(self) -> int:
        return self.num_train_speakers + self.num_test_speakers


def generator(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose, independent of those of all others.

    Example
    -------
    >>> generator(1, VOICE, 3).random() == generator(1, VOICE, 3).random() != generator(
    ...     1, DRIFT, 3
    ... ).random()
    True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def jobs(folder: Path, p: Parameters) -> list[tuple[Path, str, tuple]]:
    """One (path, kind, key) per audio file:
    small enough for a worker's queue, enough to make the file.

    The key is (speaker, session, utterance, sentence) of "speech",
    (number, kind of noise) of "noise" and (number,) of "rir".
    """
    size, sessions = p.utterances_per_speaker, p.sessions_per_speaker
    texts = generator(p.seed, TEXT).choice(NUM_SENTENCES, p.num_speakers * size, replace=False).tolist()
    found = []
    for n, text in enumerate(texts):
        speaker, utterance = divmod(n, size)
        path = folder / "wav" / _utterance_path(speaker, utterance, sessions)
        found.append((path, "speech", (speaker, utterance % sessions, utterance, text)))
    for n in range(_CLIPS_PER_NOISE * len(NOISES)):
        repeat, kind = divmod(n, len(NOISES))
        found.append((folder / "noise" / f"{NOISES[kind]}{repeat}.flac", "noise", (n, NOISES[kind])))
    return found + [(folder / "rir" / f"rir{n:02d}.flac", "rir", (n,)) for n in range(_NUM_RIRS)]


def speaker_lines(p: Parameters) -> list[str]:
    """The lines of speakers.tsv."""
    lines = ["speaker\tsplit\taccent\tpitch_hz\ttract\trate_wpm\n"]
    for speaker in range(p.num_speakers):
        voice = draw_voice(generator(p.seed, VOICE, speaker))
        split = "train" if speaker < p.num_train_speakers else "test"
        numbers = f"{voice.pitch:.1f}\t{voice.tract:.4f}\t{voice.rate:.1f}"
        lines.append(f"spk{speaker:03d}\t{split}\t{voice.accent}\t{numbers}\n")
    return lines


def trials(p: Parameters) -> list[tuple[int, str, str]]:
    """(label, enroll, test) of every cross-session pair
    of a test speaker, and ten times as many nontargets.

    The nontargets are spread evenly over the pairs of speakers.
    """
    rng = generator(p.seed, TRIALS)
    size, sessions = p.utterances_per_speaker, p.sessions_per_speaker
    speakers = range(p.num_train_speakers, p.num_speakers)
    pairs = [(s, i, s, j) for s in speakers for i in range(size) for j in range(i) if (i - j) % sessions]
    num_targets = len(pairs)
    couples = [(a, b) for a in speakers for b in speakers if a < b]
    each = min(-(-_NONTARGETS_PER_TARGET * num_targets // len(couples)), size * size)
    for a, b in couples:
        chosen = sorted(rng.choice(size * size, each, replace=False).tolist())
        pairs += [(a, k // size, b, k % size) for k in chosen]
    swap = rng.random(len(pairs)) < 0.5  # either side may enroll
    listed = []
    for n, (a, i, b, j) in enumerate(pairs):
        sides = _utterance_path(a, i, sessions), _utterance_path(b, j, sessions)
        listed.append((int(n < num_targets), *(sides[::-1] if swap[n] else sides)))
    return [listed[n] for n in rng.permutation(len(listed))]


def _utterance_path(speaker: int, utterance: int, sessions: int) -> str:
    return f"spk{speaker:03d}/s{utterance % sessions}/u{utterance:02d}.flac"
