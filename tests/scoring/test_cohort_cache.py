"""Cohort statistics of a list: continued after a kill,
never stale, independent of the order of the trials."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from alpha_sv.data.trials.files import ScoreTable, Trials
from alpha_sv.scoring import cohort, cohort_cache, normalize_table, score_trials, trial_statistics
from tests.batteries import damaged_files
from tests.fixtures.embedding_store import Store
from tests.fixtures.replaced import set_blocks


@pytest.fixture
def world(monkeypatch):
    set_blocks(monkeypatch, rows=8)
    rng = np.random.default_rng(0)
    store = Store([f"u{i}" for i in range(30)], rng.normal(size=(30, 8)).astype(np.float32))
    sides = rng.permutation(np.repeat(store.ids, 4)).reshape(2, 60)
    return store, rng.normal(size=(25, 8)).astype(np.float32), Trials(*sides)


@pytest.fixture
def counted(monkeypatch):
    """Utterances whose statistics are computed; `counted.stop_after` blocks the run is killed."""

    class Counter:
        utterances, blocks, stop_after = 0, 0, None

    def counting(embeddings, *args, **kwargs):
        if Counter.blocks == Counter.stop_after:
            raise KeyboardInterrupt
        Counter.blocks += 1
        Counter.utterances += len(embeddings)
        return cohort.cohort_statistics(embeddings, *args, **kwargs)

    monkeypatch.setattr(cohort_cache, "cohort_statistics", counting)
    return Counter


def run(world, cache, top_n=5, **changes):
    store, cohort_rows, trials = world
    return trial_statistics(
        trials, changes.get("store", store), changes.get("cohort", cohort_rows), top_n, cache=cache, progress=False
    )


def test_a_killed_run_continues_where_it_was(world, counted, tmp_path):
    expected = run(world, None)
    counted.utterances, counted.blocks, counted.stop_after = 0, 0, 2
    with pytest.raises(KeyboardInterrupt):
        run(world, tmp_path / "cache")
    assert counted.utterances == 16 and len(list((tmp_path / "cache").iterdir())) == 2
    counted.stop_after = None
    resumed = run(world, tmp_path / "cache")
    assert counted.utterances == 30  # each utterance once in all
    np.testing.assert_array_equal(resumed, expected)
    np.testing.assert_array_equal(run(world, tmp_path / "cache"), expected)
    assert counted.utterances == 30


def test_a_block_is_reused_only_for_the_same_inputs(world, counted, tmp_path):
    store, cohort_rows, _ = world
    run(world, tmp_path)
    other = Store(store.ids, store.matrix.copy())
    other.matrix[7, 3] += 1e-6
    blocks = counted.blocks
    for changes, fresh in (({"top_n": 6}, 4), ({"top_n": None}, 4), ({"cohort": cohort_rows[::-1]}, 4)):
        before = counted.blocks
        np.testing.assert_array_equal(run(world, tmp_path, **changes), run(world, None, **changes))
        assert counted.blocks - before == 2 * fresh
    # only the block of the utterance that changed is made again
    before = counted.blocks
    run(world, tmp_path, store=other)
    assert counted.blocks - before == 1 and blocks == 4


@pytest.mark.parametrize("damage", ["cut", "shape", "nan", "pickle"])
def test_a_damaged_block_is_named(world, tmp_path, damage):
    run(world, tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    content = np.load(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        wrong = {"shape": content[:, :2], "nan": content * np.nan, "pickle": np.array([{}], dtype=object)}[damage]
        np.save(path, wrong, allow_pickle=True)
    with pytest.raises(ValueError, match=f"{path.name} are damaged .*delete the file"):
        run(world, tmp_path)


def test_the_order_of_the_trials_does_not_matter(world):
    store, cohort_rows, trials = world
    expected = run(world, None)
    order = np.random.default_rng(1).permutation(len(trials))
    moved = run((store, cohort_rows, Trials(trials.enroll[order], trials.test[order])), None)
    for side in range(2):
        np.testing.assert_array_equal(np.array(moved[side]), np.array(expected[side])[:, order])


def test_normalisation_with_a_cache_is_the_same(world, tmp_path):
    store, cohort_rows, trials = world
    table = score_trials(trials, store, progress=False)
    for method in ("z-norm", "t-norm", "s-norm", "as-norm"):
        plain = normalize_table(table, store, cohort_rows, method, top_n=5, progress=False)
        for _ in range(2):
            kept = normalize_table(table, store, cohort_rows, method, top_n=5, cache=tmp_path, progress=False)
            assert kept.scores.tobytes() == plain.scores.tobytes()


def test_an_utterance_cohort_on_disk_is_read_in_blocks(tmp_path, monkeypatch):
    # peers: an utterance cohort needed the whole utterance x cohort matrix.
    # Here 1 MB serves a cohort of 5 MB
    set_blocks(monkeypatch, columns=256)
    rng = np.random.default_rng(2)
    np.save(tmp_path / "cohort.npy", rng.normal(size=(80_000, 16)).astype(np.float32))
    store = Store(["a", "b"], rng.normal(size=(2, 16)))
    mapped = np.load(tmp_path / "cohort.npy", mmap_mode="r")
    tracemalloc.start()
    found = trial_statistics(Trials(["a"], ["b"]), store, mapped, 300, cache=tmp_path / "cache", progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < mapped.nbytes
    expected = cohort.cohort_statistics(store.matrix, np.array(mapped), 300)
    np.testing.assert_allclose(np.array(found)[:, :, 0].T, expected, atol=1e-13)


def test_a_missing_utterance_is_named_before_anything_is_computed(world, counted):
    store, cohort_rows, _ = world
    with pytest.raises(ValueError, match="1 of the 2 utterances .*'nobody'"):
        normalize_table(ScoreTable(["u0"], ["nobody"], [0.1]), store, cohort_rows, top_n=5)
    assert counted.utterances == 0


@pytest.mark.parametrize("content", damaged_files.NPY.values(), ids=damaged_files.NPY)
def test_a_block_that_is_no_array_is_named(world, tmp_path, content):
    run(world, tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} are damaged .*delete the file"):
        run(world, tmp_path)
