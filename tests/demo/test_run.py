"""The demo as a newcomer runs it. Minutes: `make test-all`."""

import json
import logging
import re
import sys
from pathlib import Path

import pytest

from alpha_sv.demo.run import LOSSES, _quiet, run_demo
from alpha_sv.files import FolderInUse, folder_lock
from alpha_sv.pipeline.provenance import scores_kind
from alpha_sv.scoring import Calibrator

pytest.importorskip("espeakng_loader", reason="the demo corpus needs pip install 'alpha_sv[demo]'")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "first"
    return run_demo(output=folder)


@pytest.mark.slow
def test_leaves_a_report_and_an_error_that_shows_something(demo):
    metrics = json.loads((demo.parent / "metrics.json").read_text())
    systems = {system["name"]: system for system in metrics["systems"]}
    for name in ("cosine", "as-norm"):
        assert 0.02 <= systems[name]["eer"]["value"] <= 0.15
    assert systems["mean fbank"]["eer"]["value"] > 0.3, "the channel must not give the speaker away"
    assert scores_kind(demo.parent / "scores_as_norm.txt") == "as-norm top 30"
    assert Calibrator.load(demo.parent / "calibrator.json").kind == "as-norm top 30"
    html = demo.read_text()
    assert html.count("<svg") == 6 and "http" not in html.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_the_picture_of_the_readme_is_of_this_demo(demo):
    """Another machine rounds otherwise, and a training drifts;
    two points of EER are allowed for that."""
    metrics = json.loads((demo.parent / "metrics.json").read_text())
    picture = (Path(__file__).parents[2] / "docs/demo.svg").read_text(encoding="utf-8")
    for system in metrics["systems"][:3]:
        shown = re.search(rf"{system['name']}: EER ([\d.]+) %", picture)
        assert abs(float(shown[1]) - 100 * system["eer"]["value"]) < 2


@pytest.mark.slow
def test_same_seed_same_metrics(demo):
    again = run_demo(output=demo.parent.parent / "second")
    for name in ("metrics.json", "scores.txt", "train_log.jsonl", "model/embedder.safetensors"):
        assert (again.parent / name).read_bytes() == (demo.parent / name).read_bytes(), name


@pytest.mark.slow
def test_second_start_finds_everything_done_and_says_what_to_look_at(demo, capsys):
    before = (demo.parent / "metrics.json").read_bytes(), (demo.parent / "train_log.jsonl").read_bytes()
    run_demo(output=demo.parent)
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 20 and "report.html" in said and "Next" in said
    assert before == (
        (demo.parent / "metrics.json").read_bytes(),
        (demo.parent / "train_log.jsonl").read_bytes(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", sorted(LOSSES.keys() - {"q_margin"}))
def test_the_other_losses_train_too(loss, tmp_path_factory, demo):
    report = run_demo(loss, output=demo.parent.parent / loss)
    metrics = json.loads((report.parent / "metrics.json").read_text())
    assert metrics["systems"][1]["eer"]["value"] < 0.2


def test_a_folder_in_use_is_refused_before_anything_is_built(tmp_path):
    folder = tmp_path / "demo"
    with folder_lock(folder):
        for _ in range(2):  # to have been refused once is no key
            with pytest.raises(FolderInUse):
                run_demo(output=folder)
    assert list(tmp_path.iterdir()) == []


def test_of_a_training_warnings_and_every_fifth_epoch_reach_the_terminal(capsys):
    logger, level = logging.getLogger("alpha_sv.sb.brain"), logging.getLogger().level
    logger.setLevel(logging.INFO)
    with _quiet():
        print("a bar", file=sys.stderr)
        logging.getLogger().setLevel(logging.DEBUG)
        for epoch in range(1, 8):
            logger.info("epoch %d, step %d: train loss 0.1, development EER %.2f %%, ...", epoch, 10 * epoch, 3.0)
        logger.warning("look out")
    logger.setLevel(logging.NOTSET)
    assert capsys.readouterr() == ("     epoch 5: EER 3.00 % on the development trials\n     look out\n", "")
    assert logging.getLogger().level == level


def test_unknown_loss_is_refused(tmp_path):
    with pytest.raises(ValueError, match="q_margin, a3m, am, aam, got 'x'"):
        run_demo("x", tmp_path)
