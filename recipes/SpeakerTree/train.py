#!/usr/bin/env python3
"""Train a speaker embedder on any <speaker>/<session>/<utterance> tree of speech.

    python train.py hparams/ecapa.yaml --data_folder=/corpora/mine/wav \\
        --trials=/corpora/mine/trials.txt

Any key of the YAML can be given on the command line and wins, the loss too:

    python train.py hparams/ecapa.yaml --data_folder=… \\
        --loss='!new:alpha_sv.losses.A3M {alpha: 1.5, scale: 10.0}'

Run the same command again after an interruption:
it continues from the last checkpoint, on the same trajectory.
"""

import sys

from alpha_sv.cli.guard import guarded
from alpha_sv.sb.experiment import build_brain, fit, prepare, read_arguments, save_best


def main(argv: list[str]) -> None:
    hparams, run_opts = read_arguments(argv)

    # Scan and check the files; trial speakers stay out of training,
    # some training speakers become development trials.
    manifest = prepare(hparams)

    # An embedder, one prototype a training speaker, the loss.
    brain = build_brain(hparams, run_opts, manifest)

    # Train; after each epoch the EER on the development trials decides which checkpoint is best.
    fit(brain)

    # Weights and a JSON configuration for `alpha-sv extract`.
    save_best(brain)


if __name__ == "__main__":
    if status := guarded(lambda: main(sys.argv[1:])):
        sys.exit(status)
