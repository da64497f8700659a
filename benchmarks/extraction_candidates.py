"""The candidates of extraction.py: each loads a network in
a process of its own and embeds lists of files from disk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE, BATCH = 16000, 16


def child(network: str, candidate: str, work: Path, clock: Callable[[], float]) -> None:
    """A candidate: lines with the name of a list → JSON lines."""
    from hardware import peak_mb

    answers, sys.stdout = sys.stdout, sys.stderr  # of whatever the packages print
    lists, (embed, features) = json.loads((work / "lists.json").read_text()), load(network, candidate, work)
    print("loaded", file=answers, flush=True)
    share, kept = 0.0, {}
    for line in sys.stdin:
        how, _, what = line.strip().rpartition(" ")
        files, start = lists[what], clock()
        if how == "alone":
            kept[what] = [embed([file])[0] for file in files]
        elif how != "show":
            kept[what] = embed(files)
        taken = clock() - start
        if features and what == "sentences" and not how:
            share = features(files, clock)
        answer = {"seconds": taken, "peak": peak_mb(), "features": share}
        if how:
            answer["embeddings"] = np.asarray(kept[what], dtype=float).tolist()
        print(json.dumps(answer), file=answers, flush=True)


def load(network: str, candidate: str, work: Path) -> tuple[Callable, Callable | None]:
    """A function that embeds files, and one that says
    how long the features alone take (ours in torch)."""
    folder = work / network
    if candidate.startswith("ours"):
        from alpha_sv.verify.model import load_model

        name = {"ours, torch": "model", "ours, int8": "onnx/features.int8.onnx"}.get(candidate, "onnx/features.onnx")
        model = load_model(folder / name)
        return lambda files: model.embed(files, batch_size=BATCH), features_of(model) if "torch" in candidate else None
    if candidate == "onnxruntime loop":
        return onnx_loop(folder, kaldi=network == "campplus"), None
    if candidate == "Resemblyzer":
        from resemblyzer import VoiceEncoder, preprocess_wav

        encoder = VoiceEncoder("cpu", verbose=False)
        return lambda files: [encoder.embed_utterance(preprocess_wav(file)) for file in files], None
    import torch
    from speechbrain.inference.speaker import SpeakerRecognition

    stock = SpeakerRecognition.from_hparams(source=str(folder / "speechbrain"), savedir=str(work / "fetched"))
    read = lambda file: torch.from_numpy(soundfile.read(file, dtype="float32")[0])  # noqa: E731
    size = 1 if candidate.endswith("one by one") else BATCH

    def encode(files: list[str]) -> np.ndarray:
        found = []
        for first in range(0, len(files), size):
            waves = [read(file) for file in files[first : first + size]]
            lengths = torch.tensor([len(wave) for wave in waves], dtype=torch.float32)
            padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
            found.append(stock.encode_batch(padded, lengths / lengths.max())[:, 0].numpy())
        return np.concatenate(found)

    return encode, None


def features_of(model) -> Callable:
    import torch

    def seconds(files: list[str], clock: Callable[[], float]) -> float:
        waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0])[None] for file in files]
        start = clock()
        with torch.inference_mode():
            for wave in waves:
                model.embedder.features(wave)
        return clock() - start

    return seconds


def onnx_loop(folder: Path, kaldi: bool) -> Callable:
    """What a user writes: read, features by kaldi-native-fbank
    where they are Kaldi's, run; one file after another."""
    import onnxruntime

    if kaldi:
        import kaldi_native_fbank as knf
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    name = "features.onnx" if kaldi else "model.onnx"
    session = onnxruntime.InferenceSession(folder / "onnx" / name, options, providers=["CPUExecutionProvider"])

    def one(file: str) -> np.ndarray:
        wave, _ = soundfile.read(file, dtype="float32")
        if not kaldi:
            return session.run(None, {"waveform": wave[None]})[0][0]
        settings = knf.FbankOptions()
        settings.frame_opts.dither, settings.frame_opts.samp_freq, settings.mel_opts.num_bins = 0, RATE, 80
        fbank = knf.OnlineFbank(settings)
        fbank.accept_waveform(RATE, wave.tolist())
        fbank.input_finished()
        features = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])
        return session.run(None, {"feats": (features - features.mean(axis=0))[None]})[0][0]

    return lambda files: [one(file) for file in files]


def prepare(work: Path, networks: list[str]) -> None:
    """Each network as a model folder, in ONNX and, where it can, in SpeechBrain's layout."""
    import torch

    from alpha_sv import export, load_model
    from alpha_sv.embedding import SpeakerEmbedder

    for network in sorted({"campplus", "ecapa"} & set(networks)):
        folder = work / network
        if (folder / "done").exists():
            continue
        torch.manual_seed(0)
        if network == "campplus":
            embedder = load_model("campplus").embedder
        else:
            embedder = SpeakerEmbedder("ecapa_tdnn", 192, channels=[1024, 1024, 1024, 1024, 3072])
            with torch.no_grad():
                for _ in range(3):
                    embedder(0.1 * torch.randn(8, RATE))  # batch statistics as of something heard
            export(embedder.eval(), folder / "speechbrain", to="speechbrain")
        embedder.save(folder / "model")
        export(embedder, folder / "onnx", to="onnx", int8=True)
        (folder / "done").touch()
