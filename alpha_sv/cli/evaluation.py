"""The verbs from scores to a page: evaluate, compare, report."""

from __future__ import annotations

import argparse
import os

from alpha_sv.cli.streams import deliver
from alpha_sv.cli.verbs import not_negative, positive, typed, verb


def add_verbs(verbs: argparse._SubParsersAction) -> None:
    """evaluate, compare, report."""
    sub = verb(
        verbs,
        "evaluate",
        _evaluate,
        "compute EER, minDCF, FNR at low FPR, Cllr and their intervals of scores files",
        "alpha-sv evaluate cosine=exp/scores.txt as-norm=exp/scores_as_norm.txt -o exp/metrics.json",
        "Several systems are aligned by their trials and compared. Reads the layouts of SpeechBrain,\n"
        "WeSpeaker, Kaldi, VoxSRC and NIST.",
        reads=("scores", "trials", "speakers"),
        words=("layout", "llr", "baseline"),
    )
    _add_systems(sub, "0 for neither intervals nor a comparison", not_negative)
    sub.add_argument("-o", "--output", help="metrics.json")
    sub.add_argument("--json", action="store_true", help="print metrics.json instead of a table")

    sub = verb(
        verbs,
        "compare",
        _compare,
        "tell whether one system is better than another on the same trials",
        "alpha-sv compare cosface=a/scores.txt q_margin=b/scores.txt -o compare.json",
        "The differences are paired: both systems meet the same draws of speakers.",
        reads=("scores", "trials", "speakers"),
        words=("layout", "llr", "baseline"),
    )
    _add_systems(sub, "1,000 fix the bounds of an interval well", positive)
    sub.add_argument("-o", "--output", help="compare.json")
    sub.add_argument("--json", action="store_true", help="print compare.json instead of sentences and tables")

    sub = verb(
        verbs,
        "report",
        _report,
        "draw metrics.json as one self-contained HTML page, or write it as Markdown",
        "alpha-sv report exp/metrics.json --log exp/train_log.jsonl -o exp/report.html",
        reads=("metrics", "log"),
        words=("title", "fact"),
    )
    sub.add_argument("metrics", help="metrics.json of `evaluate`")
    sub.add_argument("-o", "--output", required=True, help="report.html, or a name that ends in .md for Markdown")
    sub.add_argument("--log", help="train_log.jsonl of `train`, for the loss and sparsity curves, or a table of them")
    sub.add_argument("--first", metavar="NAME", help="system of the headline; by default the one with the lowest EER")
    sub.add_argument("--title", default="Speaker verification report", help="heading of the page")
    sub.add_argument("--fact", action="append", default=[], metavar="NAME=VALUE", help="a line for the list of facts")


def _add_systems(sub: argparse.ArgumentParser, replicates: str, at_least) -> None:
    sub.add_argument("scores", nargs="+", help="scores file, or name=file; several on the same trials")
    sub.add_argument("--trials", help="labelled trial list: for scores without labels, and for its further columns")
    sub.add_argument("--layout", help="name of the layout of the scores files, if they can be read in two ways")
    sub.add_argument(
        "--llr",
        action="append",
        nargs="?",
        const="all",
        default=[],
        metavar="NAME",
        help="system whose scores are natural-log likelihood ratios, all if none is named; may be repeated",
    )
    sub.add_argument(
        "--speakers",
        help="manifest.csv or utt2spk that says who speaks; by default the first part of an utterance's name",
    )
    sub.add_argument(
        "--replicates",
        type=at_least,
        default=1000,
        help=f"resamplings of the speakers, for the intervals; {replicates}",
    )
    sub.add_argument("--baseline", metavar="NAME", help="system to compare with; by default the first")


def _systems(a: argparse.Namespace) -> dict:
    """The arguments of `evaluate_files` and `compare_files`."""
    # a file name may hold "=" itself
    files = [("", given) if os.path.exists(given) else _named(given) for given in a.scores]
    options = ("trials", "layout", "llr", "speakers", "replicates", "baseline")
    return {"files": files, **{name: getattr(a, name) for name in options}}


def _named(given: str) -> tuple[str, str]:
    name, equals, file = given.partition("=")
    return (name, file) if equals else ("", given)


def _evaluate(a: argparse.Namespace) -> None:
    from alpha_sv.pipeline.evaluate import evaluate_files
    from alpha_sv.report import to_text

    metrics = evaluate_files(**_systems(a), command=typed(a))
    _show(a, metrics, to_text(metrics))


def _compare(a: argparse.Namespace) -> None:
    from alpha_sv.pipeline.evaluate import compare_files
    from alpha_sv.report import comparison_text

    comparison = compare_files(**_systems(a))
    _show(a, comparison, comparison_text(comparison))


def _show(a: argparse.Namespace, content: dict, text: str) -> None:
    """Write the file if one is asked for, and print it, or the text for people."""
    from alpha_sv.pipeline.evaluate import write_json

    if a.output and a.output != "-":
        write_json(a.output, content)
    if a.json or a.output == "-":
        deliver("-", lambda path: write_json(path, content))
    else:
        print(text)


def _report(a: argparse.Namespace) -> None:
    from alpha_sv.report import load_log, load_metrics, write_markdown, write_report

    if bad := [fact for fact in a.fact if "=" not in fact]:
        raise ValueError(f"--fact takes NAME=VALUE, got {bad[0]!r}")
    page = {"title": a.title, "facts": dict(fact.split("=", 1) for fact in a.fact), "first": a.first}
    metrics = load_metrics(a.metrics)
    log = load_log(a.log) if a.log else None
    write = write_markdown if a.output.endswith(".md") else write_report
    deliver(a.output, lambda path: write(path, metrics, log=log, **page))
