"""TensorBoard shows train_log.jsonl, no more and no less, however often the run was killed."""

import sys

import pytest

from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.experiment import run
from alpha_sv.sb.training_log import TrainingLog
from tests.fixtures.training_runs import OFTEN, Killed, arguments, kill, log_of, run_killed

pytestmark = pytest.mark.usefixtures("in_recipe")


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {(tag, e.step): e.value for tag in found.Tags()["scalars"] for e in found.Scalars(tag)}


def lines(folder):
    numbers = {}
    for row in log_of(folder):
        kind, step = row.pop("kind"), row.pop("step")
        numbers |= {(f"{kind}/{key}", step): value for key, value in row.items()}
    return numbers


@pytest.mark.slow
def test_tensorboard_shows_the_log_also_after_kills(tree, tmp_path):
    """Killed after the last training step of an epoch and before its development trials,
    then resumed: both end on the same step, and neither is lost.
    """
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    argv = arguments(tree, tmp_path, tensorboard=True, **OFTEN)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SpeakerBrain, "evaluate_batch", kill)
        run(argv)
    run_killed(argv, step=9)
    run(argv)
    shown, expected = events(tmp_path / "tensorboard"), lines(tmp_path)
    assert shown.keys() == expected.keys() and shown == pytest.approx(expected)
    assert {("train/loss", 6), ("valid/eer", 6)} <= shown.keys()


def test_tensorboard_forgets_what_a_killed_run_wrote_after_its_checkpoint(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    log = TrainingLog(tmp_path / "train_log.jsonl", tmp_path / "tensorboard")
    for step in (2, 4, 6):
        log.append({"kind": "train", "step": step, "loss": 1.0 / step})
        if step == 2:
            log._save(tmp_path / "ckpt")
    resumed = TrainingLog(tmp_path / "train_log.jsonl", tmp_path / "tensorboard")
    resumed._load(tmp_path / "ckpt", end_of_epoch=False)
    resumed.append({"kind": "train", "step": 5, "loss": 0.5})  # another log_interval
    assert (
        events(tmp_path / "tensorboard")
        == pytest.approx(lines(tmp_path))
        == {("train/loss", 2): 0.5, ("train/loss", 5): 0.5}
    )


def test_tensorboard_without_its_package_is_refused_before_training(tree, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        run(arguments(tree, tmp_path, tensorboard=True))
