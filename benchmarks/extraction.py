"""Files → embeddings: how fast and in how much memory,
ours and others', with the same network on the same files.

    python benchmarks/extraction.py DATA --work /tmp/extraction

Prints a Markdown section and its rows of targets. DATA/<corpus>/wav has the files: words of 1 s,
sentences of 2 to 6 s, and those sentences joined to recordings of a minute. Networks: the published
CAM++, and ECAPA-TDNN of SpeechBrain's published size with random weights. `--work` keeps the
exported networks for the next call.

Every candidate is a process that has loaded its network. They take turns, each embedding one list
of files from disk while the others wait; a first turn does not count. Where the machine has other
work, `--processor` counts the seconds of the processor, which is the same on one core that is free.
Peaks are of the processes. The error is 1 − cosine to our torch path, each file alone; of the
batches of SpeechBrain, which pads them, it is also that of the padding. Resemblyzer has a network
of its own and is here for scale: it is no peer of the same network. Its package, with librosa and
webrtcvad-wheels, may be in an environment of its own, whose Python `--resemblyzer` names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
from extraction_candidates import RATE, child, prepare

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
    parser.add_argument("--files", type=int, default=96, help="words; half as many sentences, a minute for 32")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor, on one core only")
    parser.add_argument("--resemblyzer", default=sys.executable, help="a Python that has it")
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "CANDIDATE"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(*a.child, a.work, time.process_time if a.processor else time.perf_counter)
        return
    if a.processor and a.cores != [1]:
        parser.error("--processor is for --cores 1: the seconds of two cores overlap")
    from common import table
    from hardware import describe

    prepare(a.work, a.networks)
    lists = file_lists(a.data, a.work, a.files)
    (a.work / "lists.json").write_text(json.dumps(lists))
    seconds = {name: sum(soundfile.info(file).duration for file in files) for name, files in lists.items()}
    print(f"## extraction: files to embeddings\n\n{describe()}\n")
    sizes = "; ".join(f"{name}: {len(lists[name])} files of {seconds[name]:.0f} s in all" for name in lists)
    clock = "seconds of the processor" if a.processor else "time"
    print(f"Real-time factor · files a second, by {clock}. {sizes}. Peak in MB, error: the largest of all files.\n")
    targets = []
    for cores in a.cores:
        for network in a.networks:
            python = a.resemblyzer if network == "resemblyzer" else sys.executable
            command = [python, __file__, "-", "--work", str(a.work), *["--processor"] * a.processor]
            found = take_turns(network, command, cores, a.rounds, list(lists))
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
    """Our best candidate of full precision over the fastest
    of the others', by list; and the features' share."""
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


def take_turns(network: str, command: list[str], cores: int, rounds: int, lists: list[str]) -> dict:
    """What each candidate took for each list in each round,
    its peak, and the error of its embeddings."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores)}
    names = list(CANDIDATES[network])
    pin = ["taskset", "-c", f"0-{cores - 1}"]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = {name: subprocess.Popen([*pin, *command, "--child", network, name], **pipe) for name in names}
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


def file_lists(data: Path, work: Path, count: int) -> dict[str, list[str]]:
    """Words, sentences, and for every 32 words a minute of sentences."""
    draw = np.random.default_rng(0)
    found = {}
    for name, corpus, number in (("words", "speech_commands", count), ("sentences", "speechocean762", count // 2)):
        files = sorted(str(path) for path in (data / corpus / "wav").rglob("*") if path.is_file())
        found[name] = [files[i] for i in draw.choice(len(files), number, replace=False)]
    (work / "long").mkdir(parents=True, exist_ok=True)
    joined = np.concatenate([soundfile.read(file, dtype="float32")[0] for file in found["sentences"]])
    found["long"] = [str(work / "long" / f"{i}.wav") for i in range(max(count // 32, 1))]
    for i, file in enumerate(found["long"]):
        soundfile.write(file, np.roll(joined, i * 20 * RATE)[: 60 * RATE], RATE)
    return found


if __name__ == "__main__":
    main()
