"""Score normalisation equals the plain per-trial recipe,
and refuses where the recipe has no answer."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from alpha_sv.data.trials.files import ScoreTable
from alpha_sv.scoring import (
    as_norm,
    cohort_cache,
    cohort_statistics,
    cosine_scores,
    default_top_n,
    normalize_table,
    s_norm,
    speaker_means,
    t_norm,
    z_norm,
)
from tests.fixtures.embedding_store import Store
from tests.fixtures.replaced import counted, set_blocks


def cosines_with(row, cohort_rows):
    """Descending cosines of one embedding with every cohort row, one at a time."""
    row = row.astype(np.float64)
    values = [row @ c / np.sqrt(row @ row) / np.sqrt(c @ c) for c in cohort_rows.astype(np.float64)]
    return np.array(sorted(values, reverse=True))


def statistics_by_hand(row, cohort_rows, top_n):
    top = cosines_with(row, cohort_rows)[:top_n]
    mean = sum(top) / len(top)
    return mean, np.sqrt(sum((top - mean) ** 2) / len(top))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that small arrays cross many block borders."""
    set_blocks(monkeypatch, rows=4, columns=7)


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(23, 16)).astype(np.float32)
    cohort_rows = rng.normal(size=(40, 16)).astype(np.float32)
    store = Store([f"u{i}" for i in range(23)], matrix)
    enroll, test = rng.integers(23, size=(2, 60))
    table = ScoreTable(
        [f"u{i}" for i in enroll],
        [f"u{i}" for i in test],
        cosine_scores(matrix[enroll], matrix[test]),
        rng.random(60) < 0.5,
    )
    return store, cohort_rows, table


@pytest.mark.parametrize("top_n", [2, 6, 7, 8, 39, 40, None])
def test_statistics_equal_those_found_one_by_one(world, small_blocks, top_n):
    store, cohort_rows, _ = world
    mean, std = cohort_statistics(store.matrix, cohort_rows, top_n)
    expected = np.array([statistics_by_hand(row, cohort_rows, top_n) for row in store.matrix])
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, expected[:, 0], atol=1e-13)
    np.testing.assert_allclose(std, expected[:, 1], atol=1e-13)


def test_block_sizes_do_not_matter(world, monkeypatch):
    store, cohort_rows, _ = world
    for top_n in (6, None):
        one_block = cohort_statistics(store.matrix, cohort_rows, top_n)
        with monkeypatch.context() as patch:
            set_blocks(patch, rows=3, columns=5)
            np.testing.assert_allclose(cohort_statistics(store.matrix, cohort_rows, top_n), one_block, atol=1e-14)


@pytest.mark.parametrize("method", ["z-norm", "t-norm", "s-norm", "as-norm"])
def test_normalised_scores_equal_the_per_trial_recipe(world, small_blocks, method):
    store, cohort_rows, table = world
    result = normalize_table(table, store, cohort_rows, method, top_n=9)
    row = dict(zip(store.ids, store.matrix, strict=True))
    for index in range(len(table)):
        top_n = 9 if method == "as-norm" else None
        sides = [
            (table.scores[index] - mean) / std
            for mean, std in (
                statistics_by_hand(row[table.enroll[index]], cohort_rows, top_n),
                statistics_by_hand(row[table.test[index]], cohort_rows, top_n),
            )
        ]
        expected = {"z-norm": sides[0], "t-norm": sides[1]}.get(method, sum(sides) / 2)
        assert result.scores[index] == pytest.approx(expected, abs=1e-6)
    assert (result.labels == table.labels).all() and (result.enroll == table.enroll).all()


def test_ties_at_the_edge_of_the_top_do_not_matter(small_blocks):
    # cosines 0.8 once, 0.6 five times, 0 once: any two of the tied five complete a top three
    tied = [[0.6, 0.8 * np.cos(a), 0.8 * np.sin(a)] for a in range(5)]
    cohort_rows = np.array([[0.0, 1.0, 0.0], *tied[:3], [0.8, 0.6, 0.0], *tied[3:]])
    for order in (slice(None), slice(None, None, -1)):
        mean, std = cohort_statistics(np.array([[5.0, 0.0, 0.0]]), cohort_rows[order], top_n=3)
        np.testing.assert_allclose(mean, [2 / 3], atol=1e-15)
        np.testing.assert_allclose(std, [np.std([0.8, 0.6, 0.6])], atol=1e-15)


@pytest.mark.parametrize("top_n", [300, None])
def test_a_small_spread_on_a_large_mean_keeps_its_digits(top_n):
    # std about 1e-5 on a mean near 1: float32 sums, or mean(x^2) - mean(x)^2, lose it
    rng = np.random.default_rng(1)
    centre = np.ones(64) / 8
    rows = np.float32(centre + 1e-3 * rng.normal(size=(3, 64)))
    cohort_rows = np.float32(centre + 1e-3 * rng.normal(size=(500, 64)))
    mean, std = cohort_statistics(rows, cohort_rows, top_n)
    for index, row in enumerate(rows.astype(np.longdouble)):
        c = cohort_rows.astype(np.longdouble)
        values = (c * row).sum(1) / np.sqrt((c * c).sum(1) * (row * row).sum())
        top = np.sort(values)[::-1][:top_n]
        assert float(top.std()) < 1e-3
        assert std[index] == pytest.approx(float(top.std()), rel=1e-10)
        assert mean[index] == pytest.approx(float(top.mean()), rel=1e-14)


def test_memory_does_not_grow_with_the_cohort(monkeypatch):
    # peers: the full utterance x cohort matrix of an utterance cohort would need 633 GB
    set_blocks(monkeypatch, rows=64, columns=128)
    rng = np.random.default_rng(2)
    rows, cohort_rows = rng.normal(size=(1000, 8)), rng.normal(size=(4000, 8))
    for top_n in (20, None):
        tracemalloc.start()
        cohort_statistics(rows, cohort_rows, top_n)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000  # the matrix is 32 MB


def test_each_utterance_meets_the_cohort_once(world):
    # peers: both sides were compared with the cohort again for every trial
    store, cohort_rows, table = world
    with counted(cohort_cache, "cohort_statistics") as calls:
        normalize_table(table, store, cohort_rows, "as-norm", top_n=5)
    assert sum(len(embeddings) for embeddings, *_ in calls) == len({*table.enroll.tolist(), *table.test.tolist()})


def test_a_top_n_larger_than_the_cohort_is_refused(world):
    # peers: topk raised without saying why; shrinking a top_n that was asked for would be worse
    store, cohort_rows, table = world
    with pytest.raises(ValueError, match="top_n = 300 but the cohort has 40 rows.*top_n <= 40"):
        normalize_table(table, store, cohort_rows, top_n=300)
    with pytest.raises(ValueError, match="top_n = 41 but the cohort has 40 rows"):
        cohort_statistics(store.matrix, cohort_rows, 41)


def test_a_top_n_that_nobody_asked_for_fits_the_cohort(world, caplog):
    store, cohort_rows, table = world
    whole = normalize_table(table, store, cohort_rows, top_n=40)
    assert caplog.text == ""
    assert (normalize_table(table, store, cohort_rows).scores == whole.scores).all()
    assert "the cohort has 40 rows, so top_n is 40 instead of 300" in caplog.text
    assert [default_top_n(size) for size in (1, 299, 300, 6000)] == [1, 299, 300, 300]


def test_lists_and_tensors_are_arrays_and_the_rest_is_refused():
    torch = pytest.importorskip("torch")
    stats = ([0.1, 0.2], [0.2, 0.1])
    expected = as_norm(np.array([0.5, 0.2]), stats, stats)
    for given in ([0.5, 0.2], torch.tensor([0.5, 0.2], dtype=torch.float64, requires_grad=True)):
        np.testing.assert_allclose(as_norm(given, stats, tuple(map(torch.tensor, stats))), expected, atol=1e-6)
    for scores, statistics, message in (
        ([0.5, np.nan], stats, "scores of trial 1 is nan"),
        ([0.5, 0.2], ([0.1, np.inf], [0.2, 0.1]), "mean of trial 1 is not finite"),
        ([0.5, 0.2], ([0.1, 0.2],), r"must be \(mean, std\), got 1 values"),
        (["a", "b"], stats, "real numbers are needed"),
        ([[0.5], [0.2, 0.1]], stats, "rows of one length"),
    ):
        with pytest.raises(ValueError, match=message):
            as_norm(scores, statistics, stats)


def test_zero_variance_is_refused_by_name(world):
    # peers: division by a zero standard deviation was not guarded
    store, cohort_rows, table = world
    copies = np.repeat(cohort_rows[:1], 10, axis=0) * np.float32(3) ** np.arange(10, dtype=np.float32)[:, None]
    for top_n in (5, None):
        with pytest.raises(ValueError, match="row 0 have zero variance"):
            cohort_statistics(store.matrix, copies, top_n)
    with pytest.raises(ValueError, match="zero variance over 1 cohort rows.*top_n >= 2"):
        cohort_statistics(store.matrix, cohort_rows, 1)
    with pytest.raises(ValueError, match="'u0' have zero variance"):
        normalize_table(table, store, copies, "s-norm")


@pytest.mark.parametrize("top_n", [0, -3, 2.5, True, "300"])
def test_top_n_is_a_positive_whole_number(world, top_n):
    store, cohort_rows, _ = world
    with pytest.raises(ValueError, match="top_n must be a positive whole number"):
        cohort_statistics(store.matrix, cohort_rows, top_n)


def test_unusable_cohorts_are_refused(world, small_blocks):
    store, cohort_rows, _ = world
    with pytest.raises(ValueError, match="must share D"):
        cohort_statistics(store.matrix, cohort_rows[:, :5], 3)
    with pytest.raises(ValueError, match="cohort is empty"):
        cohort_statistics(store.matrix, cohort_rows[:0], None)
    cohort_rows[17] = np.nan
    with pytest.raises(ValueError, match="cohort: the embedding of row 17 is not finite"):
        cohort_statistics(store.matrix, cohort_rows, 3)
    store.matrix[6] = 0
    with pytest.raises(ValueError, match="embeddings: the embedding of row 6 is all zero"):
        cohort_statistics(store.matrix, cohort_rows[:17], 3)


def test_the_formulas():
    scores, enroll, test = np.array([0.5, 0.2]), ([0.1, 0.1], [0.2, 0.1]), ([0.3, 0.0], [0.1, 0.4])
    np.testing.assert_allclose(z_norm(scores, enroll), [2.0, 1.0])
    np.testing.assert_allclose(t_norm(scores, test), [2.0, 0.5])
    np.testing.assert_allclose(s_norm(scores, enroll, test), [2.0, 0.75])
    np.testing.assert_allclose(as_norm(scores, enroll, test), [2.0, 0.75])
    # the two sides have equal say, and the unit of the scores cancels
    np.testing.assert_array_equal(as_norm(scores, enroll, test), as_norm(scores, test, enroll))
    moved = [(3 * np.array(mean) - 1, 3 * np.array(std)) for mean, std in (enroll, test)]
    np.testing.assert_allclose(as_norm(3 * scores - 1, *moved), as_norm(scores, enroll, test))


def test_statistics_must_be_gathered_per_trial():
    with pytest.raises(ValueError, match=r"enroll_stats must be .*\(1,\) and \(1,\) for scores \(2,\)"):
        z_norm([0.5, 0.2], ([0.1], [0.2]))
    with pytest.raises(ValueError, match="test_stats must be"):
        as_norm([0.5], ([0.1], [0.2]), (0.1, 0.2))
    for std in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="test_stats: standard deviations must be positive"):
            t_norm([0.5], ([0.1], [std]))


def test_a_rotation_of_the_space_changes_nothing(world):
    store, cohort_rows, table = world
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))[0]
    turned = Store(store.ids, store.matrix @ rotation)
    for method in ("s-norm", "as-norm"):
        before = normalize_table(table, store, cohort_rows, method, top_n=10).scores
        after = normalize_table(table, turned, cohort_rows @ rotation, method, top_n=10).scores
        np.testing.assert_allclose(after, before, atol=1e-10)


def test_normalising_twice_or_by_an_unknown_method_is_refused(world):
    store, cohort_rows, table = world
    once = normalize_table(table, store, cohort_rows, top_n=10)
    with pytest.raises(ValueError, match="normalised already"):
        normalize_table(once, store, cohort_rows, top_n=10)
    with pytest.raises(ValueError, match="unknown method 'asnorm'"):
        normalize_table(table, store, cohort_rows, "asnorm")


def test_speaker_means_give_every_utterance_one_vote(monkeypatch):
    set_blocks(monkeypatch, columns=4)
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(30, 6)).astype(np.float32)
    speakers = [f"s{i}" for i in rng.integers(5, size=30)]
    means, names = speaker_means(matrix, speakers)
    assert names == sorted(set(speakers))
    for mean, name in zip(means, names, strict=True):
        own = matrix[np.array(speakers) == name].astype(np.float64)
        expected = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(mean, expected / np.linalg.norm(expected), atol=1e-14)
    # a louder embedding is not more of the speaker
    louder, _ = speaker_means(matrix * rng.uniform(0.1, 10, size=(30, 1)), speakers)
    np.testing.assert_allclose(louder, means, atol=1e-6)


def test_speaker_means_refuse_what_has_no_mean():
    with pytest.raises(ValueError, match="3 embeddings and 2 speakers"):
        speaker_means(np.ones((3, 2)), ["a", "b"])
    for nobody in (None, float("nan")):
        with pytest.raises(ValueError, match="speakers must be names, found (None|nan)"):
            speaker_means(np.ones((2, 2)), ["a", nobody])
    with pytest.raises(ValueError, match="speaker_means has 1 masked"):
        speaker_means(np.ma.array(np.ones((2, 2)), mask=[[0, 0], [0, 1]]), ["a", "b"])
    with pytest.raises(ValueError, match="'b' is all zero"):
        speaker_means(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -2.0]]), ["a", "b", "b"])
    with pytest.raises(ValueError, match="row 1 is not finite"):
        speaker_means(np.array([[1.0, 0.0], [np.inf, 1.0]]), ["a", "b"])
