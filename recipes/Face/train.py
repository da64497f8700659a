#!/usr/bin/env python3
"""Train a face embedder on a folder <identity>/<image>
of aligned faces, or on insightface's train.rec.

    python train.py hparams/ms1mv3_r50.yaml --data_folder=/data/ms1mv3/train.rec \\
        --valid_trials=/data/ms1mv3/lfw.bin

Any key of the YAML, or of the file it extends, can be given on the command line and
wins. Run the same command again after an interruption: it continues from the last
checkpoint, on the same trajectory.
"""

import sys

from alpha_sv.cli.guard import guarded
from alpha_sv.sb.experiment import build_brain, fit, read_arguments, save_best


def main(argv: list[str]) -> None:
    hparams, run_opts = read_arguments(argv)

    # Look through the images; an iresnet, one prototype for each person, the loss.
    brain = build_brain(hparams, run_opts)

    # Train; after each epoch the EER on the development pairs decides which checkpoint is best.
    fit(brain)

    # Weights and a JSON configuration for `alpha-sv face`.
    save_best(brain)


if __name__ == "__main__":
    if status := guarded(lambda: main(sys.argv[1:])):
        sys.exit(status)
