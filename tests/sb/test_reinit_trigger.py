"""A3M-I by its symptom: the prototypes are set anew once,
after the first epoch with too many samples of p_y = 0."""

import re

import numpy as np
import pytest
import torch

from alpha_sv.sb.experiment import run
from alpha_sv.sb.reinit import Reinitialiser
from tests.fixtures.training_runs import RECIPE, arguments, column, log_of, run_killed

pytestmark = pytest.mark.usefixtures("in_recipe")

# narrow posteriors around random prototypes:
# a good part of the samples has p_y = 0, and fewer from epoch to epoch
STARVING = {
    "loss": "!new:alpha_sv.losses.A3M {alpha: 2.0, scale: 20.0}",
    "margin_schedule": "{initial_margin: 0.0, final_margin: 0.4, increase_start_epoch: 1, fix_start_epoch: 3}",
    "number_of_epochs": 4,
    "cooldown_epochs": 1,
    "lr": 0.0005,
}
CHECKPOINTS = {"ckpt_interval_steps": 2, "ckpt_interval_minutes": 0}
STEPS = 6  # of an epoch
ACTS = {"reinit_zero_target": 1e-4, "reinit_epoch": 3}


@pytest.fixture(scope="module")
def untouched(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untouched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        run(arguments(tree, folder, **STARVING))
    return log_of(folder)


def fractions(log):
    """Of p_y = 0, by epoch."""
    return np.reshape([row["zero_target"] for row in log if row["kind"] == "train"], (-1, STEPS)).mean(1)


def fired(folder):
    text = (folder / "log.txt").read_text()
    return [int(epoch) for epoch in re.findall(r"epoch (\d+): 6 prototypes set to", text)]


def test_it_acts_before_the_first_epoch_after_one_above_the_fraction_and_once(untouched, tree, tmp_path):
    """Up to there the run is that without it."""
    found = fractions(untouched)
    limit = found[0] + 1e-6
    first = int(np.argmax(found > limit)) + 1  # the epoch that is above it
    assert found[first - 1] > limit and 1 < first < 4, found
    run(arguments(tree, tmp_path, reinit_zero_target=limit, **STARVING))
    log = log_of(tmp_path)
    assert fired(tmp_path) == [first + 1]
    for one, other in zip(log, untouched, strict=True):
        before = one["step"] <= first * STEPS
        assert (one == other) is before, "the run without it, up to there and no further"


@pytest.mark.slow
def test_it_waits_for_reinit_epoch_and_looks_at_the_epoch_just_before(untouched, tree, tmp_path):
    limit = fractions(untouched).min() / 2
    assert limit > 0
    for earliest in (1, 3):
        folder = tmp_path / str(earliest)
        run(arguments(tree, folder, reinit_zero_target=limit, reinit_epoch=earliest, **STARVING))
        assert fired(folder) == [max(earliest, 2)], "no epoch comes before the first"


@pytest.mark.slow
def test_a_fraction_that_no_epoch_exceeds_changes_nothing(untouched, tree, tmp_path):
    run(arguments(tree, tmp_path, reinit_zero_target=0.9999, reinit_epoch=2, **STARVING))
    assert fired(tmp_path) == [] and log_of(tmp_path) == untouched


@pytest.fixture(scope="module")
def never_killed(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("never_killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        run(arguments(tree, folder, **STARVING, **ACTS))
    assert fired(folder) == [3]
    return log_of(folder)


@pytest.mark.parametrize(
    "step", [*(pytest.param(n, marks=pytest.mark.slow) for n in (STEPS + 2, 2 * STEPS)), 2 * STEPS + 3]
)
@pytest.mark.slow
def test_killed_and_resumed_it_takes_the_same_steps(step, never_killed, tree, tmp_path):
    """Inside the epoch before, at its end, and inside the epoch at whose beginning it acts:
    when that is taken up again, its own first batches are not the epoch before.
    """
    argv = arguments(tree, tmp_path, **STARVING, **ACTS, **CHECKPOINTS)
    run_killed(argv, step)
    run(argv)
    assert log_of(tmp_path) == never_killed
    assert set(fired(tmp_path)) == {3}


@pytest.mark.slow
def test_resumed_inside_an_epoch_it_waits_for_the_next(untouched, tree, tmp_path):
    """The first batches of an epoch may be above the fraction where no whole epoch is."""
    zero = np.reshape([row["zero_target"] for row in untouched if row["kind"] == "train"], (-1, STEPS))
    epoch, taken = max(((e, n) for e in range(1, 4) for n in (2, 4)), key=lambda at: zero[at[0], : at[1]].mean())
    limit = (zero[epoch, :taken].mean() + zero.mean(1).max()) / 2
    assert zero[epoch, :taken].mean() > limit > zero.mean(1).max(), "else there is nothing to try"
    argv = arguments(tree, tmp_path, reinit_zero_target=limit, **STARVING, **CHECKPOINTS)
    run_killed(argv, step=epoch * STEPS + taken)
    run(argv)
    assert fired(tmp_path) == [] and log_of(tmp_path) == untouched


def test_the_optimiser_forgets_what_it_knew_of_the_prototypes(tree, tmp_path, monkeypatch):
    states, original = [], Reinitialiser.__call__

    def watch(reinitialiser, brain, epoch):
        original(reinitialiser, brain, epoch)
        states.append(brain.head.weight in brain.optimizer.state)

    monkeypatch.setattr(Reinitialiser, "__call__", watch)
    run(arguments(tree, tmp_path, number_of_epochs=3, reinit_epoch=2))
    assert states == [False, False, True]


@pytest.mark.slow
def test_with_speeds_every_class_moves(tree, tmp_path):
    """To unit length, which random prototypes do not have."""
    run(arguments(tree, tmp_path, number_of_epochs=2, reinit_epoch=2, speeds="[1.0, 0.9, 1.1]", lr=1e-12))
    assert "18 prototypes set" in (tmp_path / "log.txt").read_text()
    last = max((tmp_path / "save").glob("CKPT*/head.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    lengths = torch.load(last, weights_only=True)["weight"].norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(18), rtol=0, atol=1e-4)
    assert len(column(tmp_path, "loss")) == 2 * STEPS
