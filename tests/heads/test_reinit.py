"""A3M-I: prototypes at the mean directions of their speakers."""

import contextlib

import pytest
import torch

from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead, class_means, reinitialise


def batches(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 6, generator=g) * 10**k, torch.randint(5, (n,), generator=g)) for k, n in enumerate((7, 1, 12))
    ]


def test_means_are_unit_and_equal_a_plain_loop():
    means, classes = class_means(iter(batches()), num_classes=9)
    vectors = {}
    for embeddings, labels in batches():
        for embedding, label in zip(embeddings.double(), labels.tolist(), strict=True):
            vectors.setdefault(label, []).append(embedding / embedding.norm())
    assert classes.tolist() == sorted(vectors)
    for mean, label in zip(means, classes.tolist(), strict=True):
        expected = torch.stack(vectors[label]).mean(0)
        torch.testing.assert_close(mean, (expected / expected.norm()).cpu(), rtol=1e-6, atol=1e-7)
        assert mean.norm().item() == pytest.approx(1, abs=1e-12)


def test_length_of_an_embedding_and_order_of_the_batches_do_not_matter():
    means, classes = class_means(batches(), 9)
    scaled, same = class_means([(7 * embeddings, labels) for embeddings, labels in reversed(batches())], 9)
    assert torch.equal(classes, same)
    torch.testing.assert_close(scaled, means, rtol=1e-6, atol=1e-6)


def test_embeddings_that_cancel_have_no_mean():
    embeddings = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    _, classes = class_means([(embeddings, torch.tensor([0, 0, 1]))], 2)
    assert classes.tolist() == [1]


@pytest.mark.parametrize("kind", [CosineHead, SparseHead])
def test_classes_without_data_keep_their_prototype_and_the_optimiser_forgets(kind):
    head = kind(6, 9)
    optimizer = PrototypeSGD(head.parameters(), 0.1)
    head(torch.randn(20, 6), torch.arange(20) % 9).backward()
    optimizer.step()
    assert optimizer.state[head.weight]
    before, weight = head.weight.detach().clone(), head.weight
    means, classes = class_means(batches(), 9)
    reinitialise(head, optimizer, means, classes)
    assert head.weight is weight and weight.requires_grad
    torch.testing.assert_close(weight.data[classes].cpu(), means.float())
    others = [label for label in range(9) if label not in classes.tolist()]
    assert others and torch.equal(weight.data[others], before[others])
    assert not optimizer.state[weight]
    optimizer.step()  # and it starts anew


def test_split_prototypes_take_those_of_their_own_classes():
    """Global labels once went into the rows of the same number of whatever shard."""
    head = CosineHead(6, 3)
    head.classes = range(2, 5)
    before = head.weight.detach().clone()
    means, classes = torch.eye(6)[:4], torch.tensor([0, 2, 4, 7])
    reinitialise(head, PrototypeSGD(head.parameters(), 0.1), means, classes)
    assert torch.equal(head.weight.data, torch.stack([means[1], before[1], means[2]]))


@pytest.mark.parametrize(
    "embeddings, labels, message",
    [
        (torch.tensor([[1.0, torch.nan]]), torch.tensor([0]), "not finite"),
        (torch.tensor([[1.0, torch.inf]]), torch.tensor([0]), "not finite"),
        (torch.ones(1, 2), torch.tensor([3]), r"\[0, 3\)"),
        (torch.ones(1, 2), torch.tensor([-1]), r"\[0, 3\)"),
    ],
)
def test_bad_batches_are_refused(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        class_means([(embeddings, labels)], 3)


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="no batch"):
        class_means([], 3)


def processes(*of_each):
    """What `combine` sends and receives when these processes meet:
    each a callable that takes its `combine`."""
    sent, found = [], []
    for work in of_each:  # first what each of them sends

        def note(sums):
            sent.append(sums.clone())
            raise StopIteration

        with contextlib.suppress(StopIteration):
            work(note)
    for work in of_each:
        try:
            found.append(work(lambda sums: torch.stack(sent).sum(0)))
        except ValueError as error:
            found.append(error)
    assert len(sent) == len(of_each), "a process that does not come to the all-reduce leaves the others waiting"
    return found


def of(given):
    return lambda combine: class_means(given, 9, combine, embedding_dim=6)


def test_a_process_without_a_batch_takes_part():
    """It raised before the all-reduce, and the others waited for ever."""
    alone = class_means(batches(), 9)
    for means, classes in processes(of(batches()), of([])):
        torch.testing.assert_close(means, alone[0])
        assert torch.equal(classes, alone[1])
    for error in processes(of([]), of([])):
        assert "no batch" in str(error)


@pytest.mark.parametrize("bad", ["nan", "label", "file"])
def test_a_process_that_fails_takes_part_and_all_of_them_raise(bad):
    def broken():
        yield batches()[0]
        if bad == "file":
            raise ValueError("cannot be read")
        yield torch.full((1, 6), torch.nan if bad == "nan" else 1.0), torch.tensor([9 if bad == "label" else 0])

    first, second = processes(of(batches()), lambda combine: class_means(broken(), 9, combine, embedding_dim=6))
    assert "another process failed" in str(first)
    assert {"nan": "not finite", "label": "[0, 9)", "file": "cannot be read"}[bad] in str(second)
