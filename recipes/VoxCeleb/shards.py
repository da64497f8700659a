#!/usr/bin/env python3
"""A prepared corpus → the same corpus in tar shards, for a file system that hates a million files.

    python shards.py results/voxceleb/prepared /scratch/voxceleb_shards
    python train.py hparams/ecapa_c512_q_margin.yaml --prepared=/scratch/voxceleb_shards

OUTPUT becomes a prepared folder like PREPARED: the same utterances, splits and trials, so a
training, an extraction or a score is bit for bit that of the loose files. It takes the room of the
audio files again, and about 2 KB for each. Interrupted, the command goes on where it stopped. The
shards have webdataset's layout: other toolkits can stream them.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from pathlib import Path

from alpha_sv.data.corpus.manifest import read_manifest, write_manifest
from alpha_sv.data.corpus.tar_shards import FORMAT, write_shards
from alpha_sv.files import folder_lock, input_key, is_fresh, read_json, write_stamp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="folder that prepare.py has written")
    parser.add_argument("output", type=Path, help="folder of the shards and of the new manifest")
    parser.add_argument("--samples-per-shard", type=int, default=4096, help="files in a shard (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1234, help="of the order in the shards (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="threads that read (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with folder_lock(arguments.output):
        print(shard_prepared(**vars(arguments)))


def shard_prepared(prepared: Path, output: Path, samples_per_shard: int, seed: int, workers: int) -> Path:
    """Write the shards and all that makes `output` a prepared folder; returns its manifest."""
    if output.resolve() == prepared.resolve():
        raise ValueError(f"{output} is the folder of the loose files' manifest; give another one for the shards")
    stamp = prepared / "prepare.json"
    content = read_json(stamp, like={"key": str, "outputs": dict}) if stamp.is_file() else {"key": ""}
    if not is_fresh(stamp, content["key"]):
        raise ValueError(f"{prepared} was not prepared to the end, or has changed since; run prepare.py again")
    key = input_key([FORMAT, content["key"], samples_per_shard, seed])
    manifest, others = output / "manifest.csv", sorted(content["outputs"].keys() - {"manifest.csv"})
    for name in ("prepare.json", "manifest.csv", *others):  # should this fail half way, nothing older passes for it
        (output / name).unlink(missing_ok=True)
    stored = write_shards(read_manifest(prepared / "manifest.csv"), output, samples_per_shard, seed, workers)
    write_manifest(manifest, stored)
    for name in others:
        shutil.copyfile(prepared / name, output / name)
    facts = {name: value for name, value in content.items() if name not in ("key", "outputs")}
    shards = {"made_from": str(prepared.resolve()), "samples_per_shard": samples_per_shard, "seed": seed}
    write_stamp(output / "prepare.json", key, ["manifest.csv", *others], **facts, shards=shards)
    return manifest


if __name__ == "__main__":
    main()
