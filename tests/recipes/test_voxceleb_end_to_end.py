"""VoxCeleb from the archives to the table, in small,
by the commands of recipes/VoxCeleb/README.md."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.corpus.manifest import read_manifest
from alpha_sv.data.corpus.voxceleb import TEST_SPEAKERS
from alpha_sv.data.trials.files import read_scores
from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.sb.weights import prototypes_of
from tests.fixtures.voxceleb_recipe import (
    NOT_RUN,
    PREPARED,
    RECIPE,
    SHARDS,
    Laboratory,
    readme_commands,
    slurm_commands,
)
from tests.fixtures.voxceleb_tree import DEV, LISTS, TEST, VIDEOS, VOX2, make_corpora, sound

FIRST, TUNED = "results/ecapa_c512_q_margin/1234", "results/ecapa_c512_q_margin_large_margin/1234"


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=pytest.mark.slow) for kind in ("m4a", "wav")])
def lab(request, tmp_path_factory):
    """Everything that the README does, done once,
    for VoxCeleb2 as it comes and as converted by others."""
    if request.param == "m4a" and shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (apt install ffmpeg), and VoxCeleb2 comes as m4a")
    lab = laboratory(tmp_path_factory.mktemp("lab"), request.param, ranks=2 if request.param == "m4a" else 1)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "wav":
            patch.setenv("PATH", "/nowhere")  # there is nothing to convert, so nothing to convert it with
        for words in readme_commands():
            if words[0] not in NOT_RUN:
                lab.printed.append(lab.run(lab.adapted(words)))
    return lab


def laboratory(folder, kind, ranks=1):
    folder = folder / "VoxCeleb"
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns("results", "__pycache__"))
    return Laboratory(make_corpora(folder, kind), ranks=ranks)


def of(utterances, split):
    return {u.speaker for u in utterances if u.split == split}


def log_of(run, kind="train"):
    return [row for row in map(json.loads, (run / "train_log.jsonl").read_text().splitlines()) if row["kind"] == kind]


def test_each_command_of_the_readme_is_run_here_or_has_a_reason():
    commands = readme_commands()
    assert {words[0] for words in commands} <= {"python", "torchrun", "alpha-sv", *NOT_RUN}
    assert {words[0] for words in commands} >= set(NOT_RUN), "a reason for a command that is not there"
    scripts = {path.name for path in RECIPE.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == {word for words in commands for word in words if word.endswith(".py")}


def test_voxceleb1_alone_from_the_archive_to_the_table(tmp_path):
    """What the slow tests below do with all commands."""
    lab = laboratory(tmp_path, "wav")
    scripts = []
    for words in readme_commands():
        if any(word in ("results/voxceleb1/prepared", "--prepared=results/voxceleb1/prepared") for word in words):
            lab.run(lab.adapted(words))
            scripts.append(words[1])
    assert scripts == ["prepare.py", "train.py", "verify.py"]
    verify = lab.folder / "results/voxceleb1/resnet34_q_margin/verify"
    table = (verify / "table.md").read_text()
    assert re.search(r"^\| .*\| \d+\.\d+ \|", table, re.M) and (verify / "veri_test2_report.html").is_file()
    train = of(read_manifest(lab.folder / "results/voxceleb1/prepared/manifest.csv"), "train")
    assert train and train.isdisjoint(TEST_SPEAKERS)


def test_voxceleb2_dev_is_converted_and_its_test_half_left_alone(lab):
    root = lab.folder / "voxceleb2"
    converted = sorted(root.glob("dev/wav/*/*/*.wav"))
    assert len(converted) == len(VOX2) * len(VIDEOS) * 3
    for path in converted:
        samples, original = read_audio(path), sound(path.parts[-3], path.parts[-2], int(path.stem))
        assert 0 <= len(samples) - len(original) < 1600, "whole; an encoder fills its last block"
        assert np.corrcoef(samples[: len(original)], original)[0, 1] > 0.9, path
    if (root / "dev/aac").is_dir():
        assert {p.relative_to(root / "dev/aac").with_suffix("") for p in root.glob("dev/aac/*/*/*.m4a")} == {
            p.relative_to(root / "dev/wav").with_suffix("") for p in converted
        }
        assert not (root / "test/wav").exists()


def test_nobody_trains_who_is_tested(lab):
    utterances = lab.utterances()
    train, valid, test = (of(utterances, split) for split in ("train", "valid", "test"))
    assert train | valid == set(VOX2) and len(valid) == 4 and not train & valid
    assert test == set(TEST + DEV) and set(TEST) <= set(TEST_SPEAKERS)
    lines = [line.split() for name in LISTS for line in (lab.folder / name).read_text().splitlines()]
    assert {u.utt_id for u in utterances if u.split == "test"} == {name for line in lines for name in line[1:]}
    for run in (FIRST, TUNED):
        assert {name.split("#")[0] for name in json.loads((lab.folder / run / "labels.json").read_text())} == train
    vox1 = read_manifest(lab.folder / "results/voxceleb1/prepared/manifest.csv")
    assert of(vox1, "train") == set(DEV) and of(vox1, "test") == set(TEST)


@pytest.mark.parametrize("train", ["vox1", "vox1+vox2"])
def test_e_and_h_are_refused_to_who_trains_on_voxceleb1(lab, train):
    roots = ["--voxceleb1", "voxceleb1", *(["--voxceleb2", "voxceleb2/dev/wav"] if "vox2" in train else [])]
    for name, tested in (("list_test_all2.txt", "VoxCeleb1-E"), ("list_test_hard2.txt", "-H")):
        with pytest.raises(SystemExit, match=f"{name} tests 5 speakers of VoxCeleb1 dev.*{tested}.*train on vox2"):
            lab.run(["python", "prepare.py", *roots, "--train", train, "--trials", name, "--output", "results/leak"])
    assert not (lab.folder / "results/leak").exists()


def test_training_on_shards_is_bit_for_bit_that_on_loose_files(lab):
    loose, shards = (
        lab.train("ecapa_c512_q_margin", f"on_{name}", f"--prepared={prepared}")
        for name, prepared in (("loose", PREPARED), ("shards", SHARDS))
    )
    assert all(".tar:" in u.path for u in read_manifest(lab.folder / SHARDS / "manifest.csv"))
    assert len(log_of(loose)) == 12 and len(log_of(loose, "valid")) == 2
    for name in ("train_log.jsonl", "model/embedder.safetensors", "prototypes.safetensors", "labels.json"):
        assert (loose / name).read_bytes() == (shards / name).read_bytes(), name


def test_large_margin_fine_tuning_begins_with_what_the_first_run_ended_with(lab):
    recipe, first, tuned = "ecapa_c512_q_margin_large_margin", lab.folder / FIRST, lab.folder / TUNED
    (before, rows), (_, classes) = prototypes_of(first), prototypes_of(tuned)
    train = sorted(of(lab.utterances(), "train"))
    assert list(rows) == [*train, *(f"{speaker}#{speed}" for speed in (0.9, 1.1) for speaker in train)]
    assert list(classes) == train, "one speed"
    margins = [row["margin"] for row in log_of(first)]
    assert margins[0] == 0.0 and margins[-1] == 0.2, "the whole schedule, in two epochs"
    assert {row["margin"] for row in log_of(tuned)} == {0.5}

    # of another seed, since a few steps leave prototypes near those that their own seed draws
    other = lab.train(recipe, "tuned", f"--prepared={PREPARED}", f"--warm_start={FIRST}", "--seed=5")
    before, after = before[[rows[speaker] for speaker in train]], prototypes_of(other)[0]
    weights = [
        torch.cat([w.flatten() for w in SpeakerEmbedder.load(run / "model").parameters()]) for run in (first, other)
    ]
    for begin, end in ((before, after), weights):
        assert 0 < (end - begin).norm() < 0.01 * begin.norm(), "it has moved, by 12 small steps"


def test_table_has_for_three_lists_what_alpha_sv_evaluate_gives(lab):
    verify = lab.folder / TUNED / "verify"
    header, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (verify / "table.md").read_text(encoding="utf-8").splitlines()[:4]
    )
    for kind, row in zip(("cosine", "as-norm"), rows, strict=True):
        cells = dict(zip(header, row, strict=True))
        assert cells["LM"] == "yes" and cells["AS-norm"].startswith("no" if kind == "cosine" else "top 5 of 8 speaker")
        for name in LISTS:
            scores = verify / f"{name.removesuffix('.txt')}_{kind}.txt"
            trials = len((lab.folder / name).read_text().splitlines())
            assert len(read_scores(scores)) == trials
            printed = lab.run(["alpha-sv", "evaluate", str(scores), "--trials", name, "--replicates", "0", "--json"])
            (system,) = json.loads(printed)["systems"]
            min_dcf = next(entry["value"] for entry in system["min_dcf"] if entry["p_target"] == 0.01)
            title = f"{scores.name.split('_' + kind)[0]} ({trials:,} trials)"
            assert cells[f"{title} EER %"] == f"{100 * system['eer']['value']:.3f}"
            assert cells[f"{title} minDCF(0.01)"] == f"{min_dcf:.4f}"


@pytest.mark.slow
def test_the_same_commands_again_do_nothing_again(lab):
    """On one process, whatever they were started on."""
    again = Laboratory(lab.folder, ranks=1)
    places = ("voxceleb*/**/*", "results/voxceleb*/**/*", "results/ecapa_*/**/*", f"{SHARDS}/*")
    spoken_of = {"log.txt", "env.log", "hyperparams.yaml"}  # these tell of each start

    def contents():
        found = {path for place in places for path in lab.folder.glob(place) if path.is_file()}
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found if path.name not in spoken_of}

    before = contents()
    printed = [again.run(again.adapted(words)) for words in readme_commands() if words[0] not in NOT_RUN]
    wrapped = [again.run(again.adapted(words)) for words in slurm_commands()]
    assert len(wrapped) == 2 and set(wrapped) <= set(printed), "the jobs of slurm.sh are commands of the README"
    after = contents()
    assert after.keys() == before.keys() and [p for p in before if after[p][1] != before[p][1]] == []
    written = {path for path in before if after[path][0] != before[path][0]}
    for path in written:  # small, and the same: the saved model, scores and tables, the stamp of the shards
        inside = path.relative_to(lab.folder).parts
        assert path.suffix not in (".tar", ".wav", ".npy", ".ckpt") and "embeddings" not in inside, path
        assert inside[:2] != ("results", "voxceleb"), path
    assert printed[-1] == lab.printed[-1], "the comparison of the two systems"


def test_m4a_files_that_are_converted_may_go(lab):
    (prepare,) = (words for words in map(lab.adapted, readme_commands()[:1]) if "prepare.py" in words)
    stamp = (lab.folder / PREPARED / "prepare.json").stat().st_mtime_ns
    lab.run(["voxceleb2/dev/wav" if word == "voxceleb2" else word for word in prepare])
    assert (lab.folder / PREPARED / "prepare.json").stat().st_mtime_ns == stamp, "the same inputs, so nothing to do"


MICRO = {
    "ecapa_c512_am": [],
    "ecapa_c512_q_margin_finetune": [f"--warm_start={FIRST}"],
    "ecapa_c512_aam_large_margin": [f"--warm_start={FIRST}"],
    "ecapa_c1024_a3m": ["--reinit_epoch=2", "--margin_schedule={increase_start_epoch: 1, fix_start_epoch: 2}"],
    "ecapa_c1024_q_margin_cyclic": [],
    "resnet34_aam": [],
    "resnet34_q_margin": ["--head=sparse"],
}


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["wav"], indirect=True)
@pytest.mark.parametrize("recipe", MICRO)
def test_two_epochs_of_each_family(lab, recipe):
    run = lab.train(recipe, f"micro_{recipe}", f"--prepared={PREPARED}", *MICRO[recipe])
    steps, epochs = log_of(run), log_of(run, "valid")
    assert [row["step"] for row in steps] == list(range(1, 13)) and [row["epoch"] for row in epochs] == [1, 2]
    assert np.isfinite([[row["loss"], row["support"]] for row in steps]).all()
    assert all(row["lr"] > 0 for row in steps[1:]), "warm-up begins at 0"
    assert all(0 <= row["eer"] <= 1 for row in epochs)
    speeds = 1 if re.search("large_margin|cyclic", recipe) else 3
    weight, classes = prototypes_of(run)
    assert weight.shape == (8 * speeds, 16) and len(classes) == 8 * speeds and weight.isfinite().all()
    assert SpeakerEmbedder.load(run / "model").embed([sound(TEST[0], VIDEOS[0], 1)]).shape == (1, 16)
    moved = [path.read_text() for path in run.glob("save/CKPT*/reinitialiser.ckpt")]
    assert any("true" in text for text in moved) == ("a3m" in recipe or "finetune" in recipe), "prototypes set anew"
