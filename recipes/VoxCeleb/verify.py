#!/usr/bin/env python3
"""Score a trained model on VoxCeleb's trial lists, and write its rows of the results table.

    python verify.py results/ecapa_c512_q_margin/1234 --prepared results/voxceleb/prepared \\
        --trials veri_test2.txt list_test_all2.txt list_test_hard2.txt --device cuda

Embeddings → cosine → AS-norm against the means of the training speakers → error rates,
with intervals over speakers. In the output folder, <run>/verify:

    <list>_cosine.txt, <list>_as-norm.txt     scores, each with a note of what it was made from
    <list>_metrics.json, <list>_report.html
    table.md                                  a row per scoring, as in WeSpeaker's tables, and below
                                              it the errors at low FPR

With --calibration-trials (valid_trials.txt of the prepared folder, say) there is a third
scoring, <list>_qmf.txt: AS-norm calibrated to LLRs, with durations and cohort statistics as
quality measures, on that list.

All lists share one extraction and one set of cohort statistics, and both are kept: run it again
after an interruption, or with other lists, and it continues. A list with a speaker that trained the
model is refused. A list of another length than the published one goes by its file name and its
length, not by the published name.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from trial_lists import Listed, read_list, refuse_heard, require_prepared

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.device import HELP, device_for
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.embedding.store import EmbeddingStore
from alpha_sv.files import atomic_write
from alpha_sv.pipeline.calibrate import fit_calibrator
from alpha_sv.pipeline.evaluate import evaluate_files, write_json
from alpha_sv.pipeline.provenance import save_scores, source
from alpha_sv.pipeline.score import cohort_matrix, cohort_source, cohort_utterances, embedder_source
from alpha_sv.pipeline.speakers import sides_speakers
from alpha_sv.report import load_log, to_markdown, write_report
from alpha_sv.report.wording import percent
from alpha_sv.sb.trained_run import read_run
from alpha_sv.scoring import as_norm, cohort_qualities, duration_qualities, score_trials, trial_statistics
from alpha_sv.scoring.cohort_cache import Stats

P_TARGET = 0.01  # of the minDCF in the table of results


def main(argv: Sequence[str] | None = None) -> Path:
    """From the command line to the tables; returns the path of table.md."""
    a = parse(argv)
    run, utterances = read_run(a.run), read_manifest(a.prepared / "manifest.csv")
    heldout = [u for u in utterances if u.split != "train"]
    lists = [read_list(path) for path in a.trials]
    calibration = [read_list(a.calibration_trials)] if a.calibration_trials else []
    refuse_heard(run, lists, calibration)
    require_prepared(lists + calibration, heldout)

    # Test utterances, whatever the lists, and the cohort: each is extracted once.
    embedder, output = SpeakerEmbedder.load(run.folder / "model"), a.output or run.folder / "verify"
    options = {"batch_size": a.batch_size, "device": device_for(embedder, a.device), "workers": a.workers}
    store = extract(embedder, heldout, output / "embeddings", **options)
    most = a.cohort_utterances_per_speaker
    cohort_store = extract(
        embedder,
        cohort_utterances(utterances, run.speakers, most),
        output / f"embeddings_cohort_{most or 'all'}",
        **options,
    )
    cohort = cohort_matrix(cohort_store, "train", frozenset().union(*(one.speakers for one in lists + calibration)))

    # What each test utterance scores against the cohort; every list looks it up.
    everyone, cache = Trials(store.ids, store.ids), output / "cohort_statistics"
    (statistics,) = trial_statistics(everyone, store, cohort, a.top_n, ["enroll"], cache)
    seconds = np.array([u.duration for u in heldout])
    kinds = {"cosine": "cosine", "as-norm": f"as-norm top {a.top_n}", "qmf": "llr"}
    scored = [score(one.trials, store, statistics, seconds) for one in lists + calibration]
    tables = [{"as-norm": normed, "cosine": cosine} for cosine, normed, _ in scored[: len(lists)]]
    if calibration:
        _, normed, qualities = scored[-1]
        calibrator, _ = fit_calibrator(normed, sides_speakers(normed), qualities, kind=kinds["as-norm"])
        calibrator.save(output / "calibrator.json")
        for table, (_, normed, qualities) in zip(tables, scored, strict=False):
            table["qmf"] = calibrator.apply(normed, qualities)

    cells = {
        "model": _architecture(embedder.config),
        "params": f"{sum(p.numel() for p in embedder.parameters()) / 1e6:.2f} M",
        "loss": run.losses,
        "LM": "yes" if run.large_margin else "no",
        "AS-norm": f"top {a.top_n} of {len(cohort):,} speaker means ({most or 'all'} utterances each)",
    }
    sources = {"model": embedder_source(run.folder / "model"), "cohort": cohort_source(cohort_store, "train")}
    log = run.folder / "train_log.jsonl"
    page = {"facts": cells, "log": load_log(log) if log.is_file() else None}
    metrics = {
        one.title: evaluate(one, table, sources, kinds, a.command, output, page)
        for one, table in zip(lists, tables, strict=True)
    }
    text = results_table(metrics, cells) + "\n" + low_fpr_tables(metrics)
    with atomic_write(output / "table.md") as file:
        file.write(text)
    print(text)
    return output / "table.md"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, and `command`: what was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="output folder of train.py")
    parser.add_argument("--prepared", type=Path, required=True, help="folder of prepare.py, with these trial lists")
    parser.add_argument("--trials", type=Path, nargs="+", required=True, help="labelled trial lists")
    parser.add_argument("--calibration-trials", type=Path, help="labelled list of other speakers, to fit the QMF to")
    parser.add_argument("--top-n", type=int, default=300, help="cohort speakers nearest to an utterance, for AS-norm")
    parser.add_argument(
        "--cohort-utterances-per-speaker", type=int, metavar="N", help="of the cohort's means; all if not given"
    )
    parser.add_argument("--device", help=HELP)
    parser.add_argument("--batch-size", type=int, default=32, help="of equal length; no score depends on it")
    parser.add_argument("--workers", type=int, default=8, help="threads that read audio")
    parser.add_argument("--output", type=Path, help="folder; by default <run>/verify")
    a = parser.parse_args(argv)
    if (a.cohort_utterances_per_speaker or 1) < 1:
        parser.error("--cohort-utterances-per-speaker must be at least 1")
    if len({path.stem for path in a.trials}) < len(a.trials):
        parser.error("two trial lists have the same name, which names their scores; rename one")
    a.command = shlex.join(["python", "verify.py", *(sys.argv[1:] if argv is None else argv)])
    return a


def score(
    trials: Trials, store: EmbeddingStore, statistics: Stats, seconds: np.ndarray
) -> tuple[ScoreTable, ScoreTable, dict[str, np.ndarray]]:
    """Cosines, AS-norm and quality measures of a list,
    given the cohort statistics and duration of every row."""
    cosine, mean, std = score_trials(trials, store), *statistics
    rows = [store.rows(side.tolist()) for side in (trials.enroll, trials.test)]
    sides = [(mean[side], std[side]) for side in rows]
    normed = ScoreTable(trials.enroll, trials.test, as_norm(cosine.scores, *sides), trials.labels)
    return cosine, normed, {**duration_qualities(*(seconds[side] for side in rows)), **cohort_qualities(*sides)}


def evaluate(
    one: Listed, tables: Mapping, sources: Mapping, kinds: Mapping, command: str, output: Path, page: Mapping
) -> dict:
    """Write the scores, metrics.json and report of one list; returns the metrics."""
    used = {"trials": source(one.path), "model": sources["model"]}
    files = []
    for name, table in tables.items():
        files.append((name, str(output / f"{one.path.stem}_{name}.txt")))
        further = {} if name == "cosine" else {"cohort": sources["cohort"]}
        if name == "qmf":
            further["calibrator"] = source(output / "calibrator.json")
        save_scores(files[-1][1], table, {**used, **further}, [command], kinds[name])
    metrics = evaluate_files(files, str(one.path), llr=[name for name in tables if name == "qmf"], baseline="cosine")
    write_json(output / f"{one.path.stem}_metrics.json", metrics)
    title = f"{page['facts']['model']} on {one.title}"
    write_report(output / f"{one.path.stem}_report.html", metrics, title=title, **page)
    return metrics


def results_table(metrics: Mapping[str, Mapping], cells: Mapping[str, str]) -> str:
    """A row a scoring in Markdown, EER and minDCF of every list."""
    header = [*cells, "QMF", *(f"{title} {what}" for title in metrics for what in ("EER %", f"minDCF({P_TARGET})"))]
    lines = [_row(header), "|" + ":--|" * (len(cells) + 1) + "--:|" * (2 * len(metrics))]
    systems = [{system["name"]: system for system in found["systems"]} for found in metrics.values()]
    for name in ("cosine", "as-norm", "qmf"):
        if name in systems[0]:
            row = {**cells, "QMF": "yes" if name == "qmf" else "no"}
            row |= {"AS-norm": "no"} if name == "cosine" else {}
            errors = (
                cell
                for system in systems
                for cell in (percent(system[name]["eer"]["value"], 3), f"{_min_dcf(system[name]):.4f}")
            )
            lines.append(_row([*row.values(), *errors]))
    note = f"minDCF at p_target {P_TARGET}, costs 1, divided by the cost {P_TARGET} of accepting nobody."
    return "\n".join([*lines, "", note, ""])


def low_fpr_tables(metrics: Mapping[str, Mapping]) -> str:
    """The errors at low false-acceptance rates of every list, with their intervals."""
    return "\n".join(f"### {title}\n\n{to_markdown(found)}" for title, found in metrics.items())


def _min_dcf(system: Mapping) -> float:
    return next(entry["value"] for entry in system["min_dcf"] if entry["p_target"] == P_TARGET)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _architecture(config: Mapping) -> str:
    width = f" c{config['channels'][0]}" if "channels" in config else ""
    return f"{config['architecture']}{width}, {config['embedding_dim']}-d"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main()
    except ValueError as error:
        sys.exit(f"verify.py: error: {error}")
