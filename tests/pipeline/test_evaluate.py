"""Systems are aligned by their trials, and what is shown of them is what the definitions say."""

import numpy as np
import pytest

from alpha_sv.data.trials.files import write_scores, write_trials
from alpha_sv.data.trials.tables import ScoreTable, Trials
from alpha_sv.metrics.schema import check_metrics
from alpha_sv.pipeline.evaluate import compare_files, evaluate_files, hardest_trials, load_systems
from alpha_sv.pipeline.provenance import write_sources
from alpha_sv.report import write_markdown, write_report


@pytest.fixture
def files(tmp_path):
    """20 speakers x 3 utterances, every pair;
    "good" has labels, "poor" has none and another order."""
    rng = np.random.default_rng(0)
    names = [f"s{s:02d}/x/{u}.wav" for s in range(20) for u in range(3)]
    i, j = np.triu_indices(len(names), 1)
    labels = i // 3 == j // 3
    enroll, test = np.array(names)[i], np.array(names)[j]
    good, poor = (rng.normal(np.where(labels, shift, 0.0), 1.0) for shift in (4.0, 1.0))
    order = rng.permutation(len(labels))
    write_scores(tmp_path / "good.txt", ScoreTable(enroll, test, good, labels))
    write_scores(tmp_path / "poor.txt", ScoreTable(enroll[order], test[order], poor[order]))
    write_trials(tmp_path / "trials.txt", Trials(enroll, test, labels))
    return tmp_path


def given(files, *names):
    return [("", str(files / f"{name}.txt")) for name in names]


def test_systems_are_aligned_whatever_the_order_and_wherever_the_labels(files):
    a = load_systems(given(files, "good", "poor"))
    b = load_systems(given(files, "poor", "good"), trials=str(files / "trials.txt"))
    np.testing.assert_array_equal(a.scores, b.scores[::-1])
    np.testing.assert_array_equal(a.trials.enroll, b.trials.enroll)
    np.testing.assert_array_equal(a.trials.labels, b.trials.labels)


def test_the_better_system_is_found_and_the_result_is_whole(files):
    metrics = evaluate_files(given(files, "poor", "good"), replicates=100, progress=False)
    check_metrics(metrics, "metrics")
    [pair] = metrics["comparison"]["pairs"]
    eer = pair["metrics"][0]
    assert (metrics["comparison"]["baseline"], pair["system"], eer["metric"]) == ("poor", "good", "eer")
    assert eer["interval"][1] < 0 and eer["sign"] == 1
    assert eer["system"] == metrics["systems"][1]["eer"]["value"]
    comparison = compare_files(given(files, "poor", "good"), replicates=100, progress=False)
    assert {**metrics["comparison"], "format": "alpha_sv.comparison/1"} == comparison


def test_without_replicates_nobody_has_to_be_known(files):
    text = (files / "good.txt").read_text().replace("/", "-")
    (files / "good.txt").write_text(text)
    with pytest.raises(ValueError, match="--speakers .*--replicates 0"):
        evaluate_files(given(files, "good"))
    metrics = evaluate_files(given(files, "good"), replicates=0)
    check_metrics(metrics, "metrics")
    assert metrics["systems"][0]["intervals"] is None and metrics["comparison"] is None


def test_of_few_speakers_there_are_no_intervals_and_the_report_says_why(files, caplog):
    # two speakers gave [5.4, 5.4] % and a page full of certainty
    for name in ("good", "other"):
        lines = [x for x in (files / "good.txt").read_text().splitlines() if x[:3] < "s09" and x.split()[1][:3] < "s09"]
        (files / f"{name}.txt").write_text("\n".join(lines))
    metrics = evaluate_files(given(files, "good", "other"))
    check_metrics(metrics, "metrics")
    assert metrics["comparison"] is None
    why = "no intervals: 9 speakers have target and 9 nontarget trials"
    assert why in caplog.text
    for write, name in ((write_report, "r.html"), (write_markdown, "r.md")):
        assert why in write(files / name, metrics).read_text()
    for system in metrics["systems"]:
        assert system["intervals"] is None and why.endswith(system["no_intervals"].partition(",")[0])
    with pytest.raises(ValueError, match="9 speakers .* more speakers"):
        compare_files(given(files, "good", "other"))


def test_scores_that_are_noted_to_be_no_ratios_are_not_believed_to_be_ratios(files):
    for name, kind in (("good", "cosine"), ("poor", "llr")):
        write_sources(files / f"{name}.txt", {}, kind=kind)
    assert load_systems(given(files, "good", "poor"), llr=["poor"]).llr == [False, True]
    for llr in (["good"], ["all"]):
        for call in (evaluate_files, compare_files):
            with pytest.raises(
                ValueError, match=r"good.txt has scores of the kind 'cosine' .*calibrate .*without 'good'"
            ):
                call(given(files, "poor", "good"), llr=llr)


def test_other_trials_are_refused_by_the_name_of_the_file(files):
    lines = (files / "poor.txt").read_text().splitlines(keepends=True)
    (files / "short.txt").write_text("".join(lines[1:]))
    with pytest.raises(ValueError, match=r"short.txt: .*1 of 1770 trials have no score .* on the same trials only"):
        evaluate_files(given(files, "good", "short"))


def test_repeated_trials_are_counted_once_a_list(files):
    with open(files / "good.txt", "a") as file:
        file.write((files / "good.txt").read_text().splitlines()[0] + "\n")
    assert evaluate_files(given(files, "good"), replicates=0)["systems"][0]["trials"]["repeated"] == 1


def test_hardest_trials_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    names = np.array([f"u{n:03d}" for n in range(500)])
    trials = Trials(rng.permutation(names), rng.permutation(names), rng.random(500) < 0.3)
    scores = rng.integers(0, 8, 500) / 8  # many ties
    expected = {
        "misses": sorted(zip(scores[trials.labels], trials.enroll[trials.labels], strict=True)),
        "false_accepts": sorted(zip(-scores[~trials.labels], trials.enroll[~trials.labels], strict=True)),
    }
    found = hardest_trials(scores, trials)
    order = rng.permutation(500)
    shuffled = Trials(trials.enroll[order], trials.test[order], trials.labels[order])
    assert hardest_trials(scores[order], shuffled) == found
    for key, sign in (("misses", 1), ("false_accepts", -1)):
        assert [(sign * e["score"], e["enroll"]) for e in found[key]] == expected[key][:20]
    assert hardest_trials(np.array([1.0]), Trials(["a"], ["b"], [True]))["false_accepts"] == []
