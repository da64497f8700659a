"""What a published model does on speech:
error rates on trial lists, and the calibrator that goes with it.

    python benchmarks/pretrained.py DATA --model campplus
    python benchmarks/pretrained.py DATA --model campplus \\
        --calibrator alpha_sv/exchange/calibrators/campplus.json

DATA has a folder for each corpus, with wav/<speaker>/<session>/<file>, speakers.tsv
(speaker, split) and trials_dev.txt ("1 enroll test" for a target trial). Whole utterances, cosines,
no normalisation. The calibrator is fitted to trials among the training speakers only; trials_dev
then shows what it is worth on speakers it did not hear.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import random
from collections import defaultdict
from pathlib import Path

import numpy as np

from alpha_sv.data.audio import read_header
from alpha_sv.data.trials import read_trials
from alpha_sv.data.trials.tables import ScoreTable
from alpha_sv.metrics import cllr, eer, fnr_at_fpr, min_cllr
from alpha_sv.pipeline.calibrate import fit_calibrator
from alpha_sv.scoring import Calibrator, cosine_scores, duration_qualities
from alpha_sv.verify.model import SpeakerModel, load_model

UTTERANCES = 6  # a training speaker gives the calibrator at most so many, or the talkative ones would rule it
NONTARGETS = 10  # for each target trial


def score(
    model: SpeakerModel, wav: Path, enroll: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cosines [N] of pairs of files, and their durations as quality measures."""
    names = sorted({*enroll.tolist(), *test.tolist()})
    files = [wav / name for name in names]
    seconds = np.array([frames / rate for frames, rate, _ in map(read_header, files)])
    embeddings = model.embed(files)
    row = {name: i for i, name in enumerate(names)}
    sides = [[row[name] for name in side.tolist()] for side in (enroll, test)]
    return cosine_scores(*(embeddings[side] for side in sides)), duration_qualities(*(seconds[side] for side in sides))


def training_trials(corpus: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(enroll, test, labels): all pairs of each training speaker's files,
    and ten times as many of different ones."""
    with open(corpus / "speakers.tsv", newline="", encoding="utf-8") as file:
        speakers = sorted(row["speaker"] for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train")
    draw = random.Random(seed)
    of = {}
    for speaker in speakers:
        files = sorted(p for p in (corpus / "wav" / speaker).rglob("*") if p.suffix in (".flac", ".opus", ".wav"))
        chosen = sorted(draw.sample(files, min(UTTERANCES, len(files))))
        of[speaker] = [str(file.relative_to(corpus / "wav")) for file in chosen]
    pairs = [(*pair, True) for files in of.values() for pair in itertools.combinations(files, 2)]
    for _ in range(NONTARGETS * len(pairs)):
        a, b = draw.sample(speakers, 2)
        pairs.append((draw.choice(of[a]), draw.choice(of[b]), False))
    pairs = sorted(set(pairs))
    return tuple(np.array(column) for column in zip(*pairs, strict=True)) if pairs else (np.array([]),) * 3


def calibrate(model: SpeakerModel, corpora: list[Path], facts: dict) -> tuple[Calibrator, dict]:
    """The calibrator of the pooled training trials of the
    corpora that have target trials; numbers on unheard ones."""
    parts, counts = [], defaultdict(dict)
    for corpus in corpora:
        enroll, test, labels = training_trials(corpus)
        if not len(labels):
            continue
        scores, durations = score(model, corpus / "wav", enroll, test)
        parts.append((enroll, test, labels, scores, *durations.values()))
        speakers = len({name.split("/")[0] for name in enroll.tolist() + test.tolist()})
        counts[corpus.name] = {"speakers": speakers, "target": int(labels.sum()), "nontarget": int((~labels).sum())}
    enroll, test, labels, scores, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    speakers = tuple(np.array([name.split("/")[0] for name in side.tolist()]) for side in (enroll, test))
    table = ScoreTable(enroll, test, scores, labels)
    qualities = dict(zip(durations, columns, strict=True))
    facts = {**facts, "fitted_to": dict(counts)}
    return fit_calibrator(table, speakers, qualities, kind="cosine", provenance=facts)


LIMITS = (
    "Measured on read English sentences of 2 to 6 s (one session per speaker) and on 1-s English words (many devices), "
    "16 kHz, little noise. Target trials are of one session, where a voice is more alike than from day to day. Not "
    "measured: telephone, far microphones, other languages, whispering, siblings, recordings above 10 s. For your own "
    "recordings fit your own: alpha-sv calibrate."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="campplus")
    parser.add_argument("--corpora", nargs="+", default=["speechocean762", "speech_commands", "librispeech"])
    parser.add_argument("--calibrator", type=Path, help="fit it too, and write it here")
    a = parser.parse_args()
    model = load_model(a.model)
    corpora = [a.data / name for name in a.corpora]
    calibrator = None
    if a.calibrator:
        facts = {"model": a.model, "score": "cosine", "limits": LIMITS, "made_by": "benchmarks/pretrained.py"}
        calibrator, unheard = calibrate(model, corpora, facts)
        calibrator.save(a.calibrator)
        print(f"{a.calibrator}: LLR = {calibrator.offset:.2f} + {calibrator.weight:.2f} cosine + durations")
        print(f"on unheard training speakers: Cllr {unheard['cllr']:.3f}, minCllr {unheard['min_cllr']:.3f}\n")
    print(
        "| trials_dev | target + nontarget | EER | FNR at FPR 1 % | at 0.1 % | Cllr | minCllr | accepted at LLR 4.6 |"
    )
    print("|:--|--:|--:|--:|--:|--:|--:|--:|")
    for corpus in corpora:
        trials = read_trials(corpus / "trials_dev.txt")
        scores, durations = score(model, corpus / "wav", trials.enroll, trials.test)
        target, nontarget = scores[trials.labels], scores[~trials.labels]
        rates = [float(eer(target, nontarget)[0])]
        rates += [float(fnr_at_fpr(target, nontarget, fpr)[0]) for fpr in (0.01, 0.001)]
        cells = [corpus.name, f"{len(target):,} + {len(nontarget):,}", *(f"{100 * rate:.2f} %" for rate in rates)]
        if calibrator:
            every = calibrator.llrs(scores, durations)
            llrs = every[trials.labels], every[~trials.labels]
            accepted = [100 * np.mean(side >= calibrator.threshold("p_target 0.01")) for side in llrs]
            cells += [f"{cllr(*llrs):.3f}", f"{min_cllr(*llrs):.3f}", f"{accepted[0]:.1f} %, {accepted[1]:.2f} %"]
        else:
            cells += ["", "", ""]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
