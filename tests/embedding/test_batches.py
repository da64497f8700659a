"""Which utterances go through the network together changes no embedding;
what is very long goes through in parts."""

import logging
import threading

import numpy as np
import pytest

from alpha_sv.embedding import batches
from alpha_sv.embedding.batches import embed_in_batches
from alpha_sv.verify.model import load_model
from tests.fixtures.models import small_embedder
from tests.fixtures.replaced import set_sizes
from tests.fixtures.speech_tree import voice


@pytest.fixture(scope="module")
def embedder():
    return small_embedder("ecapa_tdnn")


@pytest.fixture
def short(monkeypatch):
    """Two seconds are "very long", a batch has one."""
    set_sizes(monkeypatch, batches, LONGEST=2, BATCH=1)


def test_a_long_utterance_is_the_mean_of_its_equal_parts_weighted_by_length(embedder, short, caplog):
    wave = voice(0, 0, 5.00003)
    with caplog.at_level(logging.WARNING):
        found = embedder.embed([wave, voice(1, 0, 2.0), wave[:32000]])
    size = -(-len(wave) // 3)  # the fewest equal parts of at most two seconds
    parts = [wave[:size], wave[size : 2 * size], wave[2 * size :]]
    expected = np.average(embedder.embed(parts), axis=0, weights=[len(part) for part in parts])
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[2], embedder.embed([wave[:32000]])[0], rtol=1e-4, atol=1e-4)  # whole
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "1 of 3 utterances are longer than 0 min"
    ]


def test_a_part_without_sound_says_nothing_of_the_voice(embedder, short):
    wave = voice(0, 0, 2.0)
    muted = np.concatenate([wave, np.zeros(2 * 32000, np.float32)])
    np.testing.assert_allclose(embedder.embed([muted]), embedder.embed([wave]), rtol=1e-4, atol=1e-4)


def test_a_file_of_any_length_takes_the_same_path(embedder, short, tmp_path):
    embedder.save(tmp_path / "model")
    waves = [voice(0, 0, 4.5), voice(1, 0, 1.0)]
    found = load_model(tmp_path / "model").embed(waves)
    np.testing.assert_allclose(found, embedder.embed(waves), rtol=1e-4, atol=1e-4)


class Counting:
    """An embedder that remembers what it was given, and by how many threads at a time."""

    sample_rate, embedding_dim = 16000, 1

    def __init__(self, at_once):
        self.at_once, self.sizes, self.inside, self.most, self.lock = at_once, [], 0, 0, threading.Lock()
        self.meeting = threading.Barrier(at_once, timeout=60)

    def length(self, samples):
        return samples

    def embed_batch(self, waves):
        self.sizes.append(waves.size)
        return waves[:, :1]

    def embed_small_batch(self, waves):
        self.meeting.wait()  # goes on only if so many are here at a time
        return self.embed_batch(waves)


@pytest.mark.parametrize("at_once", [1, 2])
def test_every_utterance_comes_once_and_only_single_utterances_are_longer_than_a_batch(short, at_once):
    lengths = [32000] * 5 + [20000] * 3 + [4000] * 8 + [90000]
    counting = Counting(at_once)
    read = lambda i: np.linspace(i, i + 1, lengths[i], dtype=np.float32)  # noqa: E731
    found = {}
    for rows, embeddings in embed_in_batches(counting, lengths, read, batch_size=4):
        found |= dict(zip(rows.tolist(), embeddings[:, 0], strict=True))
    assert sorted(found) == list(range(17))
    assert [found[i] for i in range(16)] == list(range(16))
    assert sorted(counting.sizes) == [16000] * 2 + [20000] * 3 + [30000] * 3 + [32000] * 5
