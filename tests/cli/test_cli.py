"""The command line as a user types it: from speech to the report, then every way to hold it wrong.

tests/pipeline/test_verbs.py has the verbs of the evaluation one by one.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from alpha_sv.cli import main
from alpha_sv.cli.parser import build_parser
from alpha_sv.data.trials.files import read_scores
from alpha_sv.embedding import SpeakerEmbedder
from tests.fixtures.speech_tree import make_tree

VERBS = ("prepare", "train", "extract", "score", "normalize", "calibrate", "evaluate", "compare", "report", "demo")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """prepare → (an untrained model) → extract → score, raw and normalised → evaluate → report."""
    root = make_tree(tmp_path_factory.mktemp("chain"), speakers=8, utterances=4)
    SpeakerEmbedder("mean_fbank", 40, n_mels=40).save(root / "model")
    trials = str(root / "trials.txt")
    for command in (
        [
            "prepare",
            str(root / "wav"),
            "--trials",
            trials,
            "-o",
            str(root / "exp"),
            "--num-valid-speakers",
            "2",
        ],
        ["extract", str(root / "model"), str(root / "exp/manifest.csv"), "-o", str(root / "emb")],
        ["score", str(root / "emb"), trials, "-o", str(root / "scores.txt")],
        [
            "score",
            str(root / "emb"),
            trials,
            "--norm",
            "as-norm",
            "--top-n",
            "3",
            "-o",
            str(root / "asnorm.txt"),
        ],
        [
            "evaluate",
            str(root / "scores.txt"),
            f"AS-norm={root / 'asnorm.txt'}",
            "--replicates",
            "50",
            "-o",
            str(root / "metrics.json"),
        ],
        ["report", str(root / "metrics.json"), "-o", str(root / "report.html"), "--fact", "Front end=mean fbank"],
    ):
        assert main(command) == 0, command
    return root


def test_the_whole_chain_leaves_its_files(chain):
    metrics = json.loads((chain / "metrics.json").read_text())
    assert [system["name"] for system in metrics["systems"]] == ["scores", "AS-norm"]
    assert metrics["systems"][0]["trials"] == {"target": 12, "nontarget": 16, "repeated": 0}
    assert metrics["systems"][0]["eer"]["value"] < 0.2, "harmonic voices differ in their mean spectrum"
    html = (chain / "report.html").read_text()
    assert "mean fbank" in html and "AS-norm" in html


def test_scores_are_the_cosines_of_the_stored_embeddings(chain):
    table, matrix = read_scores(chain / "scores.txt"), np.load(chain / "emb/embeddings.npy")
    rows = [line.split(",")[0] for line in (chain / "emb/index.csv").read_text().splitlines()[1:]]
    for enroll, test, score in zip(table.enroll, table.test, table.scores, strict=True):
        a, b = (matrix[rows.index(str(name))].astype(float) for name in (enroll, test))
        assert score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)


def test_as_norm_equals_the_per_trial_formula(chain):
    raw, normed = read_scores(chain / "scores.txt"), read_scores(chain / "asnorm.txt")
    matrix = np.load(chain / "emb/embeddings.npy").astype(float)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    index = [line.split(",") for line in (chain / "emb/index.csv").read_text().splitlines()[1:]]
    row = {utt_id: i for i, (utt_id, _, _) in enumerate(index)}
    speakers = sorted({speaker for _, speaker, split in index if split == "train"})
    cohort = np.stack([unit[[s == speaker for _, s, _ in index]].mean(0) for speaker in speakers])
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    for i in range(len(raw.scores)):
        sides = []
        for name in (str(raw.enroll[i]), str(raw.test[i])):
            top = np.sort(cohort @ unit[row[name]])[-3:]
            sides.append((raw.scores[i] - top.mean()) / top.std())
        assert normed.scores[i] == pytest.approx(np.mean(sides), abs=1e-6)


def test_the_model_is_known_at_the_end_of_the_chain(chain):
    digest = hashlib.sha256((chain / "model/embedder.safetensors").read_bytes()).hexdigest()
    for system in json.loads((chain / "metrics.json").read_text())["systems"]:
        assert system["sources"]["model"] == {"file": "model/embedder.safetensors", "sha256": digest}
        commands = system["sources"]["command"].splitlines()
        assert [command.split()[1] for command in commands] == ["extract", "score", "evaluate"]


def test_two_runs_give_the_same_bytes(chain, tmp_path, monkeypatch):
    found = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        monkeypatch.chdir(tmp_path / run)  # commands are kept as they were typed
        emb, trials = str(chain / "emb"), str(chain / "trials.txt")
        assert main(["score", emb, trials, "-o", "scores.txt"]) == 0
        assert main(["score", emb, trials, "--norm", "as-norm", "--top-n", "3", "-o", "normed.txt"]) == 0
        assert main(["evaluate", "scores.txt", "normed.txt", "--replicates", "50", "-o", "metrics.json"]) == 0
        found.append([(tmp_path / run / name).read_bytes() for name in ("scores.txt", "normed.txt", "metrics.json")])
    assert found[0] == found[1]
    assert found[0][:2] == [(chain / name).read_bytes() for name in ("scores.txt", "asnorm.txt")]


def test_evaluate_takes_anybodys_scores_file(tmp_path, capsys):
    layouts = {
        "speechbrain": ["a b 1 0.9", "a c 0 0.2", "d b 1 0.7", "d c 0 0.1"],
        "wespeaker": ["a b 0.9 target", "a c 0.2 nontarget", "d b 0.7 target", "d c 0.1 nontarget"],
        "kaldi": ["a b 0.9", "a c 0.2", "d b 0.7", "d c 0.1"],
        "voxsrc": ["0.9 a b", "0.2 a c", "0.7 d b", "0.1 d c"],
    }
    (tmp_path / "trials.txt").write_text("a b target\na c nontarget\nd b target\nd c nontarget\n")
    tables = []
    for name, lines in layouts.items():
        (tmp_path / "scores.txt").write_text("\n".join(lines) + "\n")
        trials = ["--trials", str(tmp_path / "trials.txt")] if name in ("kaldi", "voxsrc") else []
        assert main(["evaluate", f"x={tmp_path / 'scores.txt'}", "--replicates", "0", *trials]) == 0, name
        tables.append(capsys.readouterr().out)
    assert set(tables) == {tables[0]} and re.search(r"EER %\s+0\.000", tables[0])


def test_a_file_of_two_layouts_needs_a_word(tmp_path, capsys):
    file = tmp_path / "numbers.txt"
    file.write_text("11 12 0.9\n11 13 0.2\n")  # Kaldi's order, or that of VoxSRC?
    (tmp_path / "trials.txt").write_text("11 12 target\n11 13 nontarget\n")
    command = ["evaluate", str(file), "--trials", str(tmp_path / "trials.txt"), "--replicates", "0"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "voxsrc and unlabeled" in error and "layout" in error
    assert main([*command, "--layout", "unlabeled"]) == 0


def test_file_names_may_hold_an_equals_sign(tmp_path, capsys):
    file = tmp_path / "lr=0.1.txt"
    file.write_text("a b 0.9 target\na c 0.2 nontarget\n")
    for given, name in ((str(file), "lr=0.1"), (f"mine={file}", "mine")):
        assert main(["evaluate", given, "--replicates", "0"]) == 0
        assert name in capsys.readouterr().out


def test_unlabelled_scores_take_their_labels_from_the_trials(chain, tmp_path, capsys):
    table = read_scores(chain / "scores.txt")
    bare = [f"{a} {b} {s!r}" for a, b, s in zip(table.enroll, table.test, table.scores.tolist(), strict=True)]
    (tmp_path / "bare.txt").write_text("\n".join(bare))
    assert main(["evaluate", str(tmp_path / "bare.txt")]) == 2
    assert "--trials" in capsys.readouterr().err
    output = tmp_path / "m.json"
    trials = ["--trials", str(chain / "trials.txt"), "--replicates", "5"]
    assert main(["evaluate", str(tmp_path / "bare.txt"), *trials, "-o", str(output)]) == 0
    expected = json.loads((chain / "metrics.json").read_text())["systems"][0]
    assert json.loads(output.read_text())["systems"][0]["eer"] == expected["eer"]


@pytest.mark.parametrize(
    "command, message",
    [
        (["score", "{c}/emb", "{c}/trials.txt", "--norm", "as-norm", "--top-n", "300", "-o", "{t}/x"], "300"),
        (["score", "{c}/emb", "{t}/missing_utt.txt", "-o", "{t}/x"], "spk9/none.wav"),
        (["score", "{c}/nowhere", "{c}/trials.txt", "-o", "{t}/x"], "nowhere is not there"),
        (
            ["score", "{c}/emb", "{c}/trials.txt", "--norm", "as-norm", "--cohort-split", "x", "-o", "{t}/x"],
            "split 'x'",
        ),
        (["evaluate", "{t}/one_sided.txt"], "nontarget"),
        (["evaluate", "{t}/nan.txt"], "nan.txt:2"),
        (["evaluate", "{t}/conflict.txt"], "a b"),
        (["evaluate", "{c}/scores.txt", "{c}/scores.txt"], "same name"),
        (["evaluate", "{t}/none.txt"], "none.txt"),
        (["extract", "{c}/wav", "{c}/exp/manifest.csv", "-o", "{t}/x"], "not a saved embedder"),
        (["prepare", "{c}/nowhere", "-o", "{t}/p"], "nowhere"),
        (["report", "{t}/nan.txt", "-o", "{t}/x"], "nan.txt"),
        (["train"], "needs a recipe"),
        (
            ["score", "{c}/emb", "{c}/trials.txt", "--norm", "s-norm", "--cohort-split", "test", "-o", "{t}/x"],
            "strangers",
        ),
        (["report", "{c}/metrics.json", "--fact", "foo", "-o", "{t}/x"], "'foo'"),
        (["report", "{c}/metrics.json", "--log", "{t}/nan.txt", "-o", "x.md"], "nan.txt"),
        (["evaluate", "{t}/odd_names.txt"], "--replicates 0"),
        (["evaluate", "{t}/odd_names.txt"], "--speakers"),
        (["evaluate", "{c}/scores.txt", "--speakers", "{t}/utt2spk"], "utt2spk does not say who speaks in 8"),
        (["evaluate", "{c}/scores.txt", "{t}/odd_names.txt"], "odd_names.txt"),
        (["evaluate", "{c}/scores.txt", "--llr", "LLR"], "'LLR'"),
        (["evaluate", "{c}/scores.txt", "--baseline", "x"], "'x'"),
        (["evaluate", "{c}/scores.txt", "--trials", "{t}/unlabeled.txt"], "no labels"),
        (["compare", "{c}/scores.txt"], "nothing to be compared with"),
        (["calibrate", "{t}/bare.txt", "-o", "{t}/x"], "--trials"),
        (["calibrate", "{t}/odd_names.txt", "-o", "{t}/x"], "--speakers"),
        (["calibrate", "{c}/scores.txt", "-o", "{t}/x"], "folds"),
        (["calibrate", "{c}/scores.txt", "--calibrator", "{c}/metrics.json", "-o", "{t}/x"], "not a whole calibrator"),
        (
            ["calibrate", "{c}/scores.txt", "--qualities", "{c}/emb", "--qualities", "{c}/emb", "-o", "{t}/x"],
            "one embed",
        ),
        (["normalize", "{c}/asnorm.txt", "--embeddings", "{c}/emb", "--top-n", "3", "-o", "{t}/x"], "cosine"),
        (["score", "{c}/emb", "{c}/trials.txt", "--models", "{t}/utt2spk", "-o", "{t}/x"], "models"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_culprit(command, message, chain, tmp_path, capsys):
    (tmp_path / "missing_utt.txt").write_text("1 spk7/s0/00.wav spk9/none.wav\n0 spk7/s0/00.wav spk6/s0/00.wav\n")
    (tmp_path / "one_sided.txt").write_text("a b 0.1 target\na c 0.2 target\n")
    (tmp_path / "nan.txt").write_text("a b 0.1 target\na c nan nontarget\n")
    (tmp_path / "conflict.txt").write_text("a b 0.1 target\na b 0.1 nontarget\n")
    (tmp_path / "odd_names.txt").write_text("a-1 a-2 0.9 target\na-1 b-1 0.1 nontarget\n")
    (tmp_path / "unlabeled.txt").write_text("a-1 a-2\na-1 b-1\n")
    (tmp_path / "bare.txt").write_text("a-1 a-2 0.9\na-1 b-1 0.1\n")
    (tmp_path / "utt2spk").write_text("a-1 a\na-2 a\n")
    assert main([part.format(c=chain, t=tmp_path) for part in command]) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().splitlines()[-1].startswith("alpha-sv: error:")


def test_help_teaches_and_does_not_import_what_takes_time():
    code = (
        "import sys; from alpha_sv.cli.parser import build_parser as b; b().format_help()\n"
        "assert not {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    text = build_parser().format_help()
    for verb in VERBS:
        assert f"  {verb} " in text or f"  {verb}\n" in text


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_the_example_of_each_verb_parses(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    text = capsys.readouterr().out
    examples = re.findall(rf"^  alpha-sv ({verb} .*)$", text, flags=re.M)
    assert stop.value.code == 0 and examples
    for example in examples:
        assert build_parser().parse_args(shlex.split(example)).verb == verb
