"""Extraction: nothing depends on the batch, on a kill, or on how the files are stored."""

import os

import numpy as np
import pytest
import torch

from alpha_sv.data.audio.read import AudioError
from alpha_sv.data.audio.tar_member import parse_member
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.data.corpus.tar_shards import write_shards
from alpha_sv.embedding import EmbeddingStore, SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.embedding.store import StoreWriter
from tests.fixtures.devices import needs_a_real_gpu
from tests.fixtures.models import SMALL, small_embedder
from tests.fixtures.replaced import counted
from tests.fixtures.speech_tree import RATE, make_tree, voice


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("tree"), speakers=4, utterances=6)
    rows = []
    for path in sorted((root / "wav").rglob("*.wav")):
        speaker, session = path.relative_to(root / "wav").parts[:2]
        size = round(16000 * (0.8, 1.0, 1.37)[int(path.stem) % 3])
        rows.append(Utterance(str(path.relative_to(root / "wav")), str(path), speaker, session, size, 16000, 1, "test"))
    return rows


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_scores_do_not_move_with_batch_size(architecture, utterances, tmp_path):
    """Peers pad short utterances to their batch, so scores depend on the neighbours."""
    embedder = small_embedder(architecture)
    one = extract(embedder, utterances, tmp_path / "1", batch_size=1, progress=False)
    many = extract(embedder, utterances, tmp_path / "32", batch_size=32, progress=False)

    def cosines(store):
        unit = store.matrix / np.linalg.norm(store.matrix, axis=1, keepdims=True)
        return unit @ unit.T

    assert one.ids == many.ids == [u.utt_id for u in utterances]
    np.testing.assert_allclose(cosines(one), cosines(many), atol=1e-5)


def test_embed_equals_extract_and_does_not_depend_on_company_or_mode(utterances, tmp_path, device):
    needs_a_real_gpu(device)
    embedder = small_embedder().train()
    waves = [voice(int(u.speaker[3:]), int(u.utt_id[-6:-4]), u.duration) for u in utterances]
    together = embedder.embed(waves)
    alone = np.concatenate([embedder.embed([wave]) for wave in waves])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert embedder.training, "embed must leave the mode as it was"
    stored = extract(embedder, utterances, tmp_path / "store", progress=False).matrix
    np.testing.assert_allclose(together, stored, rtol=1e-2, atol=1e-3)  # 16-bit files


def test_interrupted_extraction_continues_and_ends_the_same(utterances, tmp_path):
    embedder = small_embedder()
    whole = extract(embedder, utterances, tmp_path / "whole", batch_size=4, progress=False)
    with counted(StoreWriter, "write", kill_at=3) as calls, pytest.raises(KeyboardInterrupt):
        extract(embedder, utterances, tmp_path / "part", batch_size=4, progress=False)
    with pytest.raises(ValueError, match="is a file; give the folder"):
        EmbeddingStore.open(__file__)
    with pytest.raises(ValueError, match="unfinished"):
        EmbeddingStore.open(tmp_path / "part")
    done = sum(len(rows) for _, rows, _ in calls[:2])
    with counted(StoreWriter, "write") as calls:
        resumed = extract(embedder, utterances, tmp_path / "part", batch_size=4, progress=False)
    assert sum(len(rows) for _, rows, _ in calls) == len(utterances) - done, (
        "rows that were done must not be embedded again"
    )
    np.testing.assert_array_equal(resumed.matrix, whole.matrix)


def test_store_is_reused_only_for_the_same_model_and_utterances(utterances, tmp_path):
    embedder = small_embedder()

    def embedded(some=utterances):
        with counted(StoreWriter, "write") as calls:
            store = extract(embedder, some, tmp_path / "s", progress=False)
        assert len(store.ids) == len(some)
        return sum(len(rows) for _, rows, _ in calls)

    assert embedded() == len(utterances) and embedded() == 0
    with torch.no_grad():
        next(embedder.backbone.parameters()).add_(0.1)
    assert embedded() == len(utterances)
    assert embedded(utterances[:5]) == 5


@pytest.mark.parametrize("name", ["meta.json", "index.csv", "embeddings.npy"])
def test_damaged_store_is_named_and_made_again(name, utterances, tmp_path):
    store = extract(small_embedder(), utterances, tmp_path / "s", progress=False)
    matrix = np.array(store.matrix)
    del store
    file = tmp_path / "s" / name
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    with pytest.raises(ValueError, match="/s is damaged"):
        EmbeddingStore.open(tmp_path / "s")
    again = extract(small_embedder(), utterances, tmp_path / "s", progress=False)
    np.testing.assert_array_equal(again.matrix, matrix)


def test_missing_file_is_named_and_nothing_is_lost(utterances, tmp_path):
    import dataclasses

    gone = dataclasses.replace(utterances[0], utt_id="gone.wav", path=str(tmp_path / "gone.wav"))
    with pytest.raises(AudioError, match="gone.wav"):
        extract(small_embedder(), [*utterances, gone], tmp_path / "s", progress=False)


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
