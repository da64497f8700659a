"""What a run's folder says of it, and the cohort of its speakers."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.embedding.store import StoreWriter
from alpha_sv.pipeline.score import cohort_matrix, cohort_utterances
from alpha_sv.sb.recipe_yaml import compose_recipe
from alpha_sv.sb.reinit import Reinitialiser
from alpha_sv.sb.run_folder import RunFolder
from alpha_sv.sb.trained_run import read_run
from alpha_sv.sb.training_log import TrainingLog
from alpha_sv.sb.weights import prototypes_of
from tests.batteries import damaged_files

HPARAMS = Path(__file__).parents[2] / "recipes" / "VoxCeleb" / "hparams"
RESOLVED = "hyperparams.yaml"


def make_run(folder, loss="!new:alpha_sv.losses.QMargin {alpha: 1.5, scale: 10.0}", margin=0.2, start=""):
    folder.mkdir(exist_ok=True)
    text = f"loss: {loss}\nmargin_schedule: {{final_margin: {margin}}}\nwarm_start: {start}\n"
    (folder / RESOLVED).write_text(text, encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps({"ann": 0, folder.name: 1, "ann#0.9": 2, f"{folder.name}#0.9": 3}))
    return folder


def test_copies_at_other_speeds_are_the_same_speaker_and_starts_count(tmp_path):
    make_run(tmp_path / "first")
    make_run(tmp_path / "second", start=tmp_path / "first")
    run = read_run(make_run(tmp_path / "third", start=tmp_path / "second"))
    assert run.speakers == {"ann", "third"}
    assert run.heard == {"ann", "first", "second", "third"}


def test_start_that_is_gone_is_an_error_not_a_model_of_unknown_speakers(tmp_path):
    make_run(tmp_path / "run", start=tmp_path / "gone")
    with pytest.raises(ValueError, match="run began with .*gone, whose speakers it has heard too.*Put that"):
        read_run(tmp_path / "run")


def test_a_run_that_adapted_the_model_of_another_has_heard_its_speakers_too(tmp_path):
    (make_run(tmp_path / "first") / "model").mkdir()
    heard = {}
    for name, model in (("model", tmp_path / "first" / "model"), ("run", tmp_path / "first"), ("other", "campplus")):
        recipe = make_run(tmp_path / name) / RESOLVED
        recipe.write_text(f"{recipe.read_text(encoding='utf-8')}model: {model}\n", encoding="utf-8")
        heard[name] = read_run(tmp_path / name).heard
    assert heard == {"model": {"ann", "first", "model"}, "run": {"ann", "first", "run"}, "other": {"ann", "other"}}


def test_large_margin_is_a_larger_margin_than_at_the_start(tmp_path):
    make_run(tmp_path / "am", "!new:alpha_sv.losses.AMSoftmax {scale: 32.0}")
    make_run(tmp_path / "q", start=tmp_path / "am")
    make_run(tmp_path / "lm", margin=0.5, start=tmp_path / "q")
    runs = [read_run(tmp_path / name) for name in ("am", "q", "lm")]
    assert [run.large_margin for run in runs] == [False, False, True]
    assert runs[1].losses == "QMargin (α=1.5, s=10, m=0.2) from AMSoftmax (s=32, m=0.2)"


def test_loss_without_arguments_has_its_name(tmp_path):
    run = read_run(make_run(tmp_path / "run", "!new:alpha_sv.losses.NormSoftmax", margin=""))
    assert (run.loss, run.margin) == ("NormSoftmax", None)


@pytest.mark.parametrize("path", sorted(HPARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_voxceleb_are_told_by_their_hyperparameters(path, tmp_path):
    finetuned = any(kind in path.stem for kind in ("large_margin", "finetune", "second_stage"))
    start = f"warm_start: {make_run(tmp_path / 'start')}\n" if finetuned else ""
    wavlm = "embedder: {folder: x}\n" if "wavlm" in path.stem else ""
    make_run(tmp_path / "run")
    (tmp_path / "run" / RESOLVED).write_text(compose_recipe(path, f"prepared: x\n{start}{wavlm}"), encoding="utf-8")
    run = read_run(tmp_path / "run")
    names = {"q_margin": "QMargin", "a3m": "A3M", "_am": "AMSoftmax", "aam": "AAMSoftmax"}
    assert run.loss.startswith(next(loss for part, loss in names.items() if part in path.stem) + " (")
    assert run.large_margin == ("large_margin" in path.stem) and (run.start is not None) == finetuned


def test_nothing_that_a_run_folder_names_is_run(tmp_path):
    make_run(tmp_path / "run")
    with open(tmp_path / "run" / RESOLVED, "a") as file:
        file.write(f"x: !apply:pathlib.Path.touch [!new:pathlib.Path [{tmp_path / 'touched'}]]\n")
    read_run(tmp_path / "run")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("file, text", [(RESOLVED, "loss: 3"), (RESOLVED, ": ["), ("labels.json", "[]")])
def test_damaged_run_folder_is_named(tmp_path, file, text):
    make_run(tmp_path / "run")
    (tmp_path / "run" / file).write_text(text)
    with pytest.raises(ValueError, match=f"{file} is not the .* that training writes"):
        read_run(tmp_path / "run")


def test_capped_cohort_is_nested_and_blind_to_the_order_of_the_manifest():
    speakers = [f"s{number}" for number in range(5)]
    rows = [
        Utterance(f"{speaker}/{take}.wav", f"/data/{speaker}/{take}.wav", speaker, "", 16000, 16000, 1, split)
        for speaker, split in [*((speaker, "train") for speaker in speakers), ("t", "test"), ("other", "train")]
        for take in range(4)
    ]
    drawn = {most: {u.utt_id for u in cohort_utterances(rows, {*speakers, "t"}, most)} for most in (1, 2, 3, None)}
    assert [len(names) for names in drawn.values()] == [5, 10, 15, 20], "training utterances of these speakers only"
    assert drawn[1] < drawn[2] < drawn[3] < drawn[None]
    assert all(len([name for name in drawn[2] if name.startswith(speaker)]) == 2 for speaker in speakers)
    assert cohort_utterances(rows[::-1], speakers, 2) == cohort_utterances(rows, speakers, 2)


def test_cohort_of_a_whole_store_is_read_from_disk(tmp_path):
    matrix = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)

    def stored(name, order, splits):
        speakers = [f"s{row // 3}" for row in order]
        writer = StoreWriter(tmp_path / name, [str(row) for row in order], speakers, splits, 4, key="k")
        writer.write(range(len(order)), matrix[order])
        return writer.finish()

    whole = stored("whole", list(range(12)), ["train"] * 12)
    mixed = stored("mixed", [0, 5, 1, 4, 2, 3], ["train", "test"] * 3)
    utterances = cohort_matrix(whole, "train", per_speaker=False)
    assert isinstance(utterances, np.memmap) and np.shares_memory(utterances, whole.matrix)
    np.testing.assert_array_equal(utterances, matrix)
    np.testing.assert_array_equal(cohort_matrix(mixed, "train"), cohort_matrix(whole, "train")[:1])


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_what_is_no_file_of_a_run_is_named(tmp_path, content):
    make_run(tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    for file in (run.labels, run.hyperparams):
        whole = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name} is not the .* that training writes"):
            read_run(run.path)
        file.write_bytes(whole)
    safetensors.torch.save_file({"weight": torch.ones(3, 2)}, run.prototypes)
    run.labels.write_bytes(content)
    with pytest.raises(ValueError, match="labels.json"):
        prototypes_of(run.path)
    (run.save / "CKPT+1").mkdir(parents=True)
    (run.save / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match="run.json is damaged"):
        run.refuse_other_data("a", "b")
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match="state"):
        TrainingLog(tmp_path / "log")._load(tmp_path / "state", True)
    with pytest.raises(ValueError, match="state"):
        Reinitialiser(None, None, 1)._load(tmp_path / "state", True)


def test_a_run_on_replaced_recordings_is_not_continued(tmp_path):
    run = RunFolder(tmp_path)
    (run.save / "CKPT+1").mkdir(parents=True)
    run.begin(["train"], "seed: 1", {}, ("a", "b", "c", "1.2.2 d1"), {"ann": 0}, "dense")
    for same in ("1.2.2 d1", "", "1.3.0 d2"):  # not decoded, or by another decoder: nobody can tell
        run.refuse_other_data("a", "b", "c", same)
    with pytest.raises(ValueError, match="changed: audio"):
        run.refuse_other_data("a", "b", "c", "1.2.2 d2")


@pytest.mark.parametrize("recipe", ["loss: 3", "loss: !new:a.B {alpha: 1" + "0" * 400 + "}", "loss: !new:a.B []"])
def test_numbers_without_end_and_other_types_in_a_saved_recipe_are_named(tmp_path, recipe):
    make_run(tmp_path / "run")
    (tmp_path / "run" / RESOLVED).write_text(recipe + "\nmargin_schedule: {final_margin: 1" + "0" * 400 + "}")
    with pytest.raises(ValueError, match=f"{RESOLVED} is not the resolved recipe"):
        read_run(tmp_path / "run")


def test_runs_that_began_with_each_other_are_refused(tmp_path):
    for name, start in (("one", "two"), ("two", "one")):
        make_run(tmp_path / name, start=tmp_path / start)
    with pytest.raises(ValueError, match="two/hyperparams.yaml: warm_start .*one is a run that began with this one"):
        read_run(tmp_path / "one")
