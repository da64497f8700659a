#!/usr/bin/env python3
"""VoxCeleb as it was unpacked → the manifest that training, shards and verification read.

    python prepare.py --voxceleb1 /corpora/voxceleb1 --voxceleb2 /corpora/voxceleb2 --train vox2 \\
        --trials veri_test2.txt list_test_all2.txt list_test_hard2.txt \\
        --output results/voxceleb/prepared

    --train vox2        VoxCeleb2 dev, 5,994 speakers: may be tested on O, E and H
    --train vox1        VoxCeleb1 without its 40 test speakers, 1,211 speakers: O only
    --train vox1+vox2   both: may be tested on O only

VoxCeleb1 is read from wav/id…, {dev,test}/wav/id… or vox1_{dev,test}_wav/wav/id…; VoxCeleb2
from dev/aac/id… (.m4a, converted with ffmpeg to 16 kHz 16-bit files in dev/wav, or in
--converted) or from a folder of wav or flac. The lists are at
https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html. Headers only are read
(--audit full decodes every sample). Run the same command again after an interruption:
what is converted and read is kept.

The output: manifest.csv, valid_trials.txt, audit.csv (what is wrong with which file),
prepare.json (what it was made from, counts, files/s) and split.txt.gz, the split for others to
reproduce with --like; see --help.
"""

from __future__ import annotations

import argparse
import logging
import sys

from alpha_sv.data.corpus.convert import CODECS
from alpha_sv.data.corpus.voxceleb import TRAINING, prepare_voxceleb
from alpha_sv.files import folder_lock


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxceleb1", metavar="ROOT", help="folder that VoxCeleb1 was unpacked into")
    parser.add_argument("--voxceleb2", metavar="ROOT", help="folder that VoxCeleb2 was unpacked into")
    parser.add_argument("--train", choices=TRAINING, default="vox2", help="who trains (default: vox2)")
    parser.add_argument("--trials", metavar="LIST", nargs="+", default=[], help="trial lists to be tested on")
    parser.add_argument("--output", required=True, help="folder to write, e.g. results/voxceleb/prepared")
    parser.add_argument(
        "--num-valid-speakers", type=int, default=40, help="training speakers kept for development trials; 0: none"
    )
    parser.add_argument("--seed", type=int, default=1234, help="of the development speakers and trials")
    parser.add_argument("--like", metavar="SPLIT", help="a split.txt.gz of others: take over exactly its assignment")
    parser.add_argument("--converted", metavar="FOLDER", help="for VoxCeleb2's converted files (default: beside aac/)")
    parser.add_argument(
        "--audio-format", choices=CODECS, default="wav", help="of converted files; flac takes half the disk"
    )
    parser.add_argument("--audit", choices=("headers", "full"), default="headers", help="full decodes every sample")
    parser.add_argument("--workers", type=int, help="threads, and ffmpeg processes; default: one per core")
    options = vars(parser.parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with folder_lock(options["output"]):
            print(prepare_voxceleb(options.pop("output"), **options))
    except ValueError as error:
        sys.exit(f"prepare.py: {error}")


if __name__ == "__main__":
    main()
