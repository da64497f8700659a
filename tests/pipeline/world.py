"""A tiny evaluation on disk: embeddings with speaker structure, a manifest, trials to develop and to test on."""

import itertools

import numpy as np

from alpha_sv.data.manifest import Utterance, write_manifest
from alpha_sv.data.trials import Trials, write_trials
from alpha_sv.embedding.store import StoreWriter

SPLITS = {"train": 30, "valid": 10, "test": 20}  # speakers
UTTERANCES, DIM = 4, 16


def make_world(folder):
    """<folder>/emb, manifest.csv, dev_trials.txt, and trials.txt with a header and the condition "gender"."""
    rng, utterances, rows = np.random.default_rng(0), [], []
    for split, count in SPLITS.items():
        for speaker in range(count):
            name, centre = f"{split}{speaker:02d}", rng.standard_normal(DIM)
            for take in range(UTTERANCES):
                seconds = rng.uniform(0.5, 8)  # short recordings are noisy
                utt_id = f"{name}/s{take}/{take:02d}.wav"
                utterances.append(
                    Utterance(utt_id, f"/data/{utt_id}", name, f"s{take}", int(16000 * seconds), 16000, 1, split)
                )
                rows.append(centre + rng.standard_normal(DIM) * 1.2 / np.sqrt(seconds / 2))
    ids, speakers, splits = zip(*((u.utt_id, u.speaker, u.split) for u in utterances), strict=True)
    writer = StoreWriter(folder / "emb", ids, speakers, splits, DIM, key="tiny")
    writer.write(range(len(ids)), np.array(rows, dtype=np.float32))
    writer.finish()
    write_manifest(folder / "manifest.csv", utterances)
    for file, split in (("trials.txt", "test"), ("dev_trials.txt", "valid")):
        pairs = list(itertools.combinations([u for u in utterances if u.split == split], 2))
        labels = [a.speaker == b.speaker for a, b in pairs]
        gender = ["fm"[int(a.speaker[-1]) % 2] + "fm"[int(b.speaker[-1]) % 2] for a, b in pairs]
        conditions = {"gender": gender} if split == "test" else {}
        trials = Trials([a.utt_id for a, _ in pairs], [b.utt_id for _, b in pairs], labels, conditions)
        write_trials(folder / file, trials)
    return folder
