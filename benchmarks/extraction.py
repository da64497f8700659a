"""Files → embeddings: how fast and in how much memory, ours and others', with the same network on the same files.

    python benchmarks/extraction.py DATA --work /tmp/extraction

Prints a Markdown section and its rows of targets. DATA/<corpus>/wav has the files: words of 1 s, sentences of 2 to 6 s,
and those sentences joined to recordings of a minute. Networks: the published CAM++, and ECAPA-TDNN of SpeechBrain's
published size with random weights. `--work` keeps the exported networks for the next call.

Every candidate is a process that has loaded its network. They take turns, each embedding one list of files from disk
while the others wait; a first turn does not count. Peaks are of the processes. The error is 1 − cosine to our torch
path, each file alone; of the batches of SpeechBrain, which pads them, it is also that of the padding. Resemblyzer has
a network of its own and is here for scale: it is no peer of the same network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

RATE, BATCH = 16000, 16
CANDIDATES = {  # network → name of the candidate → whether it is ours
    "campplus": {"ours, torch": True, "ours, onnxruntime": True, "ours, int8": True, "onnxruntime loop": False},
    "ecapa": {
        "ours, torch": True,
        "ours, onnxruntime": True,
        "ours, int8": True,
        "onnxruntime loop": False,
        "SpeechBrain, one by one": False,
        "SpeechBrain, batches": False,
    },
    "resemblyzer": {"Resemblyzer": False},
}
TITLES = {
    "campplus": "CAM++, 6.9 M parameters",
    "ecapa": "ECAPA-TDNN, 1024 channels, 14.7 M",
    "resemblyzer": "GE2E LSTM",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for networks and joined files")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--networks", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=96, help="words; half as many sentences, three long ones")
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "CANDIDATE"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(*a.child, a.work)
        return
    from common import table
    from hardware import describe

    prepare(a.work, a.networks)
    lists = file_lists(a.data, a.work, a.files)
    (a.work / "lists.json").write_text(json.dumps(lists))
    seconds = {name: sum(soundfile.info(file).duration for file in files) for name, files in lists.items()}
    print(f"## extraction: files to embeddings\n\n{describe()}\n")
    sizes = "; ".join(f"{name}: {len(lists[name])} files of {seconds[name]:.0f} s in all" for name in lists)
    print(f"Real-time factor · files a second. {sizes}. Peak in MB, error: the largest of all files.\n")
    targets = []
    for cores in a.cores:
        for network in a.networks:
            found = take_turns(network, a.work, cores, a.rounds, list(lists))
            head = [f"{TITLES[network]}, {cores} core{'s' * (cores > 1)}", *lists, "features", "peak", "error"]
            rows = []
            for name, one in found.items():
                times = {what: median(one["seconds"][what]) for what in lists}
                cells = [f"{t / seconds[what]:.4f} · {len(lists[what]) / t:.1f}" for what, t in times.items()]
                share = f"{100 * one['features'] / times['sentences']:.1f} %" if one["features"] else ""
                rows.append(
                    [name, *cells, share, f"{one['peak']:.0f}", "" if one["error"] is None else f"{one['error']:.0e}"]
                )
            print(table(head, rows) + "\n", flush=True)
            targets += compare(network, cores, found, lists)
    print(table(["what", "target", "measured", ""], [target.row() for target in targets]))


def compare(network: str, cores: int, found: dict, lists: dict) -> list:
    """Our best candidate of full precision over the fastest of the others', by list; and the features' share."""
    from common import Target

    ours = [name for name in found if name.startswith("ours") and "int8" not in name]
    others = [name for name in found if not name.startswith("ours")]
    if not ours:
        return []
    targets = []
    for what in lists:
        best, peer = (min((median(found[n]["seconds"][what]), n) for n in names) for names in (ours, others))
        limit = 1.0 if what == "long" else 1.5
        label = f"speed of {best[1]} / {peer[1]}, {TITLES[network]}, {what}, {cores} core{'s' * (cores > 1)}"
        targets.append(Target(label, limit, {"": peer[0] / best[0]}, at_most=False))
    share = 100 * found["ours, torch"]["features"] / median(found["ours, torch"]["seconds"]["sentences"])
    targets.append(
        Target(f"features' share of the time, {TITLES[network]}, {cores} core(s)", 10, {"": share}, unit="%")
    )
    return targets


def take_turns(network: str, work: Path, cores: int, rounds: int, lists: list[str]) -> dict:
    """What each candidate took for each list in each round, its peak, and the error of its embeddings."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores)}
    names = list(CANDIDATES[network])
    command = [sys.executable, __file__, "-", "--work", str(work), "--child", network]
    pin = ["taskset", "-c", f"0-{cores - 1}"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = {name: subprocess.Popen([*pin, *command, name], **pipe) for name in names}
    found = {name: {"seconds": {what: [] for what in lists}} for name in names}
    try:
        for process in processes.values():
            process.stdout.readline()  # loaded
        for turn in range(rounds + 1):
            for what in lists:
                for name, process in processes.items():
                    answer = ask(process, what)
                    if turn:
                        found[name]["seconds"][what].append(answer["seconds"])
                    found[name] |= {key: answer[key] for key in ("peak", "features")}
        truth = {
            what: ask(processes["ours, torch"], f"alone {what}")["embeddings"]
            for what in lists
            if "ours, torch" in found
        }
        for name, process in processes.items():
            differences = [1 - cosines(ask(process, f"show {what}")["embeddings"], truth[what]) for what in truth]
            found[name]["error"] = max(float(d.max()) for d in differences) if truth else None
    finally:
        for process in processes.values():
            process.kill()
    return found


def ask(process: subprocess.Popen, what: str) -> dict:
    print(what, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


def cosines(a: list, b: list) -> np.ndarray:
    a, b = (np.array(x, dtype=np.float64) for x in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def child(network: str, candidate: str, work: Path) -> None:
    """A candidate: lines with the name of a list → JSON lines."""
    from hardware import peak_mb

    answers, sys.stdout = sys.stdout, sys.stderr  # of whatever the packages print
    lists, (embed, features) = json.loads((work / "lists.json").read_text()), load(network, candidate, work)
    print("loaded", file=answers, flush=True)
    share, kept = 0.0, {}
    for line in sys.stdin:
        how, _, what = line.strip().rpartition(" ")
        files, start = lists[what], time.perf_counter()
        if how == "alone":
            kept[what] = [embed([file])[0] for file in files]
        elif how != "show":
            kept[what] = embed(files)
        taken = time.perf_counter() - start
        if features and what == "sentences" and not how:
            share = features(files)
        answer = {"seconds": taken, "peak": peak_mb(), "features": share}
        if how:
            answer["embeddings"] = np.asarray(kept[what], dtype=float).tolist()
        print(json.dumps(answer), file=answers, flush=True)


def load(network: str, candidate: str, work: Path) -> tuple[Callable, Callable | None]:
    """A function that embeds files, and one that says how long the features alone take (ours in torch)."""
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

    def seconds(files: list[str]) -> float:
        waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0])[None] for file in files]
        start = time.perf_counter()
        with torch.inference_mode():
            for wave in waves:
                model.embedder.features(wave)
        return time.perf_counter() - start

    return seconds


def onnx_loop(folder: Path, kaldi: bool) -> Callable:
    """What a user writes: read, features by kaldi-native-fbank where they are Kaldi's, run; one file after another."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    name = "features.onnx" if kaldi else "model.onnx"
    session = onnxruntime.InferenceSession(folder / "onnx" / name, options, providers=["CPUExecutionProvider"])

    def one(file: str) -> np.ndarray:
        wave, _ = soundfile.read(file, dtype="float32")
        if not kaldi:
            return session.run(None, {"waveform": wave[None]})[0][0]
        import kaldi_native_fbank as knf

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


def file_lists(data: Path, work: Path, count: int) -> dict[str, list[str]]:
    """Words, sentences, and sentences joined to a minute each."""
    draw = np.random.default_rng(0)
    found = {}
    for name, corpus, number in (("words", "speech_commands", count), ("sentences", "speechocean762", count // 2)):
        files = sorted(str(path) for path in (data / corpus / "wav").rglob("*") if path.is_file())
        found[name] = [files[i] for i in draw.choice(len(files), number, replace=False)]
    (work / "long").mkdir(parents=True, exist_ok=True)
    joined = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in found["sentences"]])
    found["long"] = [str(work / "long" / f"{i}.wav") for i in range(3)]
    for i, file in enumerate(found["long"]):
        soundfile.write(file, np.roll(joined, i * 20 * RATE)[: 60 * RATE], RATE)
    return found


if __name__ == "__main__":
    main()
