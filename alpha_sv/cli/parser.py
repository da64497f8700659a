"""The parser of the command line: all verbs, and what their help begins with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from alpha_sv import __version__
from alpha_sv.cli import diagnose, evaluation, exchange, face, recipes, scoring, training, verify
from alpha_sv.cli.guard import refuse_overwriting
from alpha_sv.cli.streams import standard_input

EXAMPLES = """\
the whole chain:
  alpha-sv prepare wav/ --trials trials.txt --num-valid-speakers 20 -o exp/
  alpha-sv train ecapa --data_folder=wav/ --trials=trials.txt --output_folder=exp/
  alpha-sv extract exp/model exp/manifest.csv -o exp/embeddings
  alpha-sv score exp/embeddings trials.txt -o exp/scores.txt
  alpha-sv normalize exp/scores.txt --embeddings exp/embeddings -o exp/scores_as_norm.txt
  alpha-sv evaluate exp/scores.txt exp/scores_as_norm.txt -o exp/metrics.json
  alpha-sv report exp/metrics.json --log exp/train_log.jsonl -o exp/report.html

calibrated scores (natural-log likelihood ratios):
  alpha-sv calibrate dev_scores.txt --trials dev_trials.txt -o calibrator.json
  alpha-sv calibrate exp/scores.txt --calibrator calibrator.json -o exp/llrs.txt
  alpha-sv evaluate exp/scores.txt exp/llrs.txt --llr llrs

only scores files (layouts of SpeechBrain, WeSpeaker, Kaldi, VoxSRC and NIST are told apart by themselves):
  alpha-sv evaluate scores.txt --trials trials.txt
  alpha-sv compare cosface.txt q_margin.txt

- stands for standard input or output of every text file:
  alpha-sv score exp/embeddings trials.txt -o - | alpha-sv evaluate -
"""


def run_verb(argv: Sequence[str]) -> int | None:
    """Parse what was typed and do it."""
    if argv[:1] == ["train"] and not {"-h", "--help"} & set(argv):  # every key of the recipe is an option there
        return training.train(argv[1:])
    arguments = build_parser().parse_args(argv)
    arguments.argv = argv
    refuse_overwriting(arguments)
    with standard_input(arguments):
        return arguments.run(arguments)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb; importing torch waits
    until a verb runs, so `--help` answers at once."""
    parser = argparse.ArgumentParser(
        prog="alpha-sv",
        description="Speaker verification with α-divergence losses. The verbs are the steps between the files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"alpha-sv {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    training.add_chain(verbs)
    diagnose.add_verbs(verbs)
    recipes.add_verbs(verbs)
    scoring.add_verbs(verbs)
    evaluation.add_verbs(verbs)
    exchange.add_verbs(verbs)
    verify.add_verbs(verbs)
    face.add_verbs(verbs)
    training.add_demo(verbs)
    return parser
