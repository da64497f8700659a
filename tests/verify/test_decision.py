"""`verify`: the decision follows from the cosine and
a threshold somebody measured, or it cannot say."""

import json

import numpy as np
import pytest
import soundfile

from alpha_sv.cli import main
from alpha_sv.files import sha256_file
from alpha_sv.scoring.calibrator import Calibrator, OperatingPoint, Quality
from alpha_sv.verify.decision import choose_point
from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.model import load_model
from tests.fixtures.voices import calibrator, save_model, save_recordings, spoken


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    return folder, load_model(save_model(folder / "model")), save_recordings(folder / "wav")


def mean_cosine(one, other):
    units = [side / np.linalg.norm(side.astype(np.float64), axis=1, keepdims=True) for side in (one, other)]
    return np.mean([a @ b for a in units[0] for b in units[1]])


def test_the_score_is_the_mean_cosine_of_all_pairs_and_the_llr_follows_the_calibrator(world):
    _, model, files = world
    decision = model.verify(files[0][:2], files[1])
    expected = mean_cosine(model.embed(files[0][:2]), model.embed(files[1]))
    assert decision.score == pytest.approx(expected, abs=1e-6)
    assert decision.llr == pytest.approx(10 * expected - 2, abs=1e-2)  # squeezed by no more than 0.01 at the bounds
    swapped = model.verify(files[1], files[0][:2])
    assert swapped.score == pytest.approx(decision.score, abs=1e-12) and swapped.same is decision.same


def test_the_llr_of_two_recordings_is_that_of_the_calibrator_with_durations_too(world):
    _, model, files = world
    measures = (Quality("log_duration_min", 1.0, 0.3, 0.8), Quality("log_duration_max", 1.1, 0.3, -0.9, 0.0, 1.12))
    line = calibrator(qualities=measures)
    decision = model.verify(files[0][0], files[1][2], calibrator=line)
    seconds = [soundfile.info(file).duration for file in (files[0][0], files[1][2])]
    given = {"log_duration_min": np.log(min(seconds)), "log_duration_max": np.log(max(seconds))}
    assert decision.llr == pytest.approx(line.llr(decision.score, given), abs=1e-9)
    assert line.llr(decision.cosine_threshold, given) == pytest.approx(decision.threshold, abs=1e-2)


@pytest.mark.parametrize(("offset", "same"), [(-4.0, True), (-8.0, False)])
def test_the_side_of_the_threshold_decides(world, offset, same):
    """The fpr-1e-3 point is at 4 nats: a score of 1 makes 10 + offset."""
    _, model, files = world
    score = model.verify(files[0][0], files[0][1]).score
    line = calibrator(weight=10.0 / score, offset=offset)
    decision = model.verify(files[0][0], files[0][1], calibrator=line)
    assert decision.llr == pytest.approx(10 + offset) and decision.same is same
    assert decision.point == "fpr 1e-3" and decision.threshold == 4.0
    text = str(decision)
    assert text.startswith("same speaker" if same else "different speakers") and "\n" not in text
    for number in ("20 false accepts (0.1 %)", "40 misses (10 %)", "400 target and 20,000 nontarget", "80 speakers"):
        assert number in text


def test_at_the_threshold_is_accepted(world):
    _, model, files = world
    score = model.verify(files[0][0], files[1][0]).score
    assert model.verify(files[0][0], files[1][0], threshold=score).same is True
    assert model.verify(files[0][0], files[1][0], threshold=np.nextafter(score, 2)).same is False


def test_it_cannot_say_only_by_the_three_rules(world, tmp_path):
    _, model, files = world
    a, b = files[0][0], files[0][1]
    bare = load_model(save_model(tmp_path / "bare", line=False))
    decision = bare.verify(a, b)
    assert (decision.same, decision.llr, decision.threshold) == (None, None, None)
    assert "without a calibrator" in decision.reason and str(decision).startswith("cannot say")
    assert bare.verify(a, b, threshold=-1.0).same is True
    decision = model.verify(a, b, point="fpr 1e-4")
    assert decision.same is None and "2 false accepts in 20,000 nontarget trials" in decision.reason
    assert model.verify(a, b, point="p_target 1e-6").same is None  # 13.8 nats, the bounds are 9
    assert model.verify(a, b, point="p_target 0.1").threshold == pytest.approx(np.log(9))
    short = spoken(0, 0)[8000:10400]
    decision = model.verify(short, a)
    assert decision.same is None and "0.1" in decision.reason and "speech" in decision.reason
    assert model.verify(short, a, check_quality=False).same is not None


def test_the_default_point_is_the_strictest_of_two_that_is_supported():
    few = OperatingPoint("fpr 0.001", 5.0, 9, 3, 9000, 100)
    ten = OperatingPoint("fpr 1e-2", 3.0, 90, 3, 9000, 100)
    assert choose_point(Calibrator(1.0, 0.0, points=(few, ten)), None)[0] is ten
    assert choose_point(Calibrator(1.0, 0.0, points=(few,)), None)[0] is None
    with pytest.raises(ValueError, match="no operating point 'fpr 5'"):
        choose_point(Calibrator(1.0, 0.0, points=(few,)), "fpr 5")


def test_a_calibrator_of_another_model_is_refused_unless_it_came_with_the_model(world, tmp_path):
    _, model, files = world
    a, b = files[0][:2]

    def fitted_to(digest):
        return calibrator(provenance={"sources": {"model": {"file": "m", "sha256": digest}}})

    own, other = fitted_to(sha256_file(model.weights)), fitted_to("a" * 64)
    assert model.verify(a, b, calibrator=own).llr is not None
    for options in ({}, {"threshold": 0.5}):
        with pytest.raises(ValueError, match="of the model aaaaaaaaaaaa .*, and 'model' is .*fit one to scores"):
            model.verify(a, b, calibrator=other, **options)
    with pytest.raises(ValueError, match="of the model aaaaaaaaaaaa"):
        Gallery(tmp_path / "g.sqlite", model, calibrator=other)
    beside = load_model(save_model(tmp_path / "model", line=other))
    assert beside.verify(a, b).llr is not None and beside.verify(a, b, calibrator=beside.calibrator).llr is not None


@pytest.mark.parametrize(
    ("file", "digest", "warned"),
    [
        ("run/model/embedder.safetensors", "a" * 64, True),
        ("run/model/embedder.safetensors", None, False),  # the model's own
        ("run/model/model.onnx", "a" * 64, False),  # may be the same network
    ],
)
def test_a_calibrator_of_a_model_that_lay_there_before_is_warned_of(file, digest, warned, world, tmp_path, caplog):
    digest = digest or sha256_file(save_model(tmp_path / "same") / "embedder.safetensors")
    line = calibrator(provenance={"sources": {"model": {"file": file, "sha256": digest}}})
    a, b = world[2][0][:2]
    assert load_model(save_model(tmp_path / "model", line=line)).verify(a, b).llr is not None
    assert caplog.text.count("calibrator.json was fitted to scores of a model that lay here before") == warned
    caplog.clear()
    load_model(tmp_path / "model").verify(a, b, calibrator=calibrator())
    assert "lay here before" not in caplog.text, "that calibrator is not the one in use"


def test_what_makes_no_sense_is_an_error(world):
    _, model, files = world
    a, b = files[0][:2]
    for options, message in (
        ({"threshold": 0.5, "point": "eer"}, "two thresholds"),
        ({"threshold": 3.0}, "from -1 to 1"),
        ({"threshold": float("nan")}, "from -1 to 1"),
        ({"point": "p_target 2"}, "between 0 and 1"),
        ({"calibrator": Calibrator(-1.0, 0.0)}, "weight of -1"),
        ({"calibrator": Calibrator(1.0, 0.0, kind="as-norm")}, "as-norm"),
        ({"calibrator": Calibrator(1.0, 0.0, (Quality("cohort_mean_min", 0.0, 1.0, 1.0),))}, "cohort_mean_min"),
    ):
        with pytest.raises(ValueError, match=message):
            model.verify(a, b, **options)
    with pytest.raises(ValueError, match="at least one"):
        model.verify([], b)


def test_the_command_line_has_one_line_and_three_exit_statuses(world, capsys, tmp_path):
    folder, model, files = world
    use = ["--model", str(folder / "model")]
    a, b = map(str, files[0][:2])
    score = model.verify(a, b).score
    assert main(["verify", a, b, "--threshold", str(score - 0.01), *use]) == 0
    assert capsys.readouterr().out.startswith("same speaker: cosine")
    assert main(["verify", a, b, "--threshold", str(min(1, score + 0.0001)), *use]) == 1
    assert main(["verify", a, b, "--point", "fpr 1e-4", *use]) == 1
    assert capsys.readouterr().out.count("\n") == 2
    assert main(["verify", "--enrol", a, b, "--test", str(files[1][0]), "--json", *use]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx(model.verify([a, b], files[1][0]).score)
    assert found["measured"]["false_accepts"] == 20
    for wrong in ([a], [a, b, a], [a, "--enrol", a, "--test", b], ["--enrol", a], [a, str(tmp_path / "none.wav")]):
        assert main(["verify", *wrong, *use]) == 2
    assert main(["verify", a, b, "--point", "fpr 7", *use]) == 2
    assert "no operating point 'fpr 7'" in capsys.readouterr().err


def test_one_recording_on_both_sides_is_said(world, tmp_path):
    _, model, files = world
    soundfile.write(tmp_path / "copy.wav", *soundfile.read(files[0][0], dtype="float32"), subtype="FLOAT")
    assert "one recording is on both sides" in model.verify(files[0][0], tmp_path / "copy.wav").warnings
    assert "one recording is on both sides" not in model.verify(files[0][0], files[1][0]).warnings
