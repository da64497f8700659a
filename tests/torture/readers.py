"""Every reader of the package, with a good file for it:
what is read must make sense, see `fuzz`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile


def check(sensible: object) -> None:
    """AssertionError, which nobody expects: what was accepted makes no sense."""
    assert sensible, "silently accepted"


def _trials(path):
    from alpha_sv.data.trials import read_trials

    table = read_trials(path)
    check(len(table.enroll) == len(table.test) > 0 and (table.labels is None or table.labels.dtype == bool))
    check(all(name and "\x00" not in name for name in (*table.enroll.tolist(), *table.test.tolist())))


def _scores(path):
    from alpha_sv.data.trials import read_scores

    table = read_scores(path)
    check(len(table) > 0 and np.isfinite(table.scores).all())


def _manifest(path):
    from alpha_sv.data.corpus.manifest import read_manifest

    rows = read_manifest(path)
    check(len({row.utt_id for row in rows}) == len(rows) and all(row.speaker and row.num_samples > 0 for row in rows))


def _split(path):
    from alpha_sv.data.corpus.published_split import read_split

    check(all(split in ("train", "valid", "test") and samples > 0 for split, samples in read_split(path).values()))


def _speakers(path):
    from alpha_sv.pipeline.speakers import read_speakers

    check(all(read_speakers(path).values()))


def _models(path):
    from alpha_sv.scoring import read_models

    check(all(read_models(path).values()))


def _calibrator(path):
    from alpha_sv.scoring import Calibrator

    calibrator = Calibrator.load(path)
    if not calibrator.qualities:
        check(np.isfinite(calibrator.llrs(np.linspace(-1, 1, 5))).all())


def _metrics(path):
    from alpha_sv.report import load_metrics, to_markdown, to_text

    metrics = load_metrics(path)
    to_text(metrics), to_markdown(metrics)


def _log(path):
    from alpha_sv.report.load import load_log

    load_log(path)


def _note(path):
    from alpha_sv.pipeline.provenance import read_sources

    read_sources(str(path).removesuffix(".sources.json"))


def _store(path):
    from alpha_sv.embedding.store import EmbeddingStore

    store = EmbeddingStore.open(path.parent)
    check(len(store.ids) == len(store.matrix) == len(store.speakers) > 0 and store.matrix.ndim == 2)


def _model(path):
    from alpha_sv.exchange.load import load_embedder

    load_embedder(path.parent)


def _audio(path):
    from alpha_sv.data.audio import check_signal, read_audio
    from alpha_sv.data.corpus.audit import examine

    examine(path, 16000, 0.3)
    signal = read_audio(path)
    check_signal(signal, path)
    check(np.isfinite(signal).all() and len(signal))


def _image(path):
    from alpha_sv.face.images import read_image

    check(read_image(path, 32).shape == (32, 32, 3))


def _faces(path):
    from alpha_sv.face.sources import open_source

    source = open_source(path.with_suffix(".rec") if path.suffix == ".idx" else path)
    source.digest()
    for number in range(min(len(getattr(source, "names", [])), 2)):
        check(source.read(number, 32).shape == (32, 32, 3))


def _protocol(path):
    from alpha_sv.face.ijb import read_protocol

    protocol = read_protocol(path.parent.parent)
    check(np.isfinite(protocol.points).all() and np.isfinite(protocol.detector).all())


def _gallery(path):
    from alpha_sv.verify.gallery import Gallery

    for log in ("-wal", "-shm"):
        Path(f"{path}{log}").unlink(missing_ok=True)
    gallery = Gallery(path, create=False)
    gallery.names(), gallery.counts(), gallery.export(), gallery._voices()


def _embeddings(path):
    from alpha_sv.exchange.importing import import_embeddings

    shutil.rmtree("imported", ignore_errors=True)
    store = import_embeddings(path if path.suffix != ".txt" else path.with_name("vectors.npy"), "imported",
                              path.with_name("ids.txt"))  # fmt: skip
    check(np.isfinite(store.matrix).all() and all(store.ids))


def _recipe(path):
    from alpha_sv.sb.recipe_yaml import load_recipe

    load_recipe(path)


def _run_folder(path):
    from alpha_sv.sb.run_folder import RunFolder, read_run

    folder = path.parent if path.parent.name != "save" else path.parent.parent
    read_run(folder)
    RunFolder(folder).refuse_other_data("a", "b")


def _checkpoint(path):
    import torch

    from alpha_sv.sb.checkpointer import SafeCheckpointer, load_weights

    SafeCheckpointer(path.parent.parent).list_checkpoints()
    if path.name == "head.ckpt":
        load_weights(torch.nn.Linear(2, 2), path)


def _list(path):
    from alpha_sv.verify.embed_files import list_files

    check(all(list_files([path]).values()))


def _stamp(path):
    from alpha_sv.files import is_fresh

    check(not is_fresh(path, "another key"))


def _journal(path):
    from alpha_sv.data.corpus.audit_journal import examine_files
    from alpha_sv.data.corpus.tree import find_files

    examine_files(find_files(["wav"])[:2], path, 16000, 0.3, progress=False, workers=1)


def _torch_file(path):
    from alpha_sv.exchange.importing import import_model

    shutil.rmtree("imported", ignore_errors=True)
    import_model(path, "imported", features="kaldi", n_mels=40)


def _pretrained(path):
    from alpha_sv.exchange.speechbrain import read_pretrained

    read_pretrained(path.parent)


def _spec(path):
    from alpha_sv.embedding.onnx import read_spec

    read_spec(path.with_suffix(".onnx"))


def _made(name: str, make: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A sample that is not in the world, made in the sandbox."""

    def sample(box: Path) -> Path:
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        if not (box / name).exists():
            make(box / name)
        return box / name

    return sample


def _in_world(name: str) -> Callable[[Path], Path | None]:
    return lambda box: next(iter(sorted(box.glob(name))), None)


def _records(path: Path) -> None:
    from tests.fixtures.faces import insightface_records, write_records

    write_records(path.with_suffix(".rec"), insightface_records(2, 2))


def _audio_file(**options) -> Callable[[Path], None]:
    signal = 0.3 * np.sin(np.arange(8000) / 7)
    return lambda path: soundfile.write(path, signal, 16000, **options)


def _training_run(path: Path) -> None:
    """The folder of a run, as far as its readers look."""
    import torch

    from alpha_sv.sb.checkpointer import SafeCheckpointer

    folder = path.parents[1] if path.parent.name == "save" else path.parents[2] if "CKPT" in str(path) else path.parent
    recipe = "loss: !new:alpha_sv.losses.QMargin {alpha: 1.5, scale: auto}\nseed: 1\n"
    recipe += "margin_schedule: {final_margin: 0.2}\n"
    (folder / "save").mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(recipe)
    (folder / "labels.json").write_text('{"ann": 0, "bob": 1, "ann#0.9": 2}')
    (folder / "save/run.json").write_text('{"manifest": "a", "development trials": "b", "run options": {}}')
    made = SafeCheckpointer(folder / "save", {"head": torch.nn.Linear(2, 2)}).save_checkpoint(name="run")
    assert path.exists(), (path, made)


_RUN = "fuzzed_run"
READERS: dict[str, tuple[Callable, Callable, float]] = {
    "trials, with a header": (_in_world("trials.txt"), _trials, 0.5),
    "trials, VoxCeleb": (_in_world("speech_trials.txt"), _trials, 1.0),
    "trials, Kaldi": (_made("k.txt", lambda p: p.write_text("a b target\nc d nontarget\n" * 3)), _trials, 1.5),
    "scores": (_in_world("scores.txt"), _scores, 0.5),
    "scores, VoxSRC": (_made("v.txt", lambda p: p.write_text("0.5 a b\n-0.2 c d\n" * 3)), _scores, 1.5),
    "manifest": (_in_world("manifest.csv"), _manifest, 1.0),
    "published split": (_in_world("prepared/split.txt.gz"), _split, 1.0),
    "utt2spk": (_made("utt2spk", lambda p: p.write_text("u1 s1\nu2 s1\nu3 s2\nu4 s3\n" * 2)), _speakers, 1.5),
    "spk2utt": (_made("spk2utt", lambda p: p.write_text("m1 a b\nm2 c d\nm3 e\n")), _models, 1.5),
    "calibrator": (_in_world("calibrator.json"), _calibrator, 1.5),
    "metrics.json": (_in_world("metrics.json"), _metrics, 1.0),
    "training log": (_made("log.jsonl", lambda p: p.write_text(_LOG)), _log, 1.5),
    "note of sources": (_in_world("scores.txt.sources.json"), _note, 1.0),
    "store: embeddings.npy": (_in_world("emb/embeddings.npy"), _store, 0.5),
    "store: index.csv": (_in_world("emb/index.csv"), _store, 0.5),
    "store: meta.json": (_in_world("emb/meta.json"), _store, 0.5),
    "model: config.json": (_in_world("model/config.json"), _model, 0.4),
    "model: safetensors": (_in_world("model/embedder.safetensors"), _model, 0.4),
    "SpeechBrain folder: hyperparams.yaml": (_in_world("sb_model/hyperparams.yaml"), _pretrained, 0.4),
    "SpeechBrain folder: weights": (_in_world("sb_model/embedding_model.ckpt"), _pretrained, 0.3),
    "checkpoint of 3D-Speaker": (_in_world("backbone.pt"), _torch_file, 0.3),
    "wav": (_made("x.wav", _audio_file()), _audio, 1.5),
    "wav, GSM": (_made("g.wav", _audio_file(subtype="GSM610")), _audio, 0.7),
    "flac": (_made("x.flac", _audio_file()), _audio, 0.7),
    "ogg": (_made("x.ogg", _audio_file()), _audio, 0.5),
    "mp3": (_made("x.mp3", _audio_file()), _audio, 0.5),
    "image": (_in_world("faces/p0/0.png"), _image, 1.0),
    "faces .bin": (_in_world("pairs.bin"), _faces, 0.7),
    "faces .rec": (_made("t.rec", _records), _faces, 1.0),
    "faces .idx": (_made("t.idx", _records), _faces, 1.0),
    "IJB points": (_in_world("IJBX/meta/*5pts_score.txt"), _protocol, 0.7),
    "IJB templates": (_in_world("IJBX/meta/*tid_mid.txt"), _protocol, 0.7),
    "IJB pairs": (_in_world("IJBX/meta/*pair_label.txt"), _protocol, 0.7),
    "gallery": (_in_world("people.sqlite"), _gallery, 0.7),
    "Kaldi ark": (_in_world("vectors.ark"), _embeddings, 0.7),
    "embeddings .npy": (_in_world("vectors.npy"), _embeddings, 0.7),
    "ids of embeddings": (_in_world("ids.txt"), _embeddings, 0.7),
    "wav.scp": (_made("wav.scp", lambda p: p.write_text("a wav/spk0/s0/00.wav\nb wav/spk0/s1/01.wav\n")), _list, 1.5),
    "recipe": (_made("recipe.yaml", lambda p: p.write_text(_RECIPE)), _recipe, 1.5),
    "run: hyperparams.yaml": (_made(f"{_RUN}/hyperparams.yaml", _training_run), _run_folder, 0.7),
    "run: labels.json": (_made(f"{_RUN}/labels.json", _training_run), _run_folder, 0.7),
    "run: run.json": (_made(f"{_RUN}/save/run.json", _training_run), _run_folder, 0.7),
    "checkpoint: CKPT.yaml": (_made(f"{_RUN}/save/CKPT+run/CKPT.yaml", _training_run), _checkpoint, 0.7),
    "checkpoint: weights": (_made(f"{_RUN}/save/CKPT+run/head.ckpt", _training_run), _checkpoint, 0.7),
    "prepare.json": (_in_world("prepared/prepare.json"), _stamp, 1.0),
    "audit.journal": (_in_world("prepared/audit.journal"), _journal, 0.5),
    "network in ONNX: .json": (_made("n.json", lambda p: p.write_text('{"input": "features"}')), _spec, 0.5),
}  # fmt: skip
_LOG = "".join(
    json.dumps({"kind": "train", "step": i, "epoch": i / 2, "loss": 3.2, "lr": 0.1, "alpha": 1.5, "margin": 0.1}) + "\n"
    for i in range(1, 5)
) + json.dumps({"kind": "valid", "step": 4, "epoch": 2, "eer": 0.1, "min_dcf": 0.5, "train_loss": 3.0})
_RECIPE = """seed: 1
a: !ref <seed> * 2
loss: !new:alpha_sv.losses.QMargin {alpha: 1.5, scale: 10.0}
list: [1, (2, 3), !ref x/<a>]
schedule: !new:alpha_sv.schedule.MarginSchedule
    initial_margin: 0.0
    final_margin: 0.2
    increase_start_epoch: !ref <seed> * 5 / 30
    fix_start_epoch: 12
"""
