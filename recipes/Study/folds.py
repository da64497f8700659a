"""Speakers dealt into folds: every speaker is a test speaker once,
and never in the training that is tested on them.

    <output>/folds/<hash>/all/manifest.csv         every utterance that can be used
    <output>/folds/<hash>/<k>/manifest.csv         the speakers as train, valid, test of fold k
    <output>/folds/<hash>/<k>/valid_trials.txt     trials of some of the training speakers
    <output>/folds/<hash>/<k>/trials_<corpus>.txt  trials of its test speakers, inside one corpus

The networks of two folds are different systems, and a raw cosine of one says nothing about a
raw cosine of the other. So folds are compared one by one and their differences averaged: a fold
is a list of trials of its own, whose speakers no other list has (`estimates.difference`).
Scores of all folds in one list would need a common scale, which AS-norm in each fold gives.
tests/recipes/test_study_folds.py simulates systems with a known difference: fold by fold
intervals of 95 % hold it whatever the scales, in one list only after AS-norm (96 of 100,
against 97 fold by fold).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alpha_sv.data.corpus.manifest import Utterance, few_of_each, read_manifest, write_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.data.trials.files import write_trials
from alpha_sv.data.trials.tables import Trials
from alpha_sv.files import folder_lock, input_key, is_fresh, write_stamp

_BY_DEFAULT = {"count": 5, "seed": 1, "num_valid_speakers": 60, "most": 8, "nontarget": 20_000}


def fold_folder(grid: Mapping, data: Path, number: int) -> Path:
    """Where fold `number` (from 1) of a grid lies, once `make_folds` has made it."""
    return _folder(grid, data)[0] / str(number)


def make_folds(grid: Mapping, data: Path) -> None:
    """Deal the speakers, unless they are dealt."""
    folder, key, settings = _folder(grid, data)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder, wait=True):  # the jobs of a cluster begin together
        if not is_fresh(folder / "done.json", key):
            _make(folder, settings, grid["corpora"], data)
            made = [str(f.relative_to(folder)) for f in sorted(folder.glob("*/*")) if f.suffix in (".csv", ".txt")]
            write_stamp(folder / "done.json", key, [name for name in made if not name.startswith("all/")])


def _folder(grid: Mapping, data: Path) -> tuple[Path, str, dict]:
    settings = _BY_DEFAULT | grid["folds"]
    key = input_key(["folds/1", sorted(settings.items()), grid["corpora"], str(data)])
    return grid.get("output", Path()) / "folds" / key[:12], key, settings


def _make(folder: Path, settings: Mapping, corpora: Sequence[str], data: Path) -> None:
    trees = [data / corpus / "wav" for corpus in corpora]
    prepare_tree(trees, folder / "all", num_valid_speakers=0, audit="headers", seed=settings["seed"])
    utterances = read_manifest(folder / "all" / "manifest.csv")
    corpus_of = {u.utt_id: c for u in utterances for c, tree in zip(corpora, trees, strict=True) if _inside(u, tree)}
    chosen = few_of_each(utterances, settings["most"])
    rng = np.random.default_rng(settings["seed"])
    fold_of = deal(chosen, corpus_of, settings["count"], rng)
    for number in range(1, settings["count"] + 1):
        place, kept = folder / str(number), defaultdict(list)
        place.mkdir(exist_ok=True)
        strangers = [u for u in chosen if fold_of[u.speaker] != number]
        development = _development(strangers, corpus_of, settings["num_valid_speakers"], rng)
        for u in chosen:
            split = "test" if fold_of[u.speaker] == number else "valid" if u.speaker in development else "train"
            kept[split].append(dataclasses.replace(u, split=split))
        write_manifest(place / "manifest.csv", [u for split in kept.values() for u in split])
        for split, names in (("valid", ["valid_trials.txt"]), ("test", [f"trials_{c}.txt" for c in corpora])):
            lists = [_trials([u for u in kept[split] if corpus_of[u.utt_id] == c], settings, rng) for c in corpora]
            for name, rows in zip(names, [sum(lists, [])] if split == "valid" else lists, strict=True):
                enroll, test, labels = zip(*rows, strict=True)
                write_trials(place / name, Trials(np.array(enroll), np.array(test), np.array(labels)))


def deal(utterances: Sequence[Utterance], corpus_of: Mapping[str, str], count: int, rng) -> dict[str, int]:
    """Speaker → fold, from 1. Those of a corpus with as many sessions and
    utterances go round the folds in turn, so that the folds are alike.
    """
    alike, sessions = defaultdict(set), defaultdict(set)
    for u in utterances:
        sessions[u.speaker].add(u.session)
    number = defaultdict(int)
    for u in utterances:
        number[u.speaker] += 1
    for u in utterances:
        alike[corpus_of[u.utt_id], len(sessions[u.speaker]) > 1, number[u.speaker] > 1].add(u.speaker)
    found, next_fold = {}, 0
    for _, speakers in sorted(alike.items()):
        for speaker in rng.permutation(sorted(speakers)).tolist():
            found[speaker] = 1 + next_fold % count
            next_fold += 1
    return found


def _development(utterances: Sequence[Utterance], corpus_of: Mapping[str, str], most: int, rng) -> set[str]:
    """Training speakers for development trials:
    of each corpus in proportion, of those with several utterances."""
    of, several = defaultdict(set), defaultdict(int)
    for u in utterances:
        several[u.speaker] += 1
    for u in utterances:
        if several[u.speaker] > 1:
            of[corpus_of[u.utt_id]].add(u.speaker)
    total = sum(map(len, of.values()))
    return {
        speaker
        for _, speakers in sorted(of.items())
        for speaker in rng.permutation(sorted(speakers))[: round(most * len(speakers) / total)].tolist()
    }


def _trials(utterances: Sequence[Utterance], settings: Mapping, rng) -> list[tuple[str, str, bool]]:
    """All target pairs, across sessions where a speaker has several;
    as many nontarget pairs as asked, if there are."""
    of, rows = defaultdict(list), []
    for u in utterances:
        of[u.speaker].append(u)
    for some in of.values():
        crosses = len({u.session for u in some}) > 1
        for a, b in itertools.combinations(some, 2):
            if not crosses or a.session != b.session:
                rows.append((a.utt_id, b.utt_id, True))
    pairs = [(a, b) for a, b in itertools.combinations(range(len(utterances)), 2)]
    pairs = [(a, b) for a, b in pairs if utterances[a].speaker != utterances[b].speaker]
    for i in sorted(rng.permutation(len(pairs))[: settings["nontarget"]].tolist()):
        a, b = pairs[i]
        rows.append((utterances[a].utt_id, utterances[b].utt_id, False))
    return rows


def _inside(utterance: Utterance, tree: Path) -> bool:
    return Path(utterance.path).is_relative_to(tree)
