"""The template protocol is what a plain loop says it is,
in any blocks; TAR at FAR is that of the metrics."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_sv.face.templates import TemplateRule, pool_templates, score_pairs
from alpha_sv.face.true_accept_rates import FARS, markdown, tar_table
from alpha_sv.metrics import eer, speaker_bootstrap, tar_at_far

RULES = [TemplateRule(*choices) for choices in itertools.product([True, False], repeat=4)]


def plain(embeddings, template, media, detector, rule):
    """insightface's description of the protocol, one image after the other."""
    result = []
    for t in sorted(set(template)):
        by_media = {}
        for i in np.flatnonzero(template == t):
            vector = embeddings[i, 0].astype(float)
            if rule.flip:
                vector = vector + embeddings[i, 1]
            if not rule.norm:
                vector = vector / np.sqrt(sum(vector**2))
            if rule.detector_score:
                vector = vector * detector[i]
            by_media.setdefault(media[i] if rule.media_average else i, []).append(vector)
        total = sum(sum(vectors) / len(vectors) for vectors in by_media.values())
        result.append(total / np.sqrt(sum(total**2)))
    return np.array(result)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(RULES), st.integers(1, 60))
def test_templates_and_scores_equal_a_plain_reference(seed, rule, block):
    rng = np.random.default_rng(seed)
    count, templates = int(rng.integers(9, 60)), int(rng.integers(2, 9))
    embeddings = rng.normal(size=(count, 2, 16)).astype(np.float32) * rng.lognormal(size=(count, 1, 1))
    template = rng.permutation(np.append(np.arange(templates), rng.integers(0, templates, count - templates)))
    media, detector = rng.integers(-2, 5, count), rng.uniform(0.1, 1, count)
    expected = plain(embeddings, template, media, detector, rule)
    found = pool_templates(embeddings, template, media, detector, rule, block)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    left, right = rng.integers(0, templates, (2, 100))
    scores = score_pairs(found, left, right, block)
    np.testing.assert_allclose(
        scores, [expected[a] @ expected[b] for a, b in zip(left, right, strict=True)], atol=1e-12
    )


def test_pairs_need_the_memory_of_a_block():
    templates = np.eye(512)[np.arange(1000) % 512]
    left = right = np.zeros(100_000, np.int32)
    tracemalloc.start()
    scores = score_pairs(templates, left, right, block=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (scores == 1).all() and peak < scores.nbytes + 3 * 1024 * 512 * 8  # all at once would be 0.8 GB


def test_what_has_no_direction_or_no_image_is_refused():
    ones = np.ones((2, 2, 4))
    with pytest.raises(ValueError, match="number 1, have no direction"):
        pool_templates(ones * [[[1]], [[0]]], np.array([0, 1]), np.arange(2), np.ones(2))
    with pytest.raises(ValueError, match="each with an image"):
        pool_templates(ones, np.array([0, 2]), np.arange(2), np.ones(2))


def people(seed=0, count=30, images=8):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 6)).repeat(images, 0) + 0.9 * rng.normal(size=(count * images, 6))
    who = np.arange(count).repeat(images)
    i, j = np.triu_indices(len(who), 1)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit[i] * unit[j]).sum(1), who[i], who[j]


def test_the_table_is_that_of_the_metrics():
    scores, left, right = people()
    labels = left == right
    table = tar_table(scores, labels, (left, right), replicates=100)
    assert table["eer"] == eer(scores[labels], scores[~labels])[0] and table["persons"] == 30
    for far, row in zip(FARS, table["rows"], strict=True):
        assert (row["tar"], row["threshold"]) == tar_at_far(scores[labels], scores[~labels], far)
        assert row["false_accepts"] == np.sum(scores[~labels] >= row["threshold"]) <= far * np.sum(~labels)
        assert (row["interval"] is not None) == row["supported"] == (row["false_accepts"] >= 10)
    boot = speaker_bootstrap(scores, left.astype(str), right.astype(str), labels, replicates=100)
    low, high = boot.intervals()["fnr_at_fpr"][0]  # at FAR 1e-2; the same draws but for the order of the names
    ours = table["rows"][4]["interval"]
    np.testing.assert_allclose(ours, [1 - high, 1 - low], atol=0.03)
    assert ours[0] <= table["rows"][4]["tar"] <= ours[1]


def test_the_order_of_pairs_and_persons_does_not_matter():
    scores, left, right = people()
    order = np.random.default_rng(1).permutation(len(scores))
    one, two = (
        tar_table(scores[rows], (left == right)[rows], (left[rows], right[rows]), replicates=40)
        for rows in (slice(None), order)
    )
    assert one == two


def test_no_intervals_where_persons_are_few_or_contradict_the_labels():
    scores, left, right = people(count=5)
    table = tar_table(scores, left == right, (left, right))
    assert "needs 10" in table["no_intervals"] and not any(row["interval"] for row in table["rows"])
    scores, left, right = people()
    labels = left == right
    labels[0] = ~labels[0]
    assert "contradict" in tar_table(scores, labels, (left, right))["no_intervals"]
    text = markdown({"a": table}, "flip: sum")
    assert "flip: sum" in text and "(only " in text and "No intervals of a" in text
    with pytest.raises(ValueError, match="at least 40"):
        tar_table(scores, labels, (left, right), replicates=20)
