"""`alpha-sv embed`: files, folders and wav.scp into a store, resumable."""

import numpy as np
import pytest
import soundfile

from alpha_sv.cli import main
from alpha_sv.embedding import EmbeddingStore
from alpha_sv.embedding.store import StoreWriter
from alpha_sv.verify.embed_files import embed_files, list_files
from alpha_sv.verify.model import load_model
from tests.fixtures.models import small_embedder
from tests.fixtures.replaced import counted
from tests.fixtures.speech_tree import voice


@pytest.fixture
def world(tmp_path):
    small_embedder().save(tmp_path / "model")
    for speaker in range(2):
        for take, rate in enumerate((16000, 8000)):
            path = tmp_path / "wav" / f"s{speaker}" / f"{take}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice(speaker, take)[:: 16000 // rate], rate)
    (tmp_path / "wav" / "notes.txt").write_text("no audio")
    return tmp_path


def test_a_folder_becomes_a_store_that_score_can_use(world, capsys):
    command = ["embed", str(world / "wav"), "-o", str(world / "store"), "--model", str(world / "model")]
    assert main(command) == 0
    store = EmbeddingStore.open(world / "store")
    assert store.ids == ["s0/0.wav", "s0/1.wav", "s1/0.wav", "s1/1.wav"] and store.speakers == ["s0", "s0", "s1", "s1"]
    files = [world / "wav" / name for name in store.ids]
    np.testing.assert_allclose(store.matrix, load_model(world / "model").embed(files), rtol=1e-5, atol=1e-5)
    (world / "trials").write_text("1 s0/0.wav s0/1.wav\n0 s0/0.wav s1/0.wav\n")
    assert main(["score", str(world / "store"), str(world / "trials"), "-o", str(world / "scores")]) == 0
    assert main(["embed", str(world / "missing.wav"), "-o", str(world / "s2"), "--model", str(world / "model")]) == 2
    assert "missing.wav: no such file" in capsys.readouterr().err and not (world / "s2").exists()


def test_a_file_has_the_id_by_which_a_list_can_name_it(tmp_path):
    for name in ("Ann Lee/a 1.wav", "Jose\u0301/b.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert list(list_files([tmp_path])) == ["Ann%20Lee/a%201.wav", "Jos\u00e9/b.wav"]  # as `prepare` has them


def test_an_interrupted_call_continues(world):
    model = load_model(world / "model")
    with counted(StoreWriter, "write", kill_at=3), pytest.raises(KeyboardInterrupt):
        embed_files(model, [world / "wav"], world / "store", batch_size=1, progress=False)
    store = embed_files(model, [world / "wav"], world / "store", progress=False)
    whole = embed_files(model, [world / "wav"], world / "whole", progress=False)
    np.testing.assert_allclose(store.matrix, whole.matrix, rtol=1e-5, atol=1e-5)


def test_wav_scp_gives_the_ids_and_its_commands_are_not_run(world):
    scp = world / "wav.scp"
    scp.write_text(f"utt-a {world}/wav/s0/0.wav\n\nutt-b {world}/wav/s1/0.wav\n")
    store = embed_files(load_model(world / "model"), [scp], world / "store", progress=False)
    assert store.ids == ["utt-a", "utt-b"]
    scp.write_text(f"utt-a touch {world}/pwned |\n")
    with pytest.raises(ValueError, match="wav.scp:1: .*commands are not run"):
        list_files([scp])
    assert not (world / "pwned").exists()
    scp.write_text("utt-a\t/data/a b.wav\n")
    assert list_files([scp]) == {"utt-a": "/data/a b.wav"}
    scp.write_text("utt-a\n")
    with pytest.raises(ValueError, match="wav.scp:1"):
        list_files([scp])


def test_two_files_of_one_id_are_refused(world):
    (world / "other" / "s0").mkdir(parents=True)
    (world / "other" / "s0" / "0.wav").write_bytes((world / "wav" / "s0" / "0.wav").read_bytes())
    with pytest.raises(ValueError, match="one id, 's0/0.wav'"):
        list_files([world / "wav", world / "other"])
    with pytest.raises(ValueError, match="no audio in it"):
        (world / "empty").mkdir()
        list_files([world / "empty"])
