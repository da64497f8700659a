"""The score of a pair is the cosine of its two embeddings, whatever is scored beside it."""

from __future__ import annotations

import numpy as np
import pytest

from alpha_sv.data.trials.files import Trials
from alpha_sv.scoring import cosine, cosine_scores, score_trials
from tests.fixtures.embedding_store import Store


@pytest.fixture
def store():
    matrix = np.random.default_rng(0).normal(size=(50, 24)).astype(np.float32)
    return Store([f"spk{i % 7}/{i}.wav" for i in range(50)], matrix)


def random_trials(store, count=333, seed=1):
    rng = np.random.default_rng(seed)
    ids = np.array(store.ids)
    return Trials(ids[rng.integers(50, size=count)], ids[rng.integers(50, size=count)], rng.random(count) < 0.3)


def test_parallel_opposite_and_orthogonal_rows():
    enroll = np.array([[1.0, 2.0, 2.0]] * 4)
    test = np.array([[10.0, 20.0, 20.0], [-1, -2, -2], [2, -2, 1], [2, 0, 0]])
    np.testing.assert_allclose(cosine_scores(enroll, test), [1, -1, 0, 1 / 3], atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_to_float64_from_either_precision(dtype):
    rng = np.random.default_rng(2)
    enroll, test = rng.normal(size=(2, 100, 192)).astype(dtype)
    a, b = enroll.astype(np.longdouble), test.astype(np.longdouble)
    expected = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    scores = cosine_scores(enroll, test)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected.astype(np.float64), atol=1e-15)


def test_the_length_of_an_embedding_does_not_matter():
    enroll, test = np.random.default_rng(3).normal(size=(2, 5, 8))
    scales = np.array([1e-200, 1e-30, 1.0, 1e30, 1e200])[:, None]
    np.testing.assert_allclose(cosine_scores(enroll * scales, test), cosine_scores(enroll, test), rtol=1e-12)


def test_a_cosine_never_leaves_its_range():
    rows = np.random.default_rng(4).normal(size=(2000, 7)).astype(np.float32)
    same = cosine_scores(rows, rows)
    assert same.max() <= 1.0 and same.min() > 1 - 1e-14
    assert cosine_scores(rows, -rows).min() >= -1.0


@pytest.mark.parametrize(("value", "word"), [(0.0, "all zero"), (np.nan, "not finite"), (np.inf, "not finite")])
@pytest.mark.parametrize("row", [0, 9, cosine._BLOCK + 3])
def test_a_row_without_direction_is_named(value, word, row):
    good = np.ones((cosine._BLOCK + 10, 3))
    bad = good.copy()
    bad[row] = [value, 0.0, 0.0]
    with pytest.raises(ValueError, match=f"test: the embedding of row {row} is {word}"):
        cosine_scores(good, bad)
    with pytest.raises(ValueError, match=f"enroll: the embedding of row {row} is {word}"):
        cosine_scores(bad, good)


@pytest.mark.parametrize(("left", "right"), [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((4,), (4,)), ((3, 4), (1, 4))])
def test_only_row_with_row_is_compared(left, right):
    with pytest.raises(ValueError, match="must both be"):
        cosine_scores(np.ones(left), np.ones(right))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_tensors_and_lists_are_scored_like_arrays(dtype):
    torch = pytest.importorskip("torch")
    tensors = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    expected = cosine_scores(*tensors.double().numpy())
    np.testing.assert_allclose(cosine_scores(*tensors.requires_grad_()), expected, atol=1e-15)
    np.testing.assert_allclose(cosine_scores(*tensors.tolist()), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0], [1.0, 2.0]], "rows of one length"),
        ([["a", "b"]], "real numbers are needed"),
        (np.ones((1, 2), dtype=complex), "real numbers are needed"),
        (None, "real numbers are needed"),
        ([1.0, 2.0], r"a single pair is \[a\], \[b\]"),
        (np.ones((2, 0)), "must be real numbers"),
    ],
)
def test_what_is_no_matrix_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        cosine_scores(rows, rows)


def test_trials_are_scored_in_order_with_their_labels(store):
    trials = random_trials(store)
    table = score_trials(trials, store, progress=False)
    for index in (0, 100, 332):
        a = store.matrix[store.ids.index(trials.enroll[index])].astype(np.float64)
        b = store.matrix[store.ids.index(trials.test[index])].astype(np.float64)
        assert table.scores[index] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-14)
    assert (table.enroll == trials.enroll).all() and (table.test == trials.test).all()
    assert (table.labels == trials.labels).all()
    assert score_trials(Trials(trials.enroll, trials.test), store, progress=False).labels is None


@pytest.mark.parametrize("chunk", [1, 7, 333, 1000])
def test_scores_do_not_move_with_the_chunk(store, chunk):
    # peers: scores that depend on the batch size or on the previous call
    trials = random_trials(store)
    expected = score_trials(trials, store, progress=False).scores
    assert score_trials(trials, store, chunk=chunk, progress=False).scores.tobytes() == expected.tobytes()


def test_a_memory_mapped_store_gives_the_same_scores(store, tmp_path):
    np.save(tmp_path / "matrix.npy", store.matrix)
    mapped = Store(store.ids, np.load(tmp_path / "matrix.npy", mmap_mode="r"))
    trials = random_trials(store)
    scores = score_trials(trials, mapped, chunk=50, progress=False).scores
    assert (scores == score_trials(trials, store, progress=False).scores).all()


def test_missing_utterances_are_counted_and_shown(store):
    trials = Trials(["spk0/0.wav", "x/1.wav", "x/1.wav"], ["y/2.wav", "spk1/1.wav", "y/2.wav"])
    with pytest.raises(ValueError, match=r"2 of the 4 utterances .*'x/1.wav', 'y/2.wav'.*extract"):
        score_trials(trials, store, progress=False)


def test_an_utterance_without_direction_is_named(store):
    store.matrix[8] = 0
    with pytest.raises(ValueError, match=f"test: the embedding of '{store.ids[8]}' is all zero"):
        score_trials(Trials([store.ids[0]] * 2, store.ids[7:9]), store, progress=False)


def test_a_chunk_holds_at_least_one_trial(store):
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        score_trials(random_trials(store), store, chunk=0)
