"""The verbs that are disturbed: what each reads lies in
a small world, and each may be run in a copy of it."""

from __future__ import annotations

import os
import pickle
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpha_sv.cli import main
from tests.fixtures.small_evaluation import make_evaluation
from tests.fixtures.speech_tree import make_tree
from tests.torture.stand_ins import SPEAKERS, corpus_alone, small_demo, small_published_model, visitor

_EXTRACT = "extract model manifest.csv --batch-size 2 -o"
_TRAIN = (
    "train ecapa --data_folder=wav --trials=speech_trials.txt --noise_folder=noise --rir_folder=rir "
    "--num_valid_speakers=2 --channels=[16,16,16,16,48] --embedding_dim=8 --n_mels=24 --chunk_seconds=0.4 "
    "--number_of_epochs=2 --batch_size=4 --num_workers=0 --log_interval=1 --ckpt_interval_steps=2 "
    "--ckpt_interval_minutes=0 --device=cpu --audit=headers --seed=7"
)
_FACES = (
    "train small_folder --data_folder=faces --image_size=32 --embedder='{channels: [4, 4, 8, 8]}' --embedding_dim=8 "
    "--num_valid_identities=2 --number_of_epochs=1 --batch_size=4 --log_interval=1 --device=cpu"
)
# the export of more of them takes 10 to 20 s
_ONE_BLOCK = {"channels": [16, 16, 48], "kernel_sizes": [5, 3, 1], "dilations": [1, 2, 1], "groups": [1, 1, 1]}
_ONE_BLOCK |= {"res2net_scale": 2, "attention_channels": 8, "se_channels": 8}


@dataclass(frozen=True)
class Case:
    """A command of one verb.

    Parameters
    ----------
    name : str
        The verb, with a word where there are several cases of it.
    command : str
        What is typed after alpha-sv.
    statuses : tuple of int
        With which it ends when nothing disturbs it.
    again : tuple of int
        With which the same command may end when it has done its work already:
        a folder that is there is refused.
    light : bool
        It needs neither torch nor the heavy world.
    other : str
        Another command that writes into the same place, for two processes.
    prepare : callable, optional
        Called in the process before the command.
    """

    name: str
    command: str
    statuses: tuple[int, ...] = (0,)
    again: tuple[int, ...] = (0,)
    light: bool = False
    other: str = ""
    prepare: Callable[[], None] | None = None

    @property
    def argv(self) -> list[str]:
        return shlex.split(self.command)


NEW = (0, 2)  # the output is there already, which is refused with a word
CASES = {
    case.name: case
    for case in (
        Case("score", "score emb trials.txt -o new/scores.txt", light=True,
             other="score emb dev_trials.txt -o new/scores.txt"),
        Case("score --norm", "score emb trials.txt --norm as-norm --cache new/cache -o new/scores.txt", light=True),
        Case("normalize", "normalize scores.txt --embeddings emb --cache new/cache --top-n 10 -o new/normed.txt",
             light=True, other="normalize scores.txt --embeddings emb --method z-norm -o new/normed.txt"),
        Case("calibrate", "calibrate dev_scores.txt -o new/calibrator.json", light=True,
             other="calibrate scores.txt -o new/calibrator.json"),
        Case("calibrate --calibrator", "calibrate scores.txt --calibrator calibrator.json -o new/llrs.txt", light=True),
        Case("evaluate", "evaluate scores.txt normed.txt --replicates 50 -o new/metrics.json", light=True,
             other="evaluate normed.txt --replicates 50 -o new/metrics.json"),
        Case("compare", "compare scores.txt normed.txt --replicates 50 -o new/compare.json", light=True),
        Case("report", "report metrics.json -o new/report.html", light=True,
             other="report metrics.json --title Other -o new/report.html"),
        Case("report .md", "report metrics.json -o new/report.md", light=True),
        Case("recipes", "recipes copy SpeakerTree new", again=NEW),
        Case("prepare", "prepare wav --trials speech_trials.txt --num-valid-speakers 2 -o new",
             other="prepare wav --trials speech_trials.txt --num-valid-speakers 3 --seed 2 -o new"),
        Case("prepare --resample", "prepare wav --num-valid-speakers 2 --sample-rate 8000 --resample -o new"),
        Case("train", f"{_TRAIN} --output_folder=new",
             other=f"{_TRAIN.replace('seed=7', 'seed=8')} --output_folder=new"),
        Case("train faces", f"{_FACES} --output_folder=new"),
        Case("extract", f"{_EXTRACT} new", other="extract other_model manifest.csv --batch-size 2 -o new"),
        Case("embed", "embed wav --model model --batch-size 4 -o new", other="embed wav --model other_model -o new"),
        Case("import model", "import sb_model -o new", again=NEW),
        Case("import embeddings", "import vectors.npy --ids ids.txt -o new", again=NEW),
        Case("import ark", "import vectors.ark -o new", again=NEW),
        Case("export speechbrain", "export ecapa --to speechbrain -o new", again=NEW),
        Case("export onnx", "export one_block --to onnx -o new", again=NEW),
        Case("export huggingface", "export model --to huggingface -o new", again=NEW),
        Case("models get", "models get campplus --from backbone.pt", prepare=small_published_model),
        Case("enrol new", "enrol new.sqlite Ann wav/spk0/s0/00.wav wav/spk0/s1/01.wav --model model --allow-poor",
             other="enrol new.sqlite Bob wav/spk1/s0/00.wav --model model --allow-poor"),
        Case("enrol", "enrol people.sqlite Dan wav/spk3/s0/00.wav --model model --allow-poor",
             other="enrol people.sqlite Eve wav/spk4/s0/00.wav --model model --allow-poor"),
        Case("gallery remove", "gallery people.sqlite remove Bob", again=NEW, other="gallery people.sqlite remove Ann"),
        Case("gallery reembed", "gallery people.sqlite reembed --model other_model"),
        Case("gallery check", "gallery people.sqlite check --threshold 0.5"),
        Case("gallery export", "gallery people.sqlite export"),
        Case("verify", "verify wav/spk0/s0/00.wav wav/spk0/s1/01.wav --model model --threshold 0.1 --allow-poor",
             statuses=(0, 1)),
        Case("identify", "identify people.sqlite wav/spk0/s0/02.wav --threshold 0.1 --allow-poor", statuses=(0, 1)),
        Case("serve", "serve people.sqlite --port 0", prepare=visitor,
             other="enrol people.sqlite Eve wav/spk4/s0/00.wav --model model --allow-poor"),
        Case("demo corpus", "demo --output new/demo", prepare=corpus_alone,
             other="demo --loss a3m --output new/demo_a3m"),
        Case("demo", "demo --output demo/first", prepare=small_demo, other="demo --loss a3m --output demo/first"),
        Case("face pairs", "face pairs face_model pairs.bin -o new/faces.txt"),
        Case("face convert", "face convert backbone_faces.pth -o new"),
        Case("face templates", "face templates face_model_112 IJBX --replicates 0 -o new"),
        Case("face tar", "face tar scores.txt --replicates 50", light=True),
    )
}  # fmt: skip


def make_world(folder: Path, light: bool = False) -> Path:
    """Everything that the cases read; deterministic, and whole or absent."""
    if (folder / "whole").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_evaluation(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        _run("score emb trials.txt -o scores.txt", "score emb dev_trials.txt -o dev_scores.txt")
        _run("normalize scores.txt --embeddings emb --top-n 10 -o normed.txt")
        _run("calibrate dev_scores.txt -o calibrator.json")
        _run("evaluate scores.txt normed.txt --replicates 50 -o metrics.json")
        if not light:
            _heavy(folder)
    finally:
        os.chdir(before)
    (folder / "whole").touch()
    return folder


def _run(*commands: str) -> None:
    for command in commands:
        assert main(command.split()) == 0, command


def _heavy(folder: Path) -> None:
    import torch

    from alpha_sv.demo.corpus import build_corpus
    from alpha_sv.embedding import SpeakerEmbedder
    from alpha_sv.face.embedder import FaceEmbedder
    from alpha_sv.face.iresnet import IResNet
    from tests.fixtures.faces import encoded, face, make_folder, make_ijb
    from tests.fixtures.models import small_embedder

    evaluation = (folder / "trials.txt").read_bytes()
    make_tree(folder, speakers=8, utterances=4, seconds=(0.5, 0.6))
    (folder / "trials.txt").rename(folder / "speech_trials.txt")
    (folder / "trials.txt").write_bytes(evaluation)
    small_embedder().save(folder / "model")
    small_embedder(embedding_dim=20).save(folder / "other_model")
    torch.save(SpeakerEmbedder.load(folder / "model").backbone.state_dict(), folder / "backbone.pt")
    _run("prepare wav --trials speech_trials.txt --num-valid-speakers 2 -o prepared")
    (folder / "manifest.csv").write_bytes((folder / "prepared" / "manifest.csv").read_bytes())
    small_embedder("ecapa_tdnn").save(folder / "ecapa")
    small_embedder("ecapa_tdnn", **_ONE_BLOCK).save(folder / "one_block")
    _run("export ecapa --to speechbrain -o sb_model")
    vectors = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    names = [f"s{i // 2}/{i}.wav" for i in range(6)]
    (folder / "ids.txt").write_text("\n".join(names) + "\n")
    import kaldiio

    kaldiio.save_ark(str(folder / "vectors.ark"), dict(zip(names, vectors, strict=True)))
    for name, speaker in (("Ann", 0), ("Bob", 1), ("Cid", 2)):
        files = [f"wav/spk{speaker}/s{take % 2}/{take:02d}.wav" for take in (0, 1)]
        _run(f"enrol people.sqlite {name} {' '.join(files)} --model model --allow-poor")
    build_corpus(folder / "demo/demo_corpus", **SPEAKERS, workers=1, progress=False)
    make_folder(folder / "faces", people=5, images=4)
    make_ijb(folder / "IJBX", people=4)
    torch.manual_seed(1)
    sizes = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 4], "embedding_dim": 8}
    for name, size in (("face_model", 32), ("face_model_112", 112)):
        FaceEmbedder(**sizes, image_size=size).save(folder / name)
    torch.save(IResNet([1, 1, 1, 1], [4, 4, 4, 4], 8, 32).state_dict(), folder / "backbone_faces.pth")
    images = [encoded(face(p, n)) for p in range(6) for n in (0, 1)]
    (folder / "pairs.bin").write_bytes(pickle.dumps((images, [True] * 6)))
