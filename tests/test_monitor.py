"""The watch on the sparse regime: when it looks, when it warns, and what its figures mean."""

import logging

import pytest
import torch

from alpha_sv import monitor
from alpha_sv.functional.solver import find_active
from alpha_sv.heads import SparseHead
from alpha_sv.losses import AAMSoftmax, QMargin, Sparsemax
from alpha_sv.monitor import SparsityMonitor, sparsity_figures
from tests.fixtures.replaced import counted

EVERY, LOOKS = SparsityMonitor.EVERY, SparsityMonitor.LOOKS


def batch(zero_loss, rows=20):
    """Cosines [rows, 3] of which that fraction is beyond every margin."""
    easy = torch.arange(rows) < round(zero_loss * rows)
    cosines = torch.where(easy[:, None], torch.tensor([1.0, -1.0, -1.0]), torch.tensor([0.1, 0.1, 0.0]))
    return cosines, torch.zeros(rows, dtype=torch.long)


def feed(loss, zero_loss, calls):
    for _ in range(calls):
        loss(*batch(zero_loss))


def warnings(caplog):
    return [record for record in caplog.records if record.levelno == logging.WARNING]


def test_warns_once_after_enough_looks_and_says_what_to_do(caplog):
    loss = QMargin()
    feed(loss, 1.0, (LOOKS - 1) * EVERY)
    assert not warnings(caplog) and not loss.monitor.warned and loss.monitor.zero_loss != loss.monitor.zero_loss
    feed(loss, 1.0, 1)
    assert len(warnings(caplog)) == 1 and loss.monitor.zero_loss == 1.0
    message = warnings(caplog)[0].getMessage()
    for word in ("100 %", "zero loss", "lower scale·(alpha − 1)", "margin", "augment"):
        assert word in message
    feed(loss, 1.0, 3 * LOOKS * EVERY)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("zero_loss, warned", [(0.0, False), (0.85, False), (0.95, True)])
def test_warns_above_the_published_level_only(caplog, zero_loss, warned):
    loss = Sparsemax()
    feed(loss, zero_loss, 3 * LOOKS * EVERY)
    assert loss.monitor.zero_loss == pytest.approx(zero_loss)
    assert len(warnings(caplog)) == warned


def test_only_the_last_looks_count(caplog):
    loss = QMargin()
    feed(loss, 0.0, LOOKS * EVERY)
    feed(loss, 1.0, (LOOKS - 1) * EVERY)
    assert loss.monitor.zero_loss == pytest.approx(0.9) and not warnings(caplog)
    feed(loss, 1.0, EVERY)
    assert len(warnings(caplog)) == 1


def test_looks_at_the_first_batch_and_then_at_every_twentieth_of_training():
    loss = QMargin()
    with counted(monitor, "sparsity_figures") as looks:
        for call in range(1, 2 * EVERY + 2):
            feed(loss, 0.5, 1)
            loss.eval()
            feed(loss, 1.0, 3)
            loss.train()
            assert len(looks) == (call - 1) // EVERY + 1
    assert loss.monitor.figures["zero_loss"] == 0.5


def test_validation_does_not_count_though_a_compute_cost_stays_in_training_mode():
    loss = QMargin()
    for _ in range(LOOKS * EVERY):
        with torch.no_grad():
            loss(*batch(1.0))
    assert loss.training and loss.monitor.figures == {}
    head = SparseHead(2, 3)
    with torch.no_grad():
        head(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert head.loss.monitor.figures == {}


def test_dense_losses_are_not_watched():
    loss = AAMSoftmax()
    feed(loss, 1.0, 2 * EVERY)
    assert loss.monitor.figures == {}


def test_sparse_head_counts_each_batch_once(caplog):
    head = SparseHead(2, 3, Sparsemax())
    head.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.1]])
    embeddings, labels = torch.tensor([[1.0, 0.0]] * 4), torch.zeros(4, dtype=torch.long)
    for _ in range((LOOKS - 1) * EVERY):
        head(embeddings, labels)
    assert not warnings(caplog)
    head(embeddings, labels)
    assert len(warnings(caplog)) == 1


def test_figures_are_what_they_say():
    logits = torch.tensor(
        [[9.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.9], [0.0, 9.0, 0.0, 0.0], [0.5, 0.0, -9.0, -9.0]]
    ).double()
    target = torch.zeros(4, dtype=torch.long)
    figures = sparsity_figures(find_active(logits, target, alpha=2.0, target_value=logits[:, 0]))
    # row 0: target alone; row 1: four share; row 2: another alone, p_y = 0; row 3: 0.75 and 0.25
    assert figures["support"] == (1 + 4 + 1 + 2) / 4
    assert figures["zero_loss"] == 0.25 and figures["zero_target"] == 0.25
    p = torch.tensor([1.0, 0.275, 0.0, 0.75], dtype=torch.float64)
    assert figures["target_probability"] == pytest.approx(p.mean().item())
    assert figures["candidates"] >= 1
