"""Facts about embeddings: nothing depends on the batch, the run or the caller; a saved model is data."""

import json
import os

import numpy as np
import pytest
import torch

from alpha_sv.data.audio.read import AudioError
from alpha_sv.data.corpus.manifest import Utterance
from alpha_sv.embedding import EmbeddingStore, SpeakerEmbedder
from alpha_sv.embedding.extract import extract
from alpha_sv.embedding.features import Features
from alpha_sv.embedding.onnx import OnnxInput, read_spec
from alpha_sv.embedding.store import StoreWriter
from alpha_sv.files import InputError
from tests.batteries import damaged_files
from tests.fixtures.devices import needs_a_real_gpu
from tests.fixtures.replaced import counted
from tests.fixtures.speech_tree import make_tree, voice

SMALL = {
    "ecapa_tdnn": {"channels": [16, 16, 16, 16, 48], "attention_channels": 8, "se_channels": 8},
    "resnet": {"channels": [8, 8, 16, 16], "block_sizes": [1, 1, 1, 1]},
    "campplus": {"channels": 4, "init_channels": 16, "block_sizes": [2, 2], "growth": 4},
}


def small_embedder(architecture="ecapa_tdnn"):
    torch.manual_seed(1)
    return SpeakerEmbedder(architecture, 24, n_mels=40, **SMALL[architecture])


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("tree"), speakers=4, utterances=6)
    rows = []
    for path in sorted((root / "wav").rglob("*.wav")):
        speaker, session = path.relative_to(root / "wav").parts[:2]
        size = round(16000 * (0.8, 1.0, 1.37)[int(path.stem) % 3])
        rows.append(Utterance(str(path.relative_to(root / "wav")), str(path), speaker, session, size, 16000, 1, "test"))
    return rows


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_scores_do_not_move_with_batch_size(architecture, utterances, tmp_path):
    """Peers pad short utterances to their batch, so scores depend on the neighbours."""
    embedder = small_embedder(architecture)
    one = extract(embedder, utterances, tmp_path / "1", batch_size=1, progress=False)
    many = extract(embedder, utterances, tmp_path / "32", batch_size=32, progress=False)

    def cosines(store):
        unit = store.matrix / np.linalg.norm(store.matrix, axis=1, keepdims=True)
        return unit @ unit.T

    assert one.ids == many.ids == [u.utt_id for u in utterances]
    np.testing.assert_allclose(cosines(one), cosines(many), atol=1e-5)


def test_embed_equals_extract_and_does_not_depend_on_company_or_mode(utterances, tmp_path, device):
    needs_a_real_gpu(device)
    embedder = small_embedder().train()
    waves = [voice(int(u.speaker[3:]), int(u.utt_id[-6:-4]), u.duration) for u in utterances]
    together = embedder.embed(waves)
    alone = np.concatenate([embedder.embed([wave]) for wave in waves])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert embedder.training, "embed must leave the mode as it was"
    stored = extract(embedder, utterances, tmp_path / "store", progress=False).matrix
    np.testing.assert_allclose(together, stored, rtol=1e-2, atol=1e-3)  # 16-bit files


def test_features_of_an_utterance_do_not_depend_on_its_batch():
    features = Features(n_mels=40)
    waves = torch.randn(3, 16000) * torch.tensor([[1e-3], [1.0], [0.1]])
    torch.testing.assert_close(features(waves)[0], features(waves[:1])[0], rtol=1e-4, atol=1e-4)
    assert features(waves).mean(1).abs().max() < 1e-3, "each band's mean over time is removed"


def test_interrupted_extraction_continues_and_ends_the_same(utterances, tmp_path):
    embedder = small_embedder()
    whole = extract(embedder, utterances, tmp_path / "whole", batch_size=4, progress=False)
    with counted(StoreWriter, "write", kill_at=3) as calls, pytest.raises(KeyboardInterrupt):
        extract(embedder, utterances, tmp_path / "part", batch_size=4, progress=False)
    with pytest.raises(ValueError, match="is a file; give the folder"):
        EmbeddingStore.open(__file__)
    with pytest.raises(ValueError, match="unfinished"):
        EmbeddingStore.open(tmp_path / "part")
    done = sum(len(rows) for _, rows, _ in calls[:2])
    with counted(StoreWriter, "write") as calls:
        resumed = extract(embedder, utterances, tmp_path / "part", batch_size=4, progress=False)
    assert sum(len(rows) for _, rows, _ in calls) == len(utterances) - done, (
        "rows that were done must not be embedded again"
    )
    np.testing.assert_array_equal(resumed.matrix, whole.matrix)


def test_store_is_reused_only_for_the_same_model_and_utterances(utterances, tmp_path):
    embedder = small_embedder()

    def embedded(some=utterances):
        with counted(StoreWriter, "write") as calls:
            store = extract(embedder, some, tmp_path / "s", progress=False)
        assert len(store.ids) == len(some)
        return sum(len(rows) for _, rows, _ in calls)

    assert embedded() == len(utterances) and embedded() == 0
    with torch.no_grad():
        next(embedder.backbone.parameters()).add_(0.1)
    assert embedded() == len(utterances)
    assert embedded(utterances[:5]) == 5


def test_missing_file_is_named_and_nothing_is_lost(utterances, tmp_path):
    import dataclasses

    gone = dataclasses.replace(utterances[0], utt_id="gone.wav", path=str(tmp_path / "gone.wav"))
    with pytest.raises(AudioError, match="gone.wav"):
        extract(small_embedder(), [*utterances, gone], tmp_path / "s", progress=False)


def test_store_refuses_bad_rows_and_unknown_ids(tmp_path):
    writer = StoreWriter(tmp_path / "s", ["a", "b"], ["x", "x"], ["test", "test"], 2, "key")
    with pytest.raises(ValueError, match="b"):
        writer.write([0, 1], np.array([[1.0, 2.0], [np.nan, 1.0]], np.float32))
    with pytest.raises(ValueError, match="zero embedding for a"):
        writer.write([0], np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="2 rows"):
        writer.finish()
    writer.write([0, 1], np.ones((2, 2), np.float32))
    store = writer.finish()
    assert isinstance(store.matrix, np.memmap) and store.rows(["b", "a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="1 utterances are not in the store .*: c"):
        store.rows(["a", "c"])
    with pytest.raises(ValueError, match="distinct"):
        StoreWriter(tmp_path / "t", ["a", "a"], ["x", "x"], ["test", "test"], 2, "key")


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_saved_model_gives_the_same_embeddings(architecture, tmp_path, device):
    if architecture == "ecapa_tdnn":
        needs_a_real_gpu(device)
    embedder = small_embedder(architecture)
    embedder.save(tmp_path / "model")
    assert sorted(f.name for f in (tmp_path / "model").iterdir()) == ["config.json", "embedder.safetensors"]
    waves = [voice(0, 0), voice(1, 0, 1.3)]
    np.testing.assert_array_equal(SpeakerEmbedder.load(tmp_path / "model").embed(waves), embedder.embed(waves))


def test_loading_a_model_runs_no_code_and_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="config.json is missing"):
        SpeakerEmbedder.load(tmp_path)
    small_embedder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in [
        ({"architecture": "os.system"}, "architecture must be one of"),
        ({"channels": ["__import__('os').system('true')"]}, "must be a number"),
        ({"device": "cuda"}, "must be a number"),
        ({"format": "other"}, "format"),
        ({"features": "os.system"}, "features must be one of"),
        ({"features": ["kaldi"]}, "features must be one of"),
        ({"architecture": ["ecapa_tdnn"]}, "architecture must be one of"),
        ({"n_layers": 3}, "has no argument"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            SpeakerEmbedder.load(tmp_path)


def test_damaged_files_are_named(tmp_path):
    model = tmp_path / "model"
    small_embedder().save(model)
    config, weights = model / "config.json", model / "embedder.safetensors"
    good = config.read_text(), weights.read_bytes()
    for text in ("{", "[]", '{"format": "alpha_sv.embedder/1"}'):
        config.write_text(text)
        with pytest.raises(ValueError, match="config.json does not describe"):
            SpeakerEmbedder.load(model)
    config.write_text(good[0].replace('"embedding_dim": 24', '"embedding_dim": 23'))
    with pytest.raises(ValueError, match="embedder.safetensors is damaged or does not fit"):
        SpeakerEmbedder.load(model)
    config.write_text(good[0])
    weights.write_bytes(good[1][:1000])
    with pytest.raises(ValueError, match="embedder.safetensors is damaged"):
        SpeakerEmbedder.load(model)
    diverged = small_embedder()
    next(diverged.backbone.parameters()).data.fill_(float("nan"))
    diverged.save(model)
    with pytest.raises(ValueError, match="diverged"):
        SpeakerEmbedder.load(model)


@pytest.mark.parametrize("name", ["meta.json", "index.csv", "embeddings.npy"])
def test_damaged_store_is_named_and_made_again(name, utterances, tmp_path):
    store = extract(small_embedder(), utterances, tmp_path / "s", progress=False)
    matrix = np.array(store.matrix)
    del store
    file = tmp_path / "s" / name
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) // 2])
    with pytest.raises(ValueError, match="/s is damaged"):
        EmbeddingStore.open(tmp_path / "s")
    again = extract(small_embedder(), utterances, tmp_path / "s", progress=False)
    np.testing.assert_array_equal(again.matrix, matrix)


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_an_utterance_is_embedded_whole(architecture, device):
    """What `embed` gives is the network's own answer to the samples as they are, at any length."""
    if architecture == "ecapa_tdnn":
        needs_a_real_gpu(device)
    embedder = small_embedder(architecture).eval()
    waves = [voice(0, 0, seconds) for seconds in (0.1, 0.13, 0.7003, 1.0, 1.0049)]
    with torch.no_grad():
        expected = [embedder(torch.from_numpy(wave)[None])[0].cpu().numpy() for wave in waves]
    np.testing.assert_allclose(embedder.embed(waves), expected, rtol=1e-4, atol=1e-5)


def test_features_and_architecture_are_words_of_a_list_and_old_configurations_stay():
    assert "features" not in small_embedder("resnet").config
    assert small_embedder("campplus").config["features"] == "kaldi"
    assert SpeakerEmbedder("resnet", 8, n_mels=24, features="wespeaker").config["features"] == "wespeaker"
    with pytest.raises(ValueError, match="features must be one of"):
        SpeakerEmbedder("resnet", 8, features="plp")


def test_embed_refuses_silence_nan_and_two_channels():
    for bad in (
        np.ones(1599, np.float32),
        np.zeros(16000, np.float32),
        np.full(16000, np.nan, np.float32),
        np.ones((2, 16000), np.float32),
    ):
        with pytest.raises(ValueError, match="waveform 1"):
            small_embedder().embed([voice(0, 0), bad])


def test_autocast_leaves_features_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Features(n_mels=40)(torch.randn(1, 16000)).dtype == torch.float32


def test_full_disk_is_an_error_before_the_first_embedding(tmp_path, monkeypatch):
    """Writing to a memory map of a sparse file on a full disk would kill the process instead."""

    def full(fd, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        StoreWriter(tmp_path / "s", ["a"], ["x"], ["test"], 2, "key")
    monkeypatch.undo()
    writer = StoreWriter(tmp_path / "s", ["a"], ["x"], ["test"], 2, "key")
    assert writer.missing().tolist() == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"embedding_dim": 10**12},
        {"embedding_dim": 10**400},
        {"n_mels": 10**9},
        {"n_mels": 0},
        {"sample_rate": 10**15},
        {"sample_rate": -16000},
        {"channels": [16384] * 5},
        {"channels": [8] * 10**5},
        {"channels": [8]},
        {"channels": [-8, 8, 8, 8, 24]},
        {"res2net_scale": 0},
        {"dilations": [float("nan")] * 5},
    ],
    ids=str,
)
def test_sizes_from_elsewhere_cannot_fill_the_memory(change, tmp_path):
    """10^12 dimensions would ask for terabytes, and 16,384 channels for 21 GB, before any weight is read."""
    small_embedder().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": "ecapa_tdnn", **change}))
    with pytest.raises(ValueError, match="config.json"):
        SpeakerEmbedder.load(tmp_path)


def test_weights_far_larger_than_the_network_are_not_read(tmp_path):
    small_embedder().save(tmp_path)
    with open(tmp_path / "embedder.safetensors", "r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match="embedder.safetensors does not fit config.json"):
        SpeakerEmbedder.load(tmp_path)


@pytest.mark.parametrize("killed_before", ["os.replace", "meta.json"])
def test_a_store_killed_while_it_is_finished_is_not_extracted_again(tmp_path, monkeypatch, killed_before):
    def writer():
        return StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")

    first = writer()
    first.write([0, 1], np.ones((2, 3), np.float32))
    replace = os.replace

    def kill(source, target):
        if killed_before == "os.replace" or str(target).endswith(killed_before):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.replace", kill)
        first.finish()
    again = writer()
    assert again.finished is None and len(again.missing()) == 0
    assert (again.finish().matrix == 1).all()


def test_what_a_kill_at_the_very_end_leaves_goes_when_the_store_is_opened_for_writing_again(tmp_path, monkeypatch):
    def writer():
        return StoreWriter(tmp_path, ["a"], ["s"], ["test"], 3, "key")

    first = writer()
    first.write([0], np.ones((1, 3), np.float32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        first.finish()
    assert (tmp_path / "key.part").exists()
    assert (writer().finished.matrix == 1).all()
    assert sorted(os.listdir(tmp_path)) == ["embeddings.npy", "index.csv", "meta.json"]


@pytest.mark.parametrize("file", ["embeddings.part.npy", "done.part.npy", "key.part"])
def test_a_damaged_part_of_a_store_is_made_again(tmp_path, file):
    def writer():
        return StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")

    writer().write([0], np.ones((1, 3), np.float32))
    assert writer().missing().tolist() == [1]
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert writer().missing().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name in ("meta.json", "index.csv") for content in damaged_files.JSON.values()]
    + [("embeddings.npy", content) for content in damaged_files.NPY.values()]
    + [("index.csv", b"ID,spk_id,split\na,s\nb,t,test\n"), ("index.csv", b'ID,spk_id,split\na,"s,test\nb,t,test\n')],
)
def test_what_is_no_store_is_named(tmp_path, name, content):
    writer = StoreWriter(tmp_path / "s", ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")
    writer.write([0, 1], np.ones((2, 3), np.float32))
    writer.finish()
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(InputError, match="store .*/s is damaged"):
        EmbeddingStore.open(tmp_path / "s")


@pytest.mark.parametrize("content", damaged_files.NPY.values(), ids=damaged_files.NPY)
def test_a_part_that_is_no_array_is_made_again(tmp_path, content):
    for file in ("embeddings.part.npy", "done.part.npy"):
        StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key").write([0], np.ones((1, 3)))
        (tmp_path / file).write_bytes(content)
        again = StoreWriter(tmp_path, ["a", "b"], ["s", "t"], ["test", "test"], 3, "key")
        assert again.missing().tolist() == [0, 1] and (tmp_path / file).stat().st_size < 1000


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
def test_what_is_no_configuration_is_named(tmp_path, content):
    small_embedder().save(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="config.json does not describe an embedder"):
        SpeakerEmbedder.load(tmp_path)
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match="x.json"):
        read_spec(tmp_path / "x.onnx")


@pytest.mark.parametrize("field", ["sample_rate", "n_mels"])
def test_a_network_in_onnx_cannot_fill_the_memory(field):
    with pytest.raises(ValueError, match=f"note.json does not say .*{field}.* whole number up to"):
        OnnxInput.from_json(json.dumps({"format": "alpha_sv.onnx/1", field: 10**15}), "note.json")
