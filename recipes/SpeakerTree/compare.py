#!/usr/bin/env python3
"""Train the same embedder with several losses on several corpora pooled, and compare them on each corpus's trials.

    python compare.py --data /corpora --output results/real_speech --write ../../docs/results.md

/corpora holds <corpus>/wav/<speaker>/<session>/<utterance> and <corpus>/trials_dev.txt for each corpus named,
and noise/wav and rir/wav for augmentation. The speakers of the trials enter neither training, nor the choice of a
checkpoint, nor the cohort.
Beside the losses stand the same network untrained and the mean log spectrum. An interrupted comparison continues.
"""

from __future__ import annotations

import argparse
import itertools
import re
from pathlib import Path

from speechbrain.utils import seed_everything

from alpha_sv.data.files import atomic_write
from alpha_sv.data.manifest import read_manifest
from alpha_sv.data.trials import read_trials
from alpha_sv.embedding.embedders import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.pipeline.evaluation import compare_files, evaluate_files, write_json
from alpha_sv.pipeline.scores import cohort_matrix, cohort_source, embedder_source, score_store, trial_speakers
from alpha_sv.pipeline.sources import save_scores, source
from alpha_sv.report import load_log, write_report
from alpha_sv.sb.experiment import run

HPARAMS = Path(__file__).parent / "hparams"
LOSSES = {
    "Q-Margin": "!new:alpha_sv.losses.QMargin {alpha: 1.5, scale: 10.0}",
    "A3M": "!new:alpha_sv.losses.A3M {alpha: 1.5, scale: 10.0}",
    "AM (CosFace)": "!new:alpha_sv.losses.AMSoftmax {scale: 30.0}",
    "AAM (ArcFace)": "!new:alpha_sv.losses.AAMSoftmax {scale: 30.0}",
}
AS_NORM = " + AS-norm"
OURS, BASELINES = ("Q-Margin", "A3M"), ("AM (CosFace)", "AAM (ArcFace)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--corpora", nargs="+", default=["speechocean762", "speech_commands", "librispeech"])
    parser.add_argument("--output", type=Path, default=Path("results/real_speech"))
    parser.add_argument("--model", default="ecapa", help="a recipe in hparams/")
    parser.add_argument("--top-n", type=int, default=200, help="training speakers in each AS-norm statistic")
    parser.add_argument("--only", nargs="+", choices=LOSSES, help="train these losses only, e.g. one a machine")
    parser.add_argument("--write", type=Path, help="Markdown file whose table to replace")
    arguments, recipe_options = parser.parse_known_args()  # the rest, --key=value, goes to every training run
    output, corpora = (
        arguments.output.resolve(),
        [arguments.data.resolve() / name for name in arguments.corpora],
    )

    models = {}
    for name, loss in LOSSES.items():
        if not arguments.only or name in arguments.only:
            models[name] = train(name, loss, corpora, arguments, output, recipe_options)
    if arguments.only:
        return
    trained = SpeakerEmbedder.load(next(iter(models.values())))
    embedders = {name: SpeakerEmbedder.load(folder) for name, folder in models.items()}
    seed_everything(1234)
    embedders["untrained network"] = SpeakerEmbedder(**trained.config)
    embedders["mean fbank"] = SpeakerEmbedder("mean_fbank", 80)

    manifest = output / slug("Q-Margin") / "manifest.csv"
    utterances = [u for u in read_manifest(manifest) if u.split in ("train", "test")]
    files = {corpus.name: [] for corpus in corpora}
    for name, embedder in embedders.items():
        folder = output / slug(name)
        store = extract(embedder, utterances, folder / "embeddings")
        for corpus in corpora:
            trials = read_trials(corpus / "trials_dev.txt")
            cohort = cohort_matrix(store, "train", trial_speakers(store, trials))
            sources = {"trials": source(corpus / "trials_dev.txt")}
            if name in models:
                sources["model"] = embedder_source(models[name])
            for suffix, used in (("", None), (AS_NORM, cohort)):
                path = folder / f"scores_{corpus.name}{'_as_norm' if suffix else ''}.txt"
                scores = score_store(store, trials, used, top_n=arguments.top_n, progress=False)
                save_scores(path, scores, sources | ({"cohort": cohort_source(store, "train")} if suffix else {}))
                files[corpus.name].append((name + suffix, str(path)))
    logs = {name: load_log(output / slug(name) / "train_log.jsonl") for name in LOSSES}
    results = {corpus: evaluate_files(systems, baseline=BASELINES[0]) for corpus, systems in files.items()}
    for corpus, result in results.items():
        write_json(output / f"metrics_{corpus}.json", result)
        shown = {**result, "systems": [s for s in result["systems"] if AS_NORM not in s["name"]]}
        pairs = [pair for pair in result["comparison"]["pairs"] if AS_NORM not in pair["system"]]
        shown["comparison"] = {**result["comparison"], "pairs": pairs}
        write_report(output / f"report_{corpus}.html", shown, logs["Q-Margin"], title=f"Several losses on {corpus}")
    text = f"{table(results)}\n{difference_table(files)}\n{learning_table(logs)}"
    print(text)
    if arguments.write:
        old = arguments.write.read_text(encoding="utf-8")
        new = re.sub(r"(<!-- table -->\n).*(<!-- end of table -->)", lambda m: m[1] + text + m[2], old, flags=re.S)
        with atomic_write(arguments.write) as file:
            file.write(new)


def train(name: str, loss: str, corpora: list[Path], arguments, output: Path, options: list[str]) -> Path:
    """One training run; returns the folder of its embedder."""
    return run(
        [
            str(HPARAMS / f"{arguments.model}.yaml"),
            "--data_folder=" + str([str(corpus / "wav") for corpus in corpora]),
            "--trials=" + str([str(corpus / "trials_dev.txt") for corpus in corpora]),
            f"--noise_folder={arguments.data.resolve() / 'noise' / 'wav'}",
            f"--rir_folder={arguments.data.resolve() / 'rir' / 'wav'}",
            f"--output_folder={output / slug(name)}",
            f"--loss={loss}",
            *options,
        ]
    )


def slug(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").lower()


def table(results: dict) -> str:
    """Markdown: a row a system; EER % with its interval, minDCF(0.01), FNR at FPR 1 % in percent, raw → AS-norm."""
    corpora = list(results)
    lines = ["| system | " + " | ".join(f"{c}: EER % | minDCF | FNR@1 % FPR" for c in corpora) + " |"]
    lines.append("|---|" + "--:|" * (3 * len(corpora)))
    systems = {c: {s["name"]: s for s in result["systems"]} for c, result in results.items()}
    for name in systems[corpora[0]]:
        if name.endswith(AS_NORM):
            continue
        cells = []
        for corpus in corpora:
            pair = systems[corpus][name], systems[corpus][name + AS_NORM]
            eers = [(s["eer"]["value"], *s["intervals"]["eer"]) for s in pair]
            cells.append(" → ".join("{:.2f} [{:.1f}-{:.1f}]".format(*(100 * e for e in eer)) for eer in eers))
            cells.append(" → ".join(f"{s['min_dcf'][0]['value']:.3f}" for s in pair))
            points = [s["fnr_at_fpr"][0] for s in pair]
            cells.append(" → ".join(f"{100 * p['fnr']:.1f}" if p["supported"] else "n/a" for p in points))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def difference_table(files: dict[str, list[tuple[str, str]]]) -> str:
    """Markdown: each of our losses minus CosFace and minus ArcFace, in points with the 95 % interval (paired)."""
    head = " | ".join(f"{corpus}: EER | FNR@1 % FPR" for corpus in files)
    lines = [f"| difference, points | {head} |", "|---|" + "--:|" * (2 * len(files))]
    for suffix, baseline in itertools.product(("", AS_NORM), BASELINES):
        rows = {ours: [] for ours in OURS}
        for systems in files.values():
            paths = dict(systems)
            found = compare_files([(name, paths[name + suffix]) for name in (baseline, *OURS)])
            for pair in found["pairs"]:
                by_name = {entry["metric"]: entry for entry in pair["metrics"]}
                for metric in ("eer", "fnr at fpr 1e-2"):
                    entry = by_name.get(metric)
                    numbers = [100 * x for x in (entry["difference"], *entry["interval"])] if entry else []
                    rows[pair["system"]].append("{:+.2f} [{:+.1f}, {:+.1f}]".format(*numbers) if entry else "n/a")
        lines += [f"| {ours} − {baseline}{suffix} | {' | '.join(cells)} |" for ours, cells in rows.items()]
    return "\n".join(lines) + "\n"


def learning_table(logs: dict, epochs: tuple[int, ...] = (1, 2, 5, 10, 20, 30)) -> str:
    """Markdown: development EER in percent after some epochs, and the sparse regime over the last 20 logged steps."""
    head = [f"epoch {epoch}" for epoch in epochs] + ["active speakers", "zero loss %", "p_y = 0 %"]
    lines = ["| development EER % | " + " | ".join(head) + " |", "|---|" + "--:|" * len(head)]
    for name, log in logs.items():
        eers = {row["epoch"]: row["eer"] for row in log if row["kind"] == "valid"}
        last = [row for row in log if row["kind"] == "train"][-20:]
        cells = [f"{100 * eers[epoch]:.1f}" if epoch in eers else "" for epoch in epochs]
        for key, factor in (("support", 1), ("zero_loss", 100), ("zero_target", 100)):
            cells.append(f"{factor * sum(row[key] for row in last) / len(last):.1f}" if last else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
