#!/usr/bin/env python3
"""Adapt a pre-trained speaker embedder to a <speaker>/<session>/<utterance> tree of speech.

    python train.py hparams/last_layers.yaml --model=campplus --data_folder=/corpora/mine/wav

Before the first step the log says how many of the training samples have a gradient with the loss,
and what to do if they are too few. Any key of the YAML can be given on the command line and wins:

    python train.py hparams/last_layers.yaml … --margin=0.1 \\
        --loss='!new:alpha_sv.losses.AMSoftmax {scale: 32.0}'

Run the same command again after an interruption:
it continues from the last checkpoint, on the same trajectory.
"""

import sys

from alpha_sv.cli.guard import guarded
from alpha_sv.sb.experiment import build_brain, fit, prepare, prepared_manifest, read_arguments, save_best


def main(argv: list[str]) -> None:
    # The embedder is the pre-trained one, its first stages frozen.
    hparams, run_opts = read_arguments(argv)

    # Scan and check the files; trial speakers stay out of training,
    # some training speakers become development trials.
    manifest = prepared_manifest(hparams) if hparams["prepared"] else prepare(hparams)

    # With front_cache, what the frozen stages give is computed now,
    # once, and kept for every later run.
    brain = build_brain(hparams, run_opts, manifest)

    # Prototypes become their speakers' means, the diagnosis is printed, then it trains.
    fit(brain)

    # A model folder like any other, for `alpha-sv extract` and `alpha-sv verify`.
    save_best(brain)


if __name__ == "__main__":
    if status := guarded(lambda: main(sys.argv[1:])):
        sys.exit(status)
