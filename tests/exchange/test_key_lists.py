"""Checkpoints as other toolkits publish them:
names and shapes of their tensors, written down from their code.

The lists do not come from our networks. Each is held against ours at the published size,
then imported at a small one in the shapes in which strangers have such files.
"""

import numpy as np
import pytest
import torch

from alpha_sv.cli import main
from alpha_sv.embedding.embedder import ARCHITECTURES
from alpha_sv.exchange.speechbrain import read_pretrained
from alpha_sv.verify.model import load_model
from tests.fixtures.models import small_embedder
from tests.fixtures.speech_tree import voice


def norm(name, n):
    return {f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")} | {
        f"{name}.num_batches_tracked": ()
    }


def conv(name, inside, outside, *kernel, bias=True):
    return {f"{name}.weight": (outside, inside, *kernel)} | ({f"{name}.bias": (outside,)} if bias else {})


def speechbrain_ecapa(channels=1024, dim=192, bands=80, attention=128, squeeze=128):
    """speechbrain/spkrec-ecapa-voxceleb; 3D-Speaker's ECAPA-TDNN keeps the names."""

    def tdnn(name, inside, outside, kernel):
        return conv(f"{name}.conv.conv", inside, outside, kernel) | norm(f"{name}.norm.norm", outside)

    c, names = channels, tdnn("blocks.0", bands, channels, 5)
    for i in (1, 2, 3):
        names |= tdnn(f"blocks.{i}.tdnn1", c, c, 1) | tdnn(f"blocks.{i}.tdnn2", c, c, 1)
        for j in range(7):
            names |= tdnn(f"blocks.{i}.res2net_block.blocks.{j}", c // 8, c // 8, 3)
        names |= conv(f"blocks.{i}.se_block.conv1.conv", c, squeeze, 1)
        names |= conv(f"blocks.{i}.se_block.conv2.conv", squeeze, c, 1)
    names |= tdnn("mfa", 3 * c, 3 * c, 1) | tdnn("asp.tdnn", 9 * c, attention, 1)
    names |= conv("asp.conv.conv", attention, 3 * c, 1) | norm("asp_bn.norm", 6 * c)
    return names | conv("fc.conv", 6 * c, dim, 1)


def wespeaker_resnet34(channels=32, dim=256, bands=80, blocks=(3, 4, 6, 3)):
    """r-vector with one embedding layer and TSTP, as in the released avg_model.pt."""
    names, inside = conv("conv1", 1, channels, 3, 3, bias=False) | norm("bn1", channels), channels
    for layer, count in enumerate(blocks):
        outside = channels << layer
        for i in range(count):
            block = f"layer{layer + 1}.{i}"
            names |= conv(f"{block}.conv1", inside, outside, 3, 3, bias=False) | norm(f"{block}.bn1", outside)
            names |= conv(f"{block}.conv2", outside, outside, 3, 3, bias=False) | norm(f"{block}.bn2", outside)
            if i == 0 and layer > 0:
                names |= conv(f"{block}.shortcut.0", inside, outside, 1, 1, bias=False)
                names |= norm(f"{block}.shortcut.1", outside)
            inside = outside
    return names | conv("seg_1", 2 * 8 * channels * (bands // 8), dim)


def wespeaker_ecapa(channels=512, dim=192, bands=80, attention=128, squeeze=128, glob=False):
    """ECAPA_TDNN_c512 and ECAPA_TDNN_GLOB_c512 with ASTP."""

    def unit(name, inside, kernel):
        return conv(f"{name}.conv", inside, channels, kernel) | norm(f"{name}.bn", channels)

    c, names = channels, unit("layer1", bands, 5)
    for layer in (2, 3, 4):
        inner = f"layer{layer}.se_res2block"
        names |= unit(f"{inner}.0", c, 1) | unit(f"{inner}.2", c, 1)
        for j in range(7):
            names |= conv(f"{inner}.1.convs.{j}", c // 8, c // 8, 3) | norm(f"{inner}.1.bns.{j}", c // 8)
        names |= conv(f"{inner}.3.linear1", c, squeeze) | conv(f"{inner}.3.linear2", squeeze, c)
    names |= conv("conv", 3 * c, 3 * c, 1) | conv("pool.linear1", (9 if glob else 3) * c, attention, 1)
    names |= conv("pool.linear2", attention, 3 * c, 1) | norm("bn", 6 * c)
    return names | conv("linear", 6 * c, dim)


PUBLISHED = {  # the list → our architecture and sizes, and the parameters that the toolkit reports, in millions
    "SpeechBrain ECAPA": (speechbrain_ecapa(), "ecapa_tdnn", {"channels": [1024] * 4 + [3072]}, 20.77),
    "3D-Speaker ECAPA-512": (speechbrain_ecapa(512), "ecapa_tdnn", {"channels": [512] * 4 + [1536]}, None),
    "WeSpeaker ResNet34": (wespeaker_resnet34(), "wespeaker_resnet", {}, 6.63),
    "WeSpeaker ECAPA-512": (wespeaker_ecapa(), "wespeaker_ecapa", {}, None),
    "WeSpeaker ECAPA-GLOB-512": (wespeaker_ecapa(glob=True), "wespeaker_ecapa", {"global_context": True}, 6.19),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_our_network_has_the_tensors_of_the_published_one_and_no_others(name):
    listed, architecture, sizes, _ = PUBLISHED[name]
    (dim,) = listed[next(key for key in ("seg_1.bias", "fc.conv.bias", "linear.bias") if key in listed)]
    with torch.device("meta"):
        ours = ARCHITECTURES[architecture](input_size=80, lin_neurons=dim, **sizes).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == listed


def as_strangers_have_it(weights, form):
    """The tensors in what people save, and under which name."""
    if form == "DataParallel, with a classifier, avg_model.pt":
        extra = {"projection.weight": torch.zeros(17, 24), "projection.bias": torch.zeros(17)}
        return {f"module.{key}": tensor for key, tensor in {**weights, **extra}.items()}, "avg_model.pt"
    if form == "a training state, CKPT.ckpt":
        return {"epoch": 7, "model": weights, "optimizer": {"state": {}, "param_groups": []}}, "embedding_model.ckpt"
    return {"state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}}, "model_150.pth"


SMALL = {
    "3D-Speaker ECAPA": (speechbrain_ecapa(16, 24, attention=8, squeeze=8), "kaldi"),
    "WeSpeaker ResNet": (wespeaker_resnet34(4, 24, blocks=(1, 2, 1, 1)), "wespeaker"),
    "WeSpeaker ECAPA": (wespeaker_ecapa(16, 24, attention=8), "wespeaker"),
    "WeSpeaker ECAPA-GLOB": (wespeaker_ecapa(16, 24, attention=8, glob=True), "wespeaker"),
}


@pytest.mark.parametrize(
    "form",
    ["DataParallel, with a classifier, avg_model.pt", "a training state, CKPT.ckpt", "state_dict, model_150.pth"],
)
@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_as_strangers_have_it_is_imported(name, form, tmp_path):
    listed, features = SMALL[name]
    torch.manual_seed(0)
    weights = {key: torch.rand(shape) for key, shape in listed.items()}
    weights |= {key: torch.tensor(9) for key in listed if key.endswith("tracked")}
    content, file = as_strangers_have_it(weights, form)
    torch.save(content, tmp_path / file)
    assert main(["import", str(tmp_path / file), "-o", str(tmp_path / "m"), "--features", features]) == 0
    got = load_model(tmp_path / "m").embedder
    assert {key: tensor.shape for key, tensor in got.backbone.state_dict().items()} == {
        key: tensor.shape for key, tensor in weights.items()
    }
    assert all(torch.equal(tensor, weights[key]) for key, tensor in got.backbone.state_dict().items())
    assert got.embed([voice(0, 0)]).shape == (1, 24)


RESNET = """\
# the keys of a training recipe of SpeechBrain, as its pretrained folders keep them
pretrained_path: somebody/spkrec-resnet
n_mels: 80
out_n_neurons: 7205
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ResNet.ResNet
    input_size: !ref <n_mels>
    channels: [8, 8, 16, 16]
    strides: [1, 2, 2, 2]
    block_sizes: [1, 1, 1, 1]
    lin_neurons: 24
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 24
    out_neurons: !ref <out_n_neurons>
mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    embedding_model: !ref <embedding_model>
label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
"""


def test_a_resnet_folder_with_classifier_label_encoder_and_paths(tmp_path):
    embedder = small_embedder("resnet", n_mels=80)
    (tmp_path / "hyperparams.yaml").write_text(RESNET)
    torch.save(embedder.backbone.state_dict(), tmp_path / "embedding_model.ckpt")
    (tmp_path / "label_encoder.ckpt").write_text("'id10001' => 0\n")
    np.testing.assert_allclose(read_pretrained(tmp_path).embed([voice(0, 0)]), embedder.embed([voice(0, 0)]), rtol=1e-5)


def test_the_sizes_are_those_of_the_papers():
    """Parameters in millions, as the toolkits report them: statistics are none."""
    for name, (listed, *_, millions) in PUBLISHED.items():
        if millions is None:
            continue
        learned = [shape for key, shape in listed.items() if not key.endswith(("_mean", "_var", "_tracked"))]
        assert sum(int(np.prod(shape)) for shape in learned) / 1e6 == pytest.approx(millions, abs=0.01), name
