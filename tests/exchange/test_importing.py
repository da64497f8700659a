"""Models of other toolkits: the embeddings stay theirs,
nothing of theirs is run, what cannot be done is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.inference.speaker import SpeakerRecognition
from torch.nn import functional as F

from alpha_sv.cli import main
from alpha_sv.embedding.features import Features
from alpha_sv.exchange.importing import import_embeddings, import_model
from alpha_sv.exchange.speechbrain import read_pretrained, write_pretrained
from alpha_sv.verify.model import load_model
from tests.batteries import damaged_files
from tests.fixtures.models import small_embedder
from tests.fixtures.speech_tree import voice

WAVES = [voice(0, 0, 0.1), voice(1, 0, 0.7003), voice(2, 0, 1.0)]


def theirs(folder, tmp_path, waves=WAVES):
    """Stock SpeechBrain's embeddings [N, D] of whole waveforms."""
    stock = SpeakerRecognition.from_hparams(source=str(folder), savedir=str(tmp_path / "fetched"))
    with torch.no_grad():
        return np.concatenate(
            [stock.encode_batch(torch.from_numpy(wave)[None]).reshape(1, -1).numpy() for wave in waves]
        )


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {name: write_pretrained(small_embedder(name), folder / name) for name in ("ecapa_tdnn", "resnet")}


@pytest.fixture(params=["ecapa_tdnn", "resnet"])
def speechbrain_folder(request, originals, tmp_path):
    return Path(shutil.copytree(originals[request.param], tmp_path / "theirs"))


def test_a_speechbrain_folder_gives_speechbrains_own_embeddings(speechbrain_folder, tmp_path):
    expected = theirs(speechbrain_folder, tmp_path)
    for model in (load_model(speechbrain_folder), load_model(import_model(speechbrain_folder, tmp_path / "ours"))):
        got = model.embed(WAVES)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


PUBLISHED = """\
# as in the folders that SpeechBrain publishes: references, a classifier, a label encoder
pretrained_path: somebody/spkrec-ecapa
n_mels: 40
left_frames: 0
right_frames: 0
deltas: False
out_n_neurons: 7205
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
    left_frames: !ref <left_frames>
    right_frames: !ref <right_frames>
    deltas: !ref <deltas>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    se_channels: 8
    lin_neurons: 24
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 24
    out_neurons: !ref <out_n_neurons>
anything: !apply:os.system ["touch PWNED"]
"""


@pytest.fixture
def published(speechbrain_folder, tmp_path):
    yaml = PUBLISHED.replace("PWNED", str(tmp_path / "pwned"))
    (speechbrain_folder / "hyperparams.yaml").write_text(yaml)
    return speechbrain_folder


@pytest.mark.parametrize("speechbrain_folder", ["ecapa_tdnn"], indirect=True)
def test_a_published_yaml_is_read_and_its_code_is_not_run(published, tmp_path):
    expected = small_embedder("ecapa_tdnn").embed(WAVES)
    np.testing.assert_allclose(load_model(published).embed(WAVES), expected, rtol=1e-5, atol=1e-5)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("speechbrain_folder", ["ecapa_tdnn"], indirect=True)
@pytest.mark.parametrize(
    "old, new, reason",
    [
        ("ECAPA_TDNN.ECAPA_TDNN", "Xvector.Xvector", "only ECAPA_TDNN or ResNet"),
        ("norm_type: sentence", "norm_type: global", "mean of each sentence"),
        ("std_norm: False", "std_norm: True", "mean of each sentence"),
        ("deltas: False", "deltas: True", "deltas"),
        ("input_size: !ref <n_mels>\n    channels", "input_size: 60\n    channels", "takes 60 bands"),
        ("lin_neurons: 24", "lin_neurons: 25", "do not fit the network"),
        ("lin_neurons: 24", "lin_neurons: !apply:os.getpid []", "is !apply:os.getpid, not a number"),
        ("    n_mels: !ref <n_mels>", "    n_mels: !ref <n_mels> * 2", "not the name of a key"),
        ("    n_mels: !ref <n_mels>", "    n_mels: !ref <nothing>", "not the name of a key"),
        ("n_mels: 40", "n_mels: !ref <n_mels>", "not the name of a key"),
        ("    lin_neurons: 24", "    lin_neurons: 24\n    activation: !name:torch.nn.LeakyReLU", "LeakyReLU"),
        ("    lin_neurons: 24", "    lin_neurons: 24\n    colour: 3", "no argument .'colour'"),
        ("deltas: !ref <deltas>", "f_max: 4000", "f_max"),
        (PUBLISHED, "[1, 2]", "has no keys"),
        (PUBLISHED, "a: [", "is not YAML"),
        (PUBLISHED, "a: " + "x" * 300_000, "bytes"),
    ],
)
def test_a_yaml_that_cannot_be_followed_is_refused_with_the_reason(published, tmp_path, old, new, reason):
    file = published / "hyperparams.yaml"
    text = file.read_text().replace(str(tmp_path / "pwned"), "PWNED").replace(old, new)
    assert new in text
    file.write_text(text)
    with pytest.raises(ValueError, match=reason) as told:
        read_pretrained(published)
    assert str(published) in str(told.value)


@pytest.mark.parametrize("speechbrain_folder", ["ecapa_tdnn"], indirect=True)
def test_a_checkpoint_that_runs_code_or_is_damaged_is_refused(published, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    weights = published / "embedding_model.ckpt"
    whole = weights.read_bytes()
    for content in (pickle.dumps({"a": Evil()}), b"", whole[: len(whole) // 2], b"garbage"):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="embedding_model.ckpt is damaged, or holds more than tensors"):
            load_model(published)
    torch.save([1, 2], weights)
    with pytest.raises(ValueError, match="no dictionary of tensors"):
        load_model(published)
    weights.unlink()
    with pytest.raises(ValueError, match="no embedding_model.ckpt"):
        load_model(published)
    assert not (tmp_path / "pwned").exists()


CHECKPOINTS = {
    "campplus": ("kaldi", {}),
    "ecapa_tdnn": ("kaldi", {"n_mels": 80}),
    "wespeaker_resnet": ("wespeaker", {"n_mels": 80, "channels": 4, "block_sizes": [1, 2, 1, 1]}),
    "wespeaker_ecapa": ("wespeaker", {"n_mels": 80, "channels": 16, "attention_channels": 4, "global_context": True}),
}


@pytest.mark.parametrize("wrap", ["plain", "with a classifier", "wrapped"])
@pytest.mark.parametrize("architecture", sorted(CHECKPOINTS))
def test_a_checkpoint_says_by_its_tensors_what_it_is(architecture, wrap, tmp_path):
    kind, sizes = CHECKPOINTS[architecture]
    embedder = small_embedder(architecture, features=kind, **sizes)
    weights = embedder.backbone.state_dict()
    if wrap == "with a classifier":
        weights = {**weights, "projection.weight": torch.zeros(7, 24)}
    if wrap == "wrapped":
        weights = {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 3}
    torch.save(weights, tmp_path / "a.pt")
    command = ["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "m"), "--features", kind]
    assert main(command) == 0
    model = load_model(tmp_path / "m")
    assert model.embedder.config == embedder.config | model.embedder.config
    np.testing.assert_array_equal(model.embed(WAVES), embedder.embed(WAVES))


def test_features_must_be_said_where_two_toolkits_have_the_network(tmp_path, capsys):
    torch.save(small_embedder().backbone.state_dict(), tmp_path / "a.pt")
    assert main(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "m")]) == 2
    assert "give --features kaldi" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"], "nothing is written"


def test_what_is_no_model_is_refused_with_a_reason(tmp_path):
    torch.save({"layer.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    for source, reason in {
        "other.pt": "none of the networks that can be imported.*layer.weight",
        "text.txt": "is none of",
        "folder": "no hyperparams.yaml",
        "missing": "no such file",
    }.items():
        with pytest.raises(ValueError, match=reason):
            import_model(tmp_path / source, tmp_path / "m", features="kaldi")
    with pytest.raises(ValueError, match="is there already"):
        import_model(tmp_path / "other.pt", tmp_path / "used")
    assert (tmp_path / "used" / "file").read_text() == "mine" and not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["npy", "scp", "ark"])
def test_embeddings_of_others_can_be_scored(kind, tmp_path):
    names, matrix = ["s0/a", "s0/b", "s1/c"], np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    source, command = tmp_path / f"xvector.{kind}", []
    if kind == "npy":
        np.save(source, matrix)
        (tmp_path / "ids").write_text("\n".join(names) + "\n")
        command = ["--ids", str(tmp_path / "ids")]
    else:
        kaldiio = pytest.importorskip("kaldiio")
        ark, scp = (str(tmp_path / f"xvector.{end}") for end in ("ark", "scp"))
        kaldiio.save_ark(ark, dict(zip(names, matrix, strict=True)), scp=scp)
    assert main(["import", str(source), "-o", str(tmp_path / "store"), *command]) == 0
    (tmp_path / "trials").write_text("1 s0/a s0/b\n0 s0/a s1/c\n")
    assert main(["score", str(tmp_path / "store"), str(tmp_path / "trials"), "-o", str(tmp_path / "scores")]) == 0
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    scores = [float(line.split()[2]) for line in (tmp_path / "scores").read_text().splitlines()]
    assert scores == pytest.approx([unit[0] @ unit[1], unit[0] @ unit[2]], abs=1e-5)


def test_embeddings_that_cannot_be_used_are_named(tmp_path):
    pytest.importorskip("kaldiio", reason="the extra `kaldi` is not installed")
    source, ids = tmp_path / "e.npy", tmp_path / "ids"
    cases = [
        (np.zeros((2, 3), np.float32), "a\nb", "zero embeddings .in float32.: a, b"),
        (np.full((1, 3), 1e300), "a", "infinite or zero embeddings .in float32.: a"),
        (np.full((1, 3), -1e-300), "a", "zero embeddings .in float32.: a"),
        (np.ones((2, 3), np.float32), "a\na", "ids that come twice: a"),
        (np.ones((2, 3), np.float32), "a", "for 1 ids"),
        (np.ones(3, np.float32), "a", "for 1 ids"),
        (np.array([["a"]], dtype=object), "a", "cannot be read"),
    ]
    for matrix, text, reason in cases:
        np.save(source, matrix, allow_pickle=True)
        ids.write_text(text)
        with pytest.raises(ValueError, match=reason):
            import_embeddings(source, tmp_path / "store", ids)
    with pytest.raises(ValueError, match="give --ids"):
        import_embeddings(source, tmp_path / "store")
    (tmp_path / "e.scp").write_text(f"a touch {tmp_path}/pwned |\n")
    with pytest.raises(ValueError, match="commands"):
        import_embeddings(tmp_path / "e.scp", tmp_path / "store")
    assert not (tmp_path / "store").exists() and not (tmp_path / "pwned").exists()


def test_an_archive_of_matrices_is_no_archive_of_embeddings(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    ark = tmp_path / "feats.ark"
    kaldiio.save_ark(str(ark), {"a": np.ones((4, 3), np.float32), "b": np.ones((4, 3), np.float32)})
    with pytest.raises(ValueError, match=r"feats.ark .*'a' is a matrix of shape \[4, 3\]"):
        import_embeddings(ark, tmp_path / "store")
    kaldiio.save_ark(str(ark), {"a": np.full((1, 3), 2, np.float32)})  # one row is a vector
    assert import_embeddings(ark, tmp_path / "store").matrix.tolist() == [[2, 2, 2]]


def test_wespeakers_resnet_by_hand():
    """The network again, from the names of its tensors alone."""
    _, sizes = CHECKPOINTS["wespeaker_resnet"]
    embedder = small_embedder("wespeaker_resnet", **sizes)
    w, wave = embedder.backbone.state_dict(), torch.from_numpy(WAVES[2])[None]

    def norm(x, name):
        mean, var = (w[f"{name}.running_{part}"].view(1, -1, 1, 1) for part in ("mean", "var"))
        x = (x - mean) / (var + 1e-5).sqrt()
        return x * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)

    x = Features(kind="wespeaker")(wave).transpose(1, 2)[:, None]
    x = F.relu(norm(F.conv2d(x, w["conv1.weight"], padding=1), "bn1"))
    for layer, blocks in enumerate(sizes["block_sizes"], 1):
        for i in range(blocks):
            name, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            y = F.relu(norm(F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = norm(F.conv2d(y, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if f"{name}.shortcut.0.weight" in w:
                x = norm(F.conv2d(x, w[f"{name}.shortcut.0.weight"], stride=stride), f"{name}.shortcut.1")
            x = F.relu(x + y)
    statistics = torch.cat([x.mean(-1).flatten(1), (x.var(-1) + 1e-8).sqrt().flatten(1)], dim=1)
    expected = statistics @ w["seg_1.weight"].T + w["seg_1.bias"]
    with torch.no_grad():
        torch.testing.assert_close(embedder(wave), expected, rtol=1e-4, atol=1e-4)


def test_a_model_folder_of_an_import_has_plain_json(tmp_path, speechbrain_folder):
    folder = import_model(speechbrain_folder, tmp_path / "m")
    assert json.loads((folder / "config.json").read_text())["format"] == "alpha_sv.embedder/1"
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "embedder.safetensors"]


@pytest.mark.parametrize("content", damaged_files.JSON.values(), ids=damaged_files.JSON)
@pytest.mark.parametrize("speechbrain_folder", ["ecapa_tdnn"], indirect=True)
@pytest.mark.parametrize("name", ["hyperparams.yaml", "config.json"])
def test_what_describes_no_model_is_named(published, name, content):
    (published / name).write_bytes(content)
    if name == "config.json":  # a folder of ours
        (published / "embedder.safetensors").touch()
    with pytest.raises(ValueError, match=name):
        load_model(published)


@pytest.mark.parametrize("speechbrain_folder", ["ecapa_tdnn"], indirect=True)
@pytest.mark.parametrize(
    "channels",
    [
        "&a [*a]",
        "[[1, 2], [3, 4]]",
        "[1" + "0" * 400 + "]",
        "!ref <many>",
        "{a: *l11}",
    ],
)
def test_arguments_without_end_are_refused(published, channels):
    file, lines = published / "hyperparams.yaml", ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12)]  # 10^12 numbers, if written out
    text = "\n".join([*lines, f"many: [{', '.join(['!ref <l11>'] * 10)}]", file.read_text()])
    file.write_text(text.replace("    attention_channels: 8", f"    attention_channels: {channels}"))
    assert channels in file.read_text()
    with pytest.raises(ValueError, match="hyperparams.yaml: "):
        read_pretrained(published)


@pytest.mark.parametrize("content", damaged_files.NPY.values(), ids=damaged_files.NPY)
def test_an_array_that_is_damaged_is_named(tmp_path, content):
    (tmp_path / "e.npy").write_bytes(content)
    (tmp_path / "ids").write_text("a\nb")
    with pytest.raises(ValueError, match="e.npy"):
        import_embeddings(tmp_path / "e.npy", tmp_path / "store", tmp_path / "ids")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "weights",
    [
        {"xvector.tdnn.linear.weight": torch.ones(()), "head.conv1.weight": torch.ones(2)},
        {"blocks.0.conv.conv.weight": torch.ones(2), "asp.conv.conv.weight": torch.ones(2)},
        {"seg_1.weight": torch.ones(2, 3), "layer1.0.conv1.weight": torch.ones(2), "conv1.weight": torch.ones(0)},
        {"layer2.se_res2block.0.conv.weight": torch.ones(2), "pool.linear1.weight": torch.ones(2)},
        {3: torch.ones(2)},
    ],
)
def test_tensors_of_half_a_network_are_refused_with_the_file(tmp_path, weights):
    torch.save(weights, tmp_path / "half.pt")
    with pytest.raises(ValueError, match="half.pt"):
        import_model(tmp_path / "half.pt", tmp_path / "m", features="kaldi")
