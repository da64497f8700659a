"""Extraction from shards: the embeddings of the loose files, made anew when the tar is another."""

import os

import numpy as np

from alpha_sv.data.manifest import Utterance
from alpha_sv.data.members import parse_member
from alpha_sv.data.tar import write_shards
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from tests.corpus import RATE, make_tree


def test_extraction_from_shards(tmp_path, caplog):
    root = make_tree(tmp_path, speakers=2, utterances=3, seconds=(0.8, 1.0)) / "wav"
    sizes = [round(seconds * RATE) for seconds in (0.8, 1.0, 0.8)]
    loose = []
    for path in sorted(root.rglob("*.wav")):
        speaker, session, name = path.relative_to(root).parts
        size = sizes[int(path.stem)]
        row = Utterance(f"{speaker}/{session}/{name}", str(path), speaker, session, size, RATE, 1, "test")
        loose.append(row)
    stored = write_shards(loose, tmp_path / "shards", samples_per_shard=4, progress=False)
    embedder = SpeakerEmbedder("mean_fbank", 80)

    def embed(rows, folder):
        caplog.clear()
        with caplog.at_level("INFO"):
            store = extract(embedder, rows, tmp_path / folder, progress=False)
        return np.array(store.matrix), "already" in caplog.text

    expected, _ = embed(loose, "loose_store")
    for reused in (False, True):
        found, was_reused = embed(stored, "store")
        assert np.array_equal(found, expected) and was_reused == reused
    os.utime(parse_member(stored[0].path).tar, (1, 1))
    assert embed(stored, "store")[1] is False
