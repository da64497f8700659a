"""The smallest faithful driver of SpeechBrain's
VoxCeleb recipe around its classes, for `training.py`.

Its wheel does not bring the recipe. The settings are those of its ECAPA-TDNN on VoxCeleb, but for
the size of network, batch and chunk, which `training.py` sets for all. The audio is read as there:
a random chunk of a file, by soundfile.
"""

from __future__ import annotations

import random
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.preparation import write_csv
from speechbrain.augment.time_domain import AddNoise, AddReverb, DropChunk, DropFreq
from speechbrain.dataio import audio_io
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from speechbrain.nnet.schedulers import CyclicLRScheduler
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.data_pipeline import provides, takes


def classifier(dim: int, classes: int) -> torch.nn.Module:
    return Classifier(input_size=dim, out_neurons=classes)


def loss_of() -> torch.nn.Module:
    return LogSoftmaxWrapper(AdditiveAngularMargin(margin=0.2, scale=30))


class SpeechBrainRecipe(sb.Brain):
    """Augmentation of the batch, features, normalisation,
    network, classifier, loss, the next rate."""

    @classmethod
    def made(cls, network: dict, dim: int, classes: int, folder: Path, augment: str, precision: str):
        modules = {
            "features": Fbank(n_mels=80),
            "normaliser": InputNormalization(norm_type="sentence", std_norm=False),
            "network": ECAPA_TDNN(80, lin_neurons=dim, **network),
            "classifier": classifier(dim, classes),
        }
        hparams = {
            "augment": augmenter(folder, augment) if augment else None,
            "loss": loss_of(),
            "schedule": CyclicLRScheduler(base_lr=1e-8, max_lr=0.001, step_size=65_000),
        }
        options = {"device": "cpu", "noprogressbar": True, "precision": precision}
        return cls(modules, lambda p: torch.optim.Adam(p, lr=0.001, weight_decay=0.000002), hparams, options)

    def compute_forward(self, batch, stage):
        waveforms, lengths = batch.to(self.device).waveform
        if self.hparams.augment is not None:
            waveforms, lengths = self.hparams.augment(waveforms, lengths)
        self.chunks = len(waveforms)
        features = self.modules.normaliser(self.modules.features(waveforms), lengths)
        return self.modules.classifier(self.modules.network(features)), lengths

    def compute_objectives(self, predictions, batch, stage):
        labels = batch.label.data
        if self.hparams.augment is not None:
            labels = self.hparams.augment.replicate_labels(labels)
        loss = self.hparams.loss(predictions[0], labels, predictions[1])
        self.hparams.schedule.on_batch_end(self.optimizer)
        return loss


def augmenter(folder: Path, kind: str) -> Augmenter:
    """Of kind copies, the recipe's:
    clean chunks and a copy with each of the four; all: one after the other."""
    lists = {}
    for name in ("noise", "rir"):
        lists[name] = folder / f"{name}_{kind}.csv"
        files = sorted(str(path) for path in (folder / name).rglob("*") if path.suffix in (".wav", ".flac"))
        write_csv(files, str(lists[name]))
    copies = kind == "copies"
    return Augmenter(
        parallel_augment=copies,
        concat_original=copies,
        min_augmentations=4,
        max_augmentations=4,
        augmentations=[
            AddNoise(str(lists["noise"]), snr_low=0, snr_high=15),
            AddReverb(str(lists["rir"])),
            DropFreq(drop_freq_count_low=1, drop_freq_count_high=3),
            DropChunk(drop_length_low=1000, drop_length_high=2000, drop_count_low=1, drop_count_high=5),
        ],
    )


def speechbrain_data(manifest: Path, seconds: float, rate: int) -> DynamicItemDataset:
    """Our manifest is one of theirs."""
    every = DynamicItemDataset.from_csv(str(manifest))
    data = every.filtered_sorted(key_test={"split": lambda split: split == "train"})
    length, encoder = int(seconds * rate), CategoricalEncoder()

    @takes("wav", "duration")
    @provides("waveform")
    def waveform(wav, duration):
        start = random.randint(0, int(float(duration) * rate) - length - 1)
        return audio_io.load(wav, num_frames=length, frame_offset=start)[0].squeeze(0)

    @takes("spk_id")
    @provides("speaker", "label")
    def label(spk_id):
        yield spk_id
        yield encoder.encode_sequence_torch([spk_id])

    data.add_dynamic_item(waveform)
    data.add_dynamic_item(label)
    encoder.update_from_didataset(data, output_key="speaker")
    data.set_output_keys(["id", "waveform", "label"])
    return data
