"""The command line: one verb for each arrow between two files.

speech ─prepare→ manifest.csv ─train→ model/ ─extract→ embeddings/
embeddings/ ─score→ scores.txt ─evaluate→ metrics.json ─report→ report.html
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from alpha_sv import __version__

EXAMPLES = """\
the whole chain:
  alpha-sv prepare wav/ --trials trials.txt --num-valid-speakers 20 -o exp/
  alpha-sv train recipes/SpeakerTree/hparams/ecapa.yaml --data_folder=wav/ --trials=trials.txt --output_folder=exp/
  alpha-sv extract exp/model exp/manifest.csv -o exp/embeddings
  alpha-sv score exp/embeddings trials.txt -o exp/scores.txt
  alpha-sv score exp/embeddings trials.txt --norm as-norm --top-n 300 -o exp/scores_as_norm.txt
  alpha-sv evaluate exp/scores.txt exp/scores_as_norm.txt -o exp/metrics.json
  alpha-sv report exp/metrics.json --log exp/train_log.jsonl -o exp/report.html

only a scores file:
  alpha-sv evaluate scores.txt            (SpeechBrain, WeSpeaker and Kaldi layouts are told apart by themselves)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `alpha-sv`; returns the exit status. Errors of use are one line on standard error."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["train"] and not {"-h", "--help"} & set(argv):  # every key of the recipe is an option there
        return _guarded(_train, argv[1:])
    arguments = build_parser().parse_args(argv)
    return _guarded(arguments.run, arguments)


def _guarded(function, arguments) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("speechbrain.utils.quirks").setLevel(logging.WARNING)  # it would speak first, about itself
    try:
        function(arguments)
    except ModuleNotFoundError:
        raise  # a broken installation: the traceback says where
    except (ValueError, OSError, ImportError) as error:
        print(f"alpha-sv: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("alpha-sv: interrupted; run the same command again to continue", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb; importing torch waits until a verb runs, so `--help` answers at once."""
    parser = argparse.ArgumentParser(
        prog="alpha-sv",
        description="Speaker verification with α-divergence losses. Each verb reads one file and writes one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"alpha-sv {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run, summary: str, description: str = "") -> argparse.ArgumentParser:
        sub = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {description}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = verb(
        "prepare",
        _prepare,
        "scan and check trees of speech, write a manifest",
        "A tree is <folder>/<speaker>/<session>/<utterance>.wav (or flac, ogg, opus). Speakers of the trials never "
        "enter training. Damaged files are listed in audit.csv and left out.",
    )
    sub.add_argument("data_folder", nargs="+", help="one or more trees; utterance ids are paths relative to them")
    sub.add_argument("-o", "--output", required=True, help="folder for manifest.csv, audit.csv, valid_trials.txt")
    sub.add_argument("--trials", action="append", default=[], help="test trial list; may be repeated")
    sub.add_argument(
        "--exclude-speakers",
        action="append",
        default=[],
        help="a speaker, or a file with one a line, to leave out",
    )
    sub.add_argument(
        "--num-valid-speakers",
        type=int,
        default=0,
        help="training speakers held out to make development trials from",
    )
    sub.add_argument("--sample-rate", type=int, default=16000, help="Hz that every file must have")
    sub.add_argument(
        "--audit", choices=("full", "headers"), default="full", help="decode every file, or only read headers"
    )
    sub.add_argument("--seed", type=int, default=1234, help="of the choice of development speakers and trials")

    sub = verb("train", None, "train an embedder from a recipe", "Every key of the YAML is an option: --key=value.")
    sub.add_argument("recipe", help="HyperPyYAML file, e.g. recipes/SpeakerTree/hparams/ecapa.yaml")
    sub.add_argument("--trust_yaml", action="store_true", help="let the YAML build classes that are not on our list")

    sub = verb(
        "extract",
        _extract,
        "embed the utterances of a manifest",
        "Run it again after an interruption: it continues.",
    )
    sub.add_argument("model", help="folder of a saved embedder")
    sub.add_argument("manifest", help="manifest.csv of `prepare` or `train`")
    sub.add_argument("-o", "--output", required=True, help="folder of the embedding store")
    sub.add_argument("--split", choices=("train", "valid", "test"), help="only this split; all if not given")
    sub.add_argument(
        "--batch-size",
        type=_positive,
        default=32,
        help="utterances of equal length at once; no score depends on it",
    )
    sub.add_argument("--device", default="cpu", help="cpu, cuda, mps")

    sub = verb(
        "score",
        _score,
        "score the trials of a list",
        "Cosine, optionally normalised against a cohort of speakers.",
    )
    sub.add_argument("embeddings", help="embedding store")
    sub.add_argument("trials", help="trial list: VoxCeleb (1 a b), Kaldi (a b target) or unlabelled (a b)")
    sub.add_argument("-o", "--output", required=True, help="scores file: enroll test score target|nontarget")
    sub.add_argument("--norm", choices=("none", "z-norm", "t-norm", "s-norm", "as-norm"), default="none")
    sub.add_argument("--cohort", help="embedding store of the cohort; by default EMBEDDINGS itself")
    sub.add_argument("--cohort-split", default="train", help="the split of the cohort store to use")
    sub.add_argument("--cohort-unit", choices=("speaker", "utterance"), default="speaker", help="one cohort entry per")
    sub.add_argument("--top-n", type=_positive, default=300, help="nearest cohort entries per utterance, for as-norm")

    sub = verb(
        "evaluate",
        _evaluate,
        "compute EER, minDCF and FNR at low FPR of scores files",
        "Reads SpeechBrain, WeSpeaker and Kaldi layouts. Give NAME=FILE to name a system.",
    )
    sub.add_argument("scores", nargs="+", help="scores file, or name=file; several make one table")
    sub.add_argument("--trials", help="labelled trial list, for scores files without labels")
    sub.add_argument("--layout", help="name of the layout, if a file can be read in two ways")
    sub.add_argument("-o", "--output", help="metrics.json")

    sub = verb("report", _report, "draw metrics.json as one self-contained HTML page")
    sub.add_argument("metrics", help="metrics.json of `evaluate`")
    sub.add_argument("-o", "--output", required=True, help="report.html")
    sub.add_argument("--log", help="train_log.jsonl of `train`, for the loss and sparsity curves")
    sub.add_argument("--title", default="Speaker verification report")
    sub.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE", help="a line for the list of facts")

    sub = verb(
        "demo",
        _demo,
        "build a synthetic corpus, train on it and report, in a few minutes",
        "Needs the extra: pip install 'alpha_sv[demo]'.",
    )
    sub.add_argument("--loss", choices=("q_margin", "a3m", "am", "aam"), default="q_margin")
    sub.add_argument("--output", help="folder; by default results/demo, or results/demo_<loss> for another loss")
    sub.add_argument("--seed", type=int, default=1234)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _prepare(a) -> None:
    from alpha_sv.data.trees import prepare_tree

    manifest = prepare_tree(
        a.data_folder,
        a.output,
        trials=a.trials,
        exclude_speakers=a.exclude_speakers,
        num_valid_speakers=a.num_valid_speakers,
        sample_rate=a.sample_rate,
        audit=a.audit,
        seed=a.seed,
    )
    print(manifest)


def _train(argv: list[str]) -> None:
    if not argv:
        raise ValueError("train needs a recipe, e.g. recipes/SpeakerTree/hparams/ecapa.yaml; see alpha-sv train --help")
    from alpha_sv.sb.experiment import run

    print(run(argv))


def _extract(a) -> None:
    from alpha_sv.data.manifest import read_manifest
    from alpha_sv.embedding.embedders import SpeakerEmbedder
    from alpha_sv.embedding.extract import extract

    utterances = read_manifest(a.manifest, split=a.split)
    print(extract(SpeakerEmbedder.load(a.model), utterances, a.output, a.batch_size, a.device).path)


def _score(a) -> None:
    from alpha_sv.data.trials import read_trials, write_scores
    from alpha_sv.embedding.store import EmbeddingStore
    from alpha_sv.pipeline import cohort_matrix, score_store, trial_speakers

    store, trials, cohort = EmbeddingStore.open(a.embeddings), read_trials(a.trials), None
    if a.norm != "none":
        cohort_store = EmbeddingStore.open(a.cohort) if a.cohort else store
        speakers = trial_speakers(store, trials)
        cohort = cohort_matrix(cohort_store, a.cohort_split, speakers, per_speaker=a.cohort_unit == "speaker")
    table = score_store(store, trials, cohort, a.norm, a.top_n)
    write_scores(a.output, table)
    print(a.output)


def _evaluate(a) -> None:
    from alpha_sv.pipeline import evaluate_files, write_metrics
    from alpha_sv.report import to_markdown

    # a file name may hold "=" itself
    systems = [("", given) if os.path.exists(given) else _named(given) for given in a.scores]
    metrics = evaluate_files(systems, trials=a.trials, layout=a.layout)
    if a.output:
        write_metrics(a.output, metrics)
    print(to_markdown(metrics))


def _named(given: str) -> tuple[str, str]:
    name, equals, file = given.partition("=")
    return (name, file) if equals else ("", given)


def _report(a) -> None:
    from alpha_sv.report import load_log, load_metrics, write_report

    if bad := [fact for fact in a.fact if "=" not in fact]:
        raise ValueError(f"--fact takes NAME=VALUE, got {bad[0]!r}")
    facts = dict(fact.split("=", 1) for fact in a.fact)
    write_report(a.output, load_metrics(a.metrics), load_log(a.log) if a.log else None, title=a.title, facts=facts)
    print(a.output)


def _demo(a) -> None:
    from alpha_sv.demo import run_demo

    run_demo(a.loss, a.output, a.seed)


if __name__ == "__main__":
    sys.exit(main())
