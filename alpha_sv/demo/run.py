"""The embedded demo: a synthetic corpus, a small ECAPA-TDNN,
and the whole chain to a report, on two CPU cores.

Every step keeps what it finished: run it again and it continues, or ends at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.trials.files import read_trials
from alpha_sv.demo.corpus import build_corpus
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.files import folder_lock
from alpha_sv.pipeline.calibrate import fit_calibrator
from alpha_sv.pipeline.evaluate import evaluate_files, write_json
from alpha_sv.pipeline.provenance import save_scores, source
from alpha_sv.pipeline.score import cohort_matrix, cohort_source, embedder_source, score_store, trial_speakers
from alpha_sv.pipeline.speakers import sides_speakers
from alpha_sv.report import load_log, write_report
from alpha_sv.sb.experiment import hold, run

LOSSES = {
    "q_margin": "!new:alpha_sv.losses.QMargin {alpha: 1.5, scale: 10.0}",
    "a3m": "!new:alpha_sv.losses.A3M {alpha: 1.5, scale: 10.0}",
    "am": "!new:alpha_sv.losses.AMSoftmax {scale: 30.0}",
    "aam": "!new:alpha_sv.losses.AAMSoftmax {scale: 30.0}",
}
TOP_N = 30  # of the training speakers, the cohort
AS_NORM = f"as-norm top {TOP_N}"  # what `alpha-sv score` calls these scores
SHOWN = 5  # of the epochs, every fifth is told


def run_demo(loss: str = "q_margin", output: str | os.PathLike | None = None, seed: int = 1234) -> Path:
    """Corpus → training → embeddings → scores → AS-norm →
    LLRs → metrics → report; returns the path of the report.

    Parameters
    ----------
    loss : {"q_margin", "a3m", "am", "aam"}
        The loss to train with; all else is the same.
    output : path-like, optional
        Folder; by default results/demo, and results/demo_<loss> for the other losses.
        The corpus lies beside it.
    seed : int
        Seed of the corpus, the initial weights and the training.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    folder = Path(output) if output else Path("results") / ("demo" if loss == "q_margin" else f"demo_{loss}")
    folder = folder.resolve()
    started = time.monotonic()
    print(f"Demo: synthetic speech, a small network trained on it with {loss}, and what that is worth.")
    print("It takes some minutes on two cores; interrupt it as you like, the same command continues.")

    hold(folder)  # until the end of the training
    print("1/5  Corpus: 80 synthetic speakers in four sessions each", flush=True)
    corpus = build_corpus(folder.parent / "demo_corpus", seed=seed, progress=sys.stderr.isatty())

    print("2/5  Training an ECAPA-TDNN on 52 of them, without the 20 of the trials and 8 for development", flush=True)
    with _quiet():
        model = run(
            [
                str(Path(__file__).with_name("demo.yaml")),
                f"--data_folder={corpus / 'wav'}",
                f"--trials={corpus / 'trials.txt'}",
                f"--noise_folder={corpus / 'noise'}",
                f"--rir_folder={corpus / 'rir'}",
                f"--output_folder={folder}",
                f"--seed={seed}",
                f"--loss={LOSSES[loss]}",
                "--noprogressbar",
            ]
        )

    with folder_lock(folder):
        report, metrics = _evaluate(corpus, folder, model, loss, seed)
    print(_closing(report, metrics, time.monotonic() - started))
    return report


def _evaluate(corpus: Path, folder: Path, model: Path, loss: str, seed: int) -> tuple[Path, dict]:
    """Steps 3 to 5."""
    print("3/5  Embeddings, and mean spectra to compare them with", flush=True)
    utterances = read_manifest(folder / "manifest.csv")
    embedder = SpeakerEmbedder.load(model)
    store = extract(embedder, utterances, folder / "embeddings", progress=False)
    baseline = SpeakerEmbedder("mean_fbank", 80)
    baseline_store = extract(
        baseline,
        [u for u in utterances if u.split == "test"],
        folder / "embeddings_mean_fbank",
        progress=False,
    )

    print("4/5  Scores, AS-norm, calibration, metrics", flush=True)
    command = "alpha-sv demo" + ("" if loss == "q_margin" else f" --loss {loss}")
    trials_file, dev_file = corpus / "trials.txt", folder / "valid_trials.txt"
    trials, dev_trials = read_trials(trials_file), read_trials(dev_file)
    cohort = cohort_matrix(store, "train", trial_speakers(store, trials) | trial_speakers(store, dev_trials))
    normed, dev_normed = (score_store(store, t, cohort, top_n=TOP_N, progress=False) for t in (trials, dev_trials))
    calibrator, _ = fit_calibrator(
        dev_normed, sides_speakers(dev_normed), kind=AS_NORM, provenance={"trials": source(dev_file)}
    )
    calibrator.save(folder / "calibrator.json")
    listed = {"trials": source(trials_file)}
    ours = {**listed, "model": embedder_source(model)}
    with_cohort = {**ours, "cohort": cohort_source(store, "train")}
    systems = {
        "as-norm": ("scores_as_norm.txt", normed, with_cohort, AS_NORM),
        "cosine": ("scores.txt", score_store(store, trials, progress=False), ours, "cosine"),
        "mean fbank": ("scores_mean_fbank.txt", score_store(baseline_store, trials, progress=False), listed, "cosine"),
        "calibrated": ("llrs.txt", calibrator.apply(normed), with_cohort, "llr"),
    }
    for file, table, sources, kind in systems.values():
        save_scores(folder / file, table, sources, [command], kind)
    metrics = evaluate_files(
        [(name, str(folder / file)) for name, (file, *_) in systems.items()],
        llr=["calibrated"],
        baseline="cosine",
        progress=False,
    )
    write_json(folder / "metrics.json", metrics)

    print("5/5  Report", flush=True)
    report = write_report(
        folder / "report.html",
        metrics,
        load_log(folder / "train_log.jsonl"),
        title="Demo: speaker verification on a synthetic corpus",
        facts={
            "Loss": LOSSES[loss].removeprefix("!new:alpha_sv.losses."),
            "Embedder": f"ECAPA-TDNN, {sum(p.numel() for p in embedder.parameters()):,} parameters",
            "Cohort": f"means of {len(cohort)} training speakers, top {TOP_N}",
            "Seed": str(seed),
            "Calibration": f"fitted to {len(dev_trials):,} trials of the development speakers, AS-normed",
        },
        notes=["The speakers are synthetic: the figures show that the chain works, not how it does on human speech."],
    )
    return report, metrics


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a training says stays in its log.txt,
    but for warnings and one line for every fifth epoch."""
    root, ours = logging.getLogger(), logging.getLogger("alpha_sv")
    before, told = (root.handlers[:], root.level), _Told(sys.stdout)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        root.handlers = [logging.StreamHandler(nowhere)]  # until SpeechBrain sets its own, on standard output
        ours.addHandler(told)
        try:
            yield
        finally:
            root.handlers = before[0]
            root.setLevel(before[1])  # SpeechBrain lets everything through and filters in its handlers
            ours.removeHandler(told)


class _Told(logging.Handler):
    def __init__(self, stream: TextIO):
        super().__init__(logging.INFO)
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            print(f"     {record.getMessage()}", file=self.stream, flush=True)
        found = re.match(r"epoch (\d+), .*development EER ([\d.]+) %", record.getMessage())
        if found and int(found[1]) % SHOWN == 0:
            print(f"     epoch {found[1]}: EER {found[2]} % on the development trials", file=self.stream, flush=True)


def _closing(report: Path, metrics: Mapping, seconds: float) -> str:
    """What came out, what to look at, what to do next."""
    eer = {system["name"]: f"{100 * system['eer']['value']:.1f} %" for system in metrics["systems"]}
    folder = Path(os.path.relpath(report.parent))
    return f"""
EER {eer["as-norm"]} with AS-norm, {eer["cosine"]} without, {eer["mean fbank"]} of the mean spectrum ({seconds:.0f} s).
Look at  {folder / report.name}: which difference is real, and where there are too few errors to tell
         {folder / "log.txt"}: what the training said
Next     alpha-sv demo --verify              a decision of a pretrained model, in seconds
         alpha-sv compare {folder / "scores.txt"} {folder / "scores_as_norm.txt"}
         docs/tutorials/train.md             the same with your own speech"""
