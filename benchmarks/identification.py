"""Who is it, or a stranger?
Open-set identification on speakers that neither the model nor the calibrator has heard.

    python benchmarks/identification.py DATA --model campplus --calibrator CALIBRATOR

DATA/<corpus>/wav/<speaker>/<session>/<file> and DATA/<corpus>/speakers.tsv (speaker, split). Half
of the test speakers are enrolled with some files each, their other files and all files of the other
half are searches; all of this for a hundred random halves. Thresholds are those that a gallery
takes, `alpha_sv.verify.open_set.gallery_threshold`: nothing is tuned here. Intervals are Clopper's
and Pearson's and count people, each with the share of his or her searches that err: the files and
halves of one person are no independent evidence.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from alpha_sv.data.audio import read_header
from alpha_sv.scoring import Calibrator
from alpha_sv.verify.evidence import Sounds, cosines, nats, require_pairs
from alpha_sv.verify.model import load_model
from alpha_sv.verify.open_set import Candidate, clopper_pearson, decide, gallery_threshold

POINTS = ("fpr 1e-2", "fpr 1e-3")


def test_files(corpus: Path, enough: int) -> tuple[list[Path], np.ndarray]:
    """Files and speakers of the test split, of those who have `enough` files."""
    with open(corpus / "speakers.tsv", newline="", encoding="utf-8") as file:
        names = sorted(row["speaker"] for row in csv.DictReader(file, delimiter="\t") if row["split"] == "test")
    files, speakers = [], []
    for name in names:
        found = sorted(path for path in (corpus / "wav" / name).rglob("*") if path.is_file())
        if len(found) >= enough:
            files += found
            speakers += [name] * len(found)
    return files, np.array(speakers)


class Tally:
    """Errors and searches of each person."""

    def __init__(self):
        self.errors, self.searches = defaultdict(float), defaultdict(int)

    def add(self, person: str, error: bool) -> None:
        self.errors[person] += error
        self.searches[person] += 1

    def __str__(self) -> str:
        shares = [self.errors[person] / count for person, count in self.searches.items()]
        rate = sum(self.errors.values()) / max(1, sum(self.searches.values()))
        low, high = clopper_pearson(sum(shares), len(shares))
        return f"{100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def search(llrs, speakers, takes: int, calibrator: Calibrator, point: str, halves: int) -> list[str]:
    """Cells of a row of the table: N, threshold, FPIR, FNIR, rank-1, too close, known but wrong.

    `llrs` [T, T] are those of all pairs of files.
    """
    rng = np.random.default_rng(0)
    people = np.unique(speakers)
    fpir, fnir, first, close, wrong = (Tally() for _ in range(5))
    for _ in range(halves):
        enrolled = sorted(rng.permutation(people)[: len(people) // 2])
        chosen = [rng.permutation(np.flatnonzero(speakers == person))[:takes] for person in enrolled]
        used = set(np.concatenate(chosen).tolist())
        threshold = gallery_threshold(calibrator, point, len(enrolled))
        if threshold.value is None:
            return [str(len(enrolled)), threshold.basis, *[""] * 5]
        means = np.stack([llrs[:, rows].mean(axis=1) for rows in chosen], axis=1)
        for row, person in enumerate(speakers):
            if row in used:
                continue
            order = np.argsort(-means[row])[:2]
            best = [Candidate(enrolled[i], 0.0, means[row, i]) for i in order]
            found = decide(best, threshold, best[0].llr - best[1].llr)
            passes = best[0].llr >= threshold.value
            if person not in enrolled:
                fpir.add(person, passes)
                wrong.add(person, found.verdict == "known")
            else:
                fnir.add(person, not (best[0].name == person and passes))
                first.add(person, best[0].name == person)
                close.add(person, found.verdict == "too close")
                wrong.add(person, found.verdict == "known" and found.name != person)
    return [str(len(enrolled)), f"{threshold.value:.2f}", *map(str, (fpir, fnir, first, close, wrong))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="campplus")
    parser.add_argument("--calibrator", type=Path, help="instead of the model's own")
    parser.add_argument("--corpora", nargs="+", default=["speechocean762", "librispeech", "speech_commands"])
    parser.add_argument("--halves", type=int, default=100)
    parser.add_argument("--points", nargs="+", default=POINTS, help="operating points of the calibrator")
    a = parser.parse_args()
    model = load_model(a.model)
    calibrator = Calibrator.load(a.calibrator) if a.calibrator else model.calibrator
    if calibrator is None:
        raise SystemExit(f"{a.model} came without a calibrator; give --calibrator")
    require_pairs(calibrator)
    print("| corpus | files each | N | point | threshold (nats) | FPIR | FNIR | rank-1 | too close | known but wrong |")
    print("|:--|--:|--:|:--|--:|--:|--:|--:|--:|--:|")
    for name in a.corpora:
        files, speakers = test_files(a.data / name, 4)
        lengths = [frames / rate for frames, rate, _ in map(read_header, files)]
        sounds = Sounds.of(model.embed(files), np.array(lengths))
        llrs = nats(calibrator, cosines(sounds, sounds), sounds, sounds)
        for takes in (1, 3):
            for point in a.points:
                n, *cells = search(llrs, speakers, takes, calibrator, point, a.halves)
                print(f"| {name} | {takes} | {n} | {point} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
