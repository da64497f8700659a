"""Every verb of the evaluation as it is typed,
one file in and one out, by name and through pipes."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from alpha_sv.data.trials.files import read_scores, read_trials
from alpha_sv.embedding.store import EmbeddingStore, StoreWriter
from alpha_sv.report import load_metrics
from alpha_sv.scoring import Calibrator, cosine_scores
from tests.fixtures.replaced import counted, set_blocks
from tests.fixtures.small_evaluation import DIM


def numbers(metrics):
    """What does not depend on where things came from."""
    return [{key: value for key, value in s.items() if key not in ("sources", "name")} for s in metrics["systems"]]


def test_scoring_and_normalising_are_one_step_or_two(run, world):
    for method in ("as-norm", "s-norm", "z-norm", "t-norm"):
        run(f"score emb trials.txt --norm {method} --top-n 10 -o one.txt")
        run(f"normalize cosine.txt --embeddings emb --method {method} --top-n 10 -o two.txt")
        assert (world / "one.txt").read_bytes() == (world / "two.txt").read_bytes()


def test_metrics_json_is_whole(world):
    metrics = load_metrics(world / "metrics.json")  # checks every field
    assert [s["name"] for s in metrics["systems"]] == ["cosine", "as_norm", "llrs"]
    for system in metrics["systems"]:
        assert system["trials"] == {"target": 120, "nontarget": 3040, "repeated": 0}
        assert system["intervals"]["speakers"] == 20 and system["intervals"]["replicates"] == 100
        low, high = system["intervals"]["eer"]
        assert low <= system["eer"]["value"] <= high
        groups = {g["value"]: g["trials"] for g in system["conditions"]}
        assert groups.keys() == {"ff", "fm", "mf", "mm"} and groups["fm"]["target"] == 0
        assert sum(g["nontarget"] for g in groups.values()) == 3040
    assert [s["cllr"] is None for s in metrics["systems"]] == [True, True, False]
    assert metrics["comparison"]["baseline"] == "cosine"
    assert [pair["system"] for pair in metrics["comparison"]["pairs"]] == ["as_norm", "llrs"]


def test_sources_name_the_files_and_commands_behind_a_system(world):
    sources = load_metrics(world / "metrics.json")["systems"][2]["sources"]
    files = {"scores": "llrs.txt", "trials": "trials.txt", "cohort": "emb/embeddings.npy"}
    for kind, file in {**files, "calibrator": "calibrator.json"}.items():
        assert sources[kind]["file"].startswith(file)
        assert sources[kind]["sha256"] == hashlib.sha256((world / file).read_bytes()).hexdigest()
    verbs = [line.split()[:2] for line in sources["command"].splitlines()]
    assert verbs == [["alpha-sv", verb] for verb in ("score", "normalize", "calibrate", "evaluate")]


def test_a_calibrator_fitted_to_other_speakers_calibrates(run, world):
    run("score emb dev_trials.txt -o dev.txt")
    assert "p_target 0.01                4.5951 " in run("calibrate dev.txt -o cosine.json")[0]
    output, _, _ = run("calibrate cosine.txt --calibrator cosine.json --json -o cosine_llrs.txt")
    lines = [line.split() for line in (world / "cosine_llrs.txt").read_text().splitlines()]
    for point in json.loads(output[output.index("[") :]):
        accepted = [label for *_, llr, label in lines if float(llr) >= point["threshold"]]
        assert point["false_accepts"] == accepted.count("nontarget")
        assert point["misses"] == point["target"] - accepted.count("target")
    assert "\neer  " in run("calibrate cosine.txt --calibrator cosine.json -o cosine_llrs.txt")[0]
    _, error, status = run("evaluate cosine_llrs.txt cosine.txt --llr --replicates 0 --json")
    assert status == 2 and "cosine.txt has scores of the kind 'cosine'" in error
    (world / "bare_cosine.txt").write_bytes((world / "cosine.txt").read_bytes())  # no note: believed
    output, _, _ = run("evaluate cosine_llrs.txt bare_cosine.txt --llr all --replicates 0 --json")
    llrs, cosines = json.loads(output)["systems"]
    assert llrs["min_cllr"] == cosines["min_cllr"] < llrs["cllr"] < cosines["cllr"] - 0.2


def test_a_calibrator_knows_what_it_is_worth(run, world):
    calibrator = Calibrator.load(world / "calibrator.json")
    found = calibrator.provenance["cross_calibrated"]
    assert found["min_cllr"] <= found["cllr"] < 0.5 and found["min_dcf 0.01"] <= found["act_dcf 0.01"]
    rates = ["fpr 1e-2", "fpr 1e-3", "fpr 1e-4"]
    assert [p.name for p in calibrator.points] == ["p_target 0.01", "p_target 0.05", "eer", *rates]
    assert not any(map(calibrator.supports, rates)), "720 nontarget trials support no rate of 1e-2"
    assert calibrator.point("fpr 1e-2").nontargets == 720 and calibrator.point("eer").speakers == 10
    assert "of 10 speakers support LLRs from" in " ".join(calibrator.warnings)
    assert calibrator.provenance["sources"]["scores"]["file"] == "dev_as_norm.txt"
    output, _, _ = run("calibrate dev_as_norm.txt --json -o again.json")
    assert json.loads(output.splitlines()[1]) == found


def test_a_calibrator_of_one_kind_of_scores_refuses_another(run, world):
    """Cosines and AS-normed scores are on different scales;
    the notes beside the files tell them apart."""
    assert Calibrator.load(world / "calibrator.json").kind == "as-norm top 10"
    for file, kind in (("cosine.txt", "cosine"), ("llrs.txt", "llr")):
        _, error, status = run(f"calibrate {file} --calibrator calibrator.json -o other.txt")
        assert status == 2 and f"'as-norm top 10', and these are '{kind}'" in error and "--any-scores" in error
        assert not (world / "other.txt").exists()
    run("normalize cosine.txt --embeddings emb --method s-norm -o s_norm.txt")
    assert "'s-norm'" in run("calibrate s_norm.txt --calibrator calibrator.json -o other.txt")[1]
    assert run("calibrate cosine.txt --calibrator calibrator.json --any-scores -o any.txt")[2] == 0
    (world / "bare.txt").write_bytes((world / "as_norm.txt").read_bytes())  # no note: nothing to compare
    assert run("calibrate bare.txt --calibrator calibrator.json -o other.txt")[2] == 0
    assert run("calibrate bare.txt --calibrator calibrator.json --kind cosine -o other.txt")[2] == 2


def test_scores_of_another_model_are_refused(run, world):
    content = json.loads((world / "calibrator.json").read_text())
    content["provenance"]["sources"]["model"] = {"file": "a/embedder.safetensors", "sha256": "a" * 64}
    (world / "of_a.json").write_text(json.dumps(content))
    note = json.loads((world / "as_norm.txt.sources.json").read_text())
    note["sources"]["model"] = {"file": "b/embedder.safetensors", "sha256": "b" * 64}
    (world / "of_b.txt").write_bytes((world / "as_norm.txt").read_bytes())
    (world / "of_b.txt.sources.json").write_text(json.dumps(note))
    _, error, status = run("calibrate of_b.txt --calibrator of_a.json -o other.txt")
    assert status == 2 and "of the model 'aaa" in error and "--any-scores" in error


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("score embeddings trials.txt --top-n 5 -o x.txt", "--top-n"),
        ("score embeddings trials.txt --cohort embeddings -o x.txt", "--cohort"),
        ("score embeddings trials.txt --model-average score -o x.txt", "--model-average"),
        ("score embeddings trials.txt --norm s-norm --top-n 5 -o x.txt", "--top-n"),
        ("normalize cosine.txt --embeddings embeddings --method z-norm --top-n 5 -o x.txt", "--top-n"),
        ("calibrate cosine.txt --calibrator calibrator.json --folds 3 -o x.txt", "--folds"),
        ("calibrate cosine.txt --calibrator calibrator.json --p-target 0.5 -o x.txt", "--p-target"),
        ("calibrate cosine.txt --any-scores -o x.txt", "--any-scores"),
        ("calibrate cosine.txt --cohort embeddings -o x.txt", "--cohort"),
        ("gallery people.sqlite list --threshold 0.5", "--threshold"),
        ("gallery people.sqlite export --model campplus", "--model"),
        ("gallery people.sqlite check --allow-poor", "--allow-poor"),
        ("gallery people.sqlite remove Ann --json", "--json"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_before_anything_is_read(words, option, run, world):
    _, error, status = run(words)
    assert status == 2 and f"{option} does nothing with" in error and not (world / "x.txt").exists()


def test_quality_files_that_are_not_there_are_named_first(run, world):
    _, error, status = run("calibrate cosine.txt --qualities embeddigns --top-n 5 -o x.txt")
    assert status == 2 and "embeddigns: no such file or folder" in error


def test_distances_are_not_calibrated_as_scores(run, world):
    lines = [line.split() for line in (world / "dev_as_norm.txt").read_text().splitlines()]
    (world / "distances.txt").write_text("".join(f"{e} {t} {-float(s)} {label}\n" for e, t, s, label in lines))
    _, error, status = run("calibrate distances.txt -o inverted.json")
    assert (
        status == 2 and "If the scores are distances, negate them" in error and not (world / "inverted.json").exists()
    )
    assert run("calibrate distances.txt --allow-inverted -o inverted.json")[2] == 0
    assert Calibrator.load(world / "inverted.json").weight < 0


def test_as_norm_fits_a_small_cohort_unless_a_number_is_asked_for(run, world, caplog):
    assert run("normalize cosine.txt --embeddings emb -o small.txt")[2] == 0
    assert "the cohort has 30 rows, so top_n is 30 instead of 300" in caplog.text
    note = json.loads((world / "small.txt.sources.json").read_text())
    assert note["kind"] == "as-norm top 30"
    assert run("score emb trials.txt --norm as-norm -o small2.txt")[2] == 0
    assert (world / "small2.txt").read_bytes() == (world / "small.txt").read_bytes()
    _, error, status = run("normalize cosine.txt --embeddings emb --top-n 31 -o small3.txt")
    assert status == 2 and "top_n = 31 but the cohort has 30 rows" in error


def test_an_increasing_map_keeps_the_intervals(world):
    """The draws of speakers are the same for LLRs,
    which have some more metrics, and for other scores."""
    systems = {s["name"]: s for s in load_metrics(world / "metrics.json")["systems"]}
    for key in ("eer", "min_dcf", "fnr_at_fpr", "min_cllr"):
        assert systems["llrs"]["intervals"][key] == systems["as_norm"]["intervals"][key]
    pairs = load_metrics(world / "metrics.json")["comparison"]["pairs"]
    assert pairs[0]["metrics"] == pairs[1]["metrics"]


def test_quality_measures_are_fitted_and_asked_for(run, world):
    qualities = "--qualities manifest.csv --qualities emb --top-n 10"
    output, _, status = run(f"calibrate dev_as_norm.txt {qualities} -o quality.json")
    assert status == 0 and "Cllr  minCllr  actDCF 0.01" in output
    measures = {quality.name for quality in Calibrator.load(world / "quality.json").qualities}
    assert {"log_duration_min", "cohort_mean_max"} < measures and len(measures) == 6
    _, error, status = run("calibrate as_norm.txt --calibrator quality.json -o x.txt")
    assert status == 2 and "log_duration_min" in error
    assert run(f"calibrate as_norm.txt --calibrator quality.json {qualities} -o quality.txt")[2] == 0
    run("evaluate quality.txt as_norm.txt --llr quality --replicates 0 -o quality_metrics.json")
    with_qualities, without = load_metrics(world / "quality_metrics.json")["systems"]
    assert with_qualities["min_cllr"] < without["min_cllr"], "short recordings are noisy in this world"


def test_the_order_of_lines_changes_nothing_but_the_hash(run, world):
    rng = np.random.default_rng(1)
    for name in ("cosine", "llrs"):
        lines = (world / f"{name}.txt").read_text().splitlines(keepends=True)
        (world / f"shuffled_{name}.txt").write_text("".join(lines[i] for i in rng.permutation(len(lines))))
    options = "--llr b --replicates 50"
    plain = json.loads(run(f"evaluate a=cosine.txt b=llrs.txt {options} --json")[0])
    shuffled = json.loads(run(f"evaluate a=shuffled_cosine.txt b=shuffled_llrs.txt {options} --json")[0])
    assert shuffled["systems"][0]["sources"]["scores"] != plain["systems"][0]["sources"]["scores"]
    for metrics in (plain, shuffled):
        for system in metrics["systems"]:
            del system["sources"]
    assert json.dumps(shuffled) == json.dumps(plain)


def test_a_pipe_of_two_programs(world):
    """Progress and logs stay out of it, and the numbers are those of the files."""
    python = f"{sys.executable} -m alpha_sv.cli"
    command = f"{python} score emb trials.txt -o - | {python} evaluate - --replicates 100 -o piped.json --json"
    done = subprocess.run(command, shell=True, cwd=world, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics == json.loads((world / "piped.json").read_text())
    system, expected = numbers(metrics)[0], numbers(load_metrics(world / "metrics.json"))[0]
    del system["conditions"], expected["conditions"]  # those are in the trial list only
    assert system == expected
    assert metrics["systems"][0]["name"] == "stdin"


def test_every_text_file_may_be_a_pipe(run, world):
    cosine, as_norm, llrs = ((world / f"{name}.txt").read_bytes() for name in ("cosine", "as_norm", "llrs"))
    trials, calibrator = (world / "trials.txt").read_bytes(), (world / "calibrator.json").read_bytes()
    for command, stdin, expected in (
        ("score emb - -o -", trials, cosine),
        ("normalize - --embeddings emb --top-n 10 -o -", cosine, as_norm),
        ("calibrate - --calibrator calibrator.json -o -", as_norm, llrs),
        ("calibrate as_norm.txt --calibrator - -o -", calibrator, llrs),
    ):
        output, _, status = run(command, stdin)
        assert status == 0 and output.encode() == expected, command
    fitted = json.loads(run("calibrate dev_as_norm.txt -o -")[0])
    assert fitted["weight"] == Calibrator.load(world / "calibrator.json").weight
    metrics = (world / "metrics.json").read_bytes()
    run("report metrics.json -o page.html")
    run("report metrics.json -o page.md")
    assert run("report - -o -", metrics)[0] == (world / "page.html").read_text()
    bare = b"".join(line.rsplit(b" ", 1)[0] + b"\n" for line in cosine.splitlines())
    (world / "bare.txt").write_bytes(bare)
    output, _, status = run("evaluate bare.txt --trials - --replicates 0 -o -", trials)
    assert status == 0 and json.loads(output)["systems"][0]["eer"]["value"] > 0
    _, error, status = run("evaluate - --trials -", trials)
    assert status == 2 and "can be read once" in error


def test_a_pipe_with_a_name_is_hashed_as_it_was_read(world):
    """It can be read once: the hash of what is left, nothing, was given as that of the scores."""
    command = (
        f"{sys.executable} -m alpha_sv.cli evaluate x=<(cat cosine.txt) y=<(cat as_norm.txt) --replicates 0 --json"
    )
    done = subprocess.run(["bash", "-c", command], cwd=world, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for system, file in zip(json.loads(done.stdout)["systems"], ("cosine.txt", "as_norm.txt"), strict=True):
        assert system["sources"]["scores"]["sha256"] == hashlib.sha256((world / file).read_bytes()).hexdigest()
    assert [s["name"] for s in json.loads(done.stdout)["systems"]] == ["x", "y"]


def test_only_a_file_is_replaced_by_a_file(run, world):
    """`-o /dev/null`, typed by root, put a file in the place of the device."""
    os.mkfifo(world / "device")
    for output in ("device", "."):
        _, error, status = run(f"evaluate cosine.txt --replicates 0 -o {output}")
        assert status == 2 and f"{os.path.realpath(output)} is a folder or a device" in error
    assert (world / "device").is_fifo()
    (world / "latest.json").symlink_to("real.json")
    assert run("evaluate cosine.txt --replicates 0 -o latest.json")[2] == 0
    assert (world / "latest.json").is_symlink() and (world / "real.json").is_file()


def test_a_calibrator_judged_on_its_own_scores_is_told_on(run, world, caplog):
    run("calibrate dev_as_norm.txt -o own.json")
    caplog.clear()
    assert run("calibrate as_norm.txt --calibrator own.json -o others.txt")[2] == 0 and caplog.text == ""
    assert run("calibrate dev_as_norm.txt --calibrator own.json -o own.txt")[2] == 0
    assert "own.json was fitted to these very scores" in caplog.text
    run("evaluate own.txt --llr own --replicates 0 -o own_metrics.json")
    run("report own_metrics.json -o own.md")
    text, digest = (world / "own.md").read_text(), hashlib.sha256((world / "own.json").read_bytes()).hexdigest()
    assert f"| calibrator | own.json, fitted to these very scores of own | {digest} |" in text


def test_the_scores_of_other_embeddings_are_not_normalised(run, world):
    """The statistics of another model gave numbers without a meaning, and no complaint."""
    store = EmbeddingStore.open(world / "emb")
    writer = StoreWriter(world / "other", store.ids, store.speakers, store.splits, DIM, key="other")
    writer.write(range(len(store.ids)), np.random.default_rng(3).standard_normal((len(store.ids), DIM)))
    writer.finish()
    _, error, status = run("normalize cosine.txt --embeddings other --top-n 10 -o x.txt")
    assert status == 2 and "scored" in error and "the embeddings they are of" in error
    assert not (world / "x.txt").exists()
    rounded = read_scores(world / "cosine.txt")
    lines = [f"{e} {t} {s:.2f}\n" for e, t, s in zip(rounded.enroll, rounded.test, rounded.scores, strict=True)]
    (world / "rounded.txt").write_text("".join(lines))
    assert run("normalize rounded.txt --embeddings emb --top-n 10 -o x.txt")[2] == 0


def test_a_list_of_one_kind_is_named(run, world):
    for kind, missing in ((" target", "no nontarget"), (" nontarget", "no target")):
        lines = (world / "dev_as_norm.txt").read_text().splitlines(keepends=True)
        (world / "one_kind.txt").write_text("".join(line for line in lines if line.endswith(f"{kind}\n")))
        _, error, status = run("evaluate one_kind.txt")
        assert status == 2 and f"one_kind.txt has {missing} trial" in error
        _, error, status = run("calibrate one_kind.txt -o x.json")
        assert status == 2 and "both are needed" in error and "folds" not in error
    assert "folds" not in run("calibrate dev_as_norm.txt --p-target 2 -o x.json")[1]


def test_a_reader_that_has_had_enough_is_no_error(world):
    command = [sys.executable, "-m", "alpha_sv.cli", "calibrate", "as_norm.txt", "--calibrator", "calibrator.json"]
    read, write = os.pipe()
    os.close(read)  # as `| head` does after its lines
    done = subprocess.run([*command, "-o", "-"], cwd=world, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 141 and done.stderr == ""


def test_an_interrupted_normalisation_continues(run, world, monkeypatch):
    from alpha_sv.scoring import cohort_cache

    set_blocks(monkeypatch, rows=10)  # 80 utterances: 8 blocks
    command = "normalize cosine.txt --embeddings emb --top-n 10 --cache blocks -o resumed.txt"
    with counted(cohort_cache, "cohort_statistics", kill_at=5) as calls:
        _, error, status = run(command)
        assert status == 130 and "again" in error and not (world / "resumed.txt").exists()
        assert run(command)[2] == 0
    assert len(calls) == 5 + 4, "the four finished blocks are not computed again"
    assert (world / "resumed.txt").read_bytes() == (world / "as_norm.txt").read_bytes()


def test_enrolment_models_of_several_utterances(run, world):
    store, trials = EmbeddingStore.open(world / "emb"), read_trials(world / "trials.txt")
    models = {f"m{k}": [f"test{k:02d}/s0/00.wav", f"test{k:02d}/s1/01.wav"] for k in range(20)}
    tests = sorted({name for name in trials.test.tolist() if name.endswith("03.wav")})
    pairs = [(model, test) for model in models for test in tests]
    lines = [f"{int(int(m[1:]) == int(t[4:6]))} {m} {t}\n" for m, t in pairs]
    (world / "model_trials.txt").write_text("".join(lines))
    (world / "spk2utt").write_text("".join(f"{m} {' '.join(u)}\n" for m, u in models.items()))

    unit = store.matrix.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    enroll = np.stack([unit[store.rows(models[m])] for m, _ in pairs])
    test = unit[store.rows([t for _, t in pairs])]
    expected = {
        "mean": cosine_scores(enroll.mean(axis=1), test),
        "score": np.mean([cosine_scores(enroll[:, k], test) for k in (0, 1)], axis=0),
    }
    for how, scores in expected.items():
        command = f"score emb model_trials.txt --models spk2utt --model-average {how}"
        assert run(f"{command} -o model_{how}.txt")[2] == 0
        np.testing.assert_allclose(read_scores(world / f"model_{how}.txt").scores, scores, atol=1e-12)
        assert run(f"{command} --norm as-norm --top-n 10 -o model_{how}_normed.txt")[2] == 0
    run("normalize model_mean.txt --embeddings emb --models spk2utt --top-n 10 -o normed.txt")
    assert (world / "normed.txt").read_bytes() == (world / "model_mean_normed.txt").read_bytes()
    _, error, status = run("evaluate model_mean.txt --replicates 40")
    assert status == 2 and "--speakers" in error, "nothing says who m0 is"
    names = {**{m: f"test{int(m[1:]):02d}" for m in models}, **{t: t[:6] for t in tests}}
    (world / "utt2spk").write_text("".join(f"{name} {speaker}\n" for name, speaker in names.items()))
    assert run("evaluate model_mean.txt --replicates 40 --speakers utt2spk")[2] == 0


def test_compare_writes_its_findings(run, world):
    output, _, status = run("compare cosine.txt as_norm.txt --replicates 50 -o compare.json")
    comparison = json.loads((world / "compare.json").read_text())
    assert status == 0 and comparison["format"] == "alpha_sv.comparison/1"
    assert "as_norm" in output and "50 resamplings of the 20 speakers" in output
    mirrored = json.loads(run("compare cosine.txt as_norm.txt --replicates 50 --baseline as_norm --json")[0])
    for a, b in zip(comparison["pairs"][0]["metrics"], mirrored["pairs"][0]["metrics"], strict=True):
        assert a["metric"] == b["metric"] and a["difference"] == -b["difference"]
        assert a["interval"] == pytest.approx([-bound for bound in b["interval"][::-1]])
    for entry in json.loads(run("compare x=cosine.txt y=cosine.txt --replicates 50 --json")[0])["pairs"][0]["metrics"]:
        assert entry["difference"] == 0 and entry["interval"] == [0, 0] and entry["sign"] == 0


def test_report_is_a_page_or_markdown(run, world):
    assert run("report metrics.json -o r.html --fact Corpus=tiny --title Tiny")[2] == 0
    assert run("report metrics.json -o r.md --fact Corpus=tiny --title Tiny")[2] == 0
    page, text = (world / "r.html").read_text(), (world / "r.md").read_text()
    assert page.startswith("<!doctype html>") and text.startswith("# Tiny")
    for content in (page, text):
        assert "as_norm" in content and "gender = ff" in content and "tiny" in content
        assert load_metrics(world / "metrics.json")["systems"][0]["sources"]["trials"]["sha256"] in content


def test_no_torch_where_nothing_is_embedded(world):
    commands = [
        "score emb trials.txt --norm as-norm --top-n 10 -o s.txt",
        "normalize cosine.txt --embeddings emb --top-n 10 -o n.txt",
        "evaluate cosine.txt --replicates 40 --json",
        "compare cosine.txt as_norm.txt --replicates 40",
        "report metrics.json -o r.html",
        "calibrate dev_as_norm.txt -o c.json",
        "calibrate as_norm.txt --calibrator c.json -o c.txt",
    ]
    code = f"""import sys; from alpha_sv.cli import main
for command in {commands}:
    assert main(command.split()) == 0 and "torch" not in sys.modules, command"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=world, capture_output=True)
