"""SpeechBrain's VoxCeleb speaker recipe in its own shape,
with only the `compute_cost` line changed, learns.

The YAML keys, the Brain pattern, the Classifier and the shapes (outputs [N, 1, C], targets
[N, 1], third argument lens) are those of SpeechBrain 1.1's recipes/VoxCeleb/SpeakerRec; written
for this test, with tiny sizes.
"""

import pytest
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder

from alpha_sv.losses import NAMED
from tests.fixtures.speech_tree import voice

YAML = """
seed: 1986
__set_seed: !apply:torch.manual_seed [!ref <seed>]
n_mels: 24
out_n_neurons: 5
emb_dim: 16
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    groups: [1, 1, 1, 1, 1]
    attention_channels: 8
    se_channels: 8
    lin_neurons: !ref <emb_dim>
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <emb_dim>
    out_neurons: !ref <out_n_neurons>
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
modules:
    compute_features: !ref <compute_features>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
    mean_var_norm: !ref <mean_var_norm>
compute_cost: {compute_cost}
opt_class: !name:torch.optim.Adam
    lr: 0.01
lr_annealing: !new:speechbrain.nnet.schedulers.CyclicLRScheduler
    base_lr: 0.002
    max_lr: 0.01
    step_size: 10
"""


class SpeakerBrain(sb.core.Brain):
    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats)
        return self.modules.classifier(embeddings), lens

    def compute_objectives(self, predictions, batch, stage):
        predictions, lens = predictions
        spkid, _ = batch.spk_id_encoded
        loss = self.hparams.compute_cost(predictions, spkid, lens)
        if hasattr(self.hparams.lr_annealing, "on_batch_end"):
            self.hparams.lr_annealing.on_batch_end(self.optimizer)
        self.right += (predictions.squeeze(1).argmax(-1) == spkid.squeeze(1)).sum().item()
        self.seen += len(spkid)
        return loss

    def on_stage_start(self, stage, epoch=None):
        self.right = self.seen = 0

    def on_stage_end(self, stage, stage_loss, epoch=None):
        self.history.append((float(stage_loss), self.right / self.seen))


def dataset():
    rows = {
        f"{s}-{u}": {"wav": torch.from_numpy(voice(s, u, 0.5 + 0.1 * (u % 3))), "spk_id": f"spk{s}"}
        for s in range(5)
        for u in range(6)
    }
    encoder = CategoricalEncoder()
    encoder.update_from_iterable(row["spk_id"] for row in rows.values())

    @sb.utils.data_pipeline.takes("wav")
    @sb.utils.data_pipeline.provides("sig")
    def audio(wav):
        return wav

    @sb.utils.data_pipeline.takes("spk_id")
    @sb.utils.data_pipeline.provides("spk_id_encoded")
    def label(spk_id):
        return encoder.encode_label_torch(spk_id)

    return DynamicItemDataset(rows, [audio, label], ["id", "sig", "spk_id_encoded"])


FAST = ("AAMSoftmax", "A3M", "QMargin")  # the others are rows between these


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMED]
)
def test_one_changed_line_learns(name):
    hparams = load_hyperpyyaml(YAML.replace("{compute_cost}", f"!new:alpha_sv.losses.{name}"))
    brain = SpeakerBrain(hparams["modules"], hparams["opt_class"], hparams, {"device": "cpu", "noprogressbar": True})
    brain.history = []
    brain.fit(range(1, 9), dataset(), train_loader_kwargs={"batch_size": 10, "shuffle": True})
    first, last = brain.history[0], brain.history[-1]
    assert last[0] < 0.6 * first[0], f"the loss should fall: {brain.history}"
    assert last[1] > 0.8, f"the speakers are easy to tell apart: {brain.history}"
