"""The command line as a user types it: every arrow once, then every way to hold it wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from alpha_sv.cli import build_parser, main
from alpha_sv.data.trials import read_scores
from alpha_sv.embedding import SpeakerEmbedder
from tests.corpus import make_tree


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
            "-o",
            str(root / "metrics.json"),
        ],
        ["report", str(root / "metrics.json"), "-o", str(root / "report.html"), "--fact", "Model=mean fbank"],
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


def test_two_runs_give_the_same_bytes(chain, tmp_path):
    for name in ("scores.txt", "asnorm.txt"):
        extra = ["--norm", "as-norm", "--top-n", "3"] if name == "asnorm.txt" else []
        main(["score", str(chain / "emb"), str(chain / "trials.txt"), *extra, "-o", str(tmp_path / name)])
        assert (tmp_path / name).read_bytes() == (chain / name).read_bytes()
    main(
        [
            "evaluate",
            str(tmp_path / "scores.txt"),
            f"AS-norm={tmp_path / 'asnorm.txt'}",
            "-o",
            str(tmp_path / "m.json"),
        ]
    )
    assert (tmp_path / "m.json").read_bytes() == (chain / "metrics.json").read_bytes()


def test_evaluate_takes_anybodys_scores_file(tmp_path, capsys):
    layouts = {
        "speechbrain": ["a b 1 0.9", "a c 0 0.2", "d b 1 0.7", "d c 0 0.1"],
        "wespeaker": ["a b 0.9 target", "a c 0.2 nontarget", "d b 0.7 target", "d c 0.1 nontarget"],
    }
    tables = []
    for name, lines in layouts.items():
        (tmp_path / "scores.txt").write_text("\n".join(lines) + "\n")
        assert main(["evaluate", f"x={tmp_path / 'scores.txt'}"]) == 0, name
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and "0.000" in tables[0]


def test_file_names_may_hold_an_equals_sign(tmp_path, capsys):
    file = tmp_path / "lr=0.1.txt"
    file.write_text("a b 0.9 target\na c 0.2 nontarget\n")
    for given, name in ((str(file), "lr=0.1"), (f"mine={file}", "mine")):
        assert main(["evaluate", given]) == 0
        assert name in capsys.readouterr().out


def test_unlabelled_scores_take_their_labels_from_the_trials(chain, tmp_path, capsys):
    table = read_scores(chain / "scores.txt")
    bare = [f"{a} {b} {s!r}" for a, b, s in zip(table.enroll, table.test, table.scores.tolist(), strict=True)]
    (tmp_path / "bare.txt").write_text("\n".join(bare))
    assert main(["evaluate", str(tmp_path / "bare.txt")]) == 2
    assert "--trials" in capsys.readouterr().err
    output = tmp_path / "m.json"
    assert main(["evaluate", str(tmp_path / "bare.txt"), "--trials", str(chain / "trials.txt"), "-o", str(output)]) == 0
    expected = json.loads((chain / "metrics.json").read_text())["systems"][0]
    assert json.loads(output.read_text())["systems"][0]["eer"] == expected["eer"]


@pytest.mark.parametrize(
    "command, message",
    [
        (["score", "{c}/emb", "{c}/trials.txt", "--norm", "as-norm", "-o", "x"], "300"),
        (["score", "{c}/emb", "{t}/missing_utt.txt", "-o", "x"], "spk9/none.wav"),
        (["score", "{c}/nowhere", "{c}/trials.txt", "-o", "x"], "nowhere is not there"),
        (
            ["score", "{c}/emb", "{c}/trials.txt", "--norm", "as-norm", "--cohort-split", "x", "-o", "x"],
            "split 'x'",
        ),
        (["evaluate", "{t}/one_sided.txt"], "nontarget"),
        (["evaluate", "{t}/nan.txt"], "nan.txt:2"),
        (["evaluate", "{t}/conflict.txt"], "a b"),
        (["evaluate", "{c}/scores.txt", "{c}/scores.txt"], "same name"),
        (["evaluate", "{t}/none.txt"], "none.txt"),
        (["extract", "{c}/wav", "{c}/exp/manifest.csv", "-o", "x"], "not a saved embedder"),
        (["prepare", "{c}/nowhere", "-o", "{t}/p"], "nowhere"),
        (["report", "{t}/nan.txt", "-o", "x"], "nan.txt"),
        (["train"], "needs a recipe"),
        (
            ["score", "{c}/emb", "{c}/trials.txt", "--norm", "s-norm", "--cohort-split", "test", "-o", "x"],
            "strangers",
        ),
        (["report", "{c}/metrics.json", "--fact", "foo", "-o", "x"], "'foo'"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_culprit(command, message, chain, tmp_path, capsys):
    (tmp_path / "missing_utt.txt").write_text("1 spk7/s0/00.wav spk9/none.wav\n0 spk7/s0/00.wav spk6/s0/00.wav\n")
    (tmp_path / "one_sided.txt").write_text("a b 0.1 target\na c 0.2 target\n")
    (tmp_path / "nan.txt").write_text("a b 0.1 target\na c nan nontarget\n")
    (tmp_path / "conflict.txt").write_text("a b 0.1 target\na b 0.1 nontarget\n")
    assert main([part.format(c=chain, t=tmp_path) for part in command]) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().splitlines()[-1].startswith("alpha-sv: error:")


def test_help_teaches_and_does_not_import_torch():
    code = (
        "import sys; from alpha_sv.cli import build_parser as b; b().format_help(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    text = build_parser().format_help()
    for verb in ("prepare", "train", "extract", "score", "evaluate", "report", "demo"):
        assert f"alpha-sv {verb}" in text or f"  {verb} " in text
