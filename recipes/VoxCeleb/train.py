#!/usr/bin/env python3
"""Train a speaker embedder on a prepared VoxCeleb.

    python train.py hparams/ecapa_c512_q_margin.yaml --prepared=results/voxceleb/prepared \\
        --noise_folder=/corpora/musan --rir_folder=/corpora/RIRS_NOISES/simulated_rirs

On eight GPUs, with the same batch split between them (slurm.sh does it on a cluster):

    torchrun --standalone --nproc_per_node=8 train.py hparams/ecapa_c512_q_margin.yaml \\
        --prepared=… --precision=bf16

Any key of the YAML, or of the files it extends, can be given on the command line and wins.
Run the same command again after an interruption: it continues from the last checkpoint.
"""

import sys

from alpha_sv.cli.guard import guarded
from alpha_sv.sb.experiment import build_brain, fit, prepared_manifest, read_arguments, save_best


def main(argv: list[str]) -> None:
    hparams, run_opts = read_arguments(argv)

    # What prepare.py found and split; nothing is scanned here.
    manifest = prepared_manifest(hparams)

    # An embedder, one prototype for each training speaker at each speed, the loss.
    brain = build_brain(hparams, run_opts, manifest)

    # Train; every valid_interval epochs the EER on the development trials.
    fit(brain)

    # Weights and a JSON configuration for verify.py and `alpha-sv extract`.
    save_best(brain)


if __name__ == "__main__":
    if status := guarded(lambda: main(sys.argv[1:])):
        sys.exit(status)
