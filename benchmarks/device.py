"""All that a GPU has to answer, in one command of less than nine minutes:
a JSON file and a Markdown page.

    python benchmarks/device.py                        on the first GPU
    python benchmarks/device.py --device cpu --quick   only shows that it runs

The tests of the rooms that compute on tensors, the losses and the heads beside dense ones,
whole training steps of the three VoxCeleb networks in float32 and bfloat16, and whether results
repeat. Each part runs in a process of its own and is kept in the output folder as soon as it is
done: the same command goes on after an interruption, and begins anew where the code, the
machine or the size is another.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import head_memory
import solver_speed
import throughput
import torch
import torch.nn.functional as F
from common import KINDS, Cell, Times, interleave, relative_error, table, world
from hardware import describe

from alpha_sv.device import pick_device
from alpha_sv.files import atomic_write
from alpha_sv.functional.fenchel_young import margin_loss
from alpha_sv.heads import CosineHead, PrototypeSGD, SparseHead
from alpha_sv.losses import A3M, QMargin

ROOT = Path(__file__).parents[1]
ROOMS = ("tests/functional", "tests/test_losses.py", "tests/heads", "tests/embedding")
PRECISIONS = ("fp32", "bf16")
SECONDS = 530  # of all parts together


@dataclasses.dataclass(frozen=True)
class Size:
    classes: tuple[int, ...]
    batch: int
    seconds: float  # of one comparison
    rooms: tuple[str, ...]
    networks: throughput.Size


FULL = Size((5_994, 100_000, 1_000_000), 128, 3.0, ROOMS, dataclasses.replace(throughput.FULL, batch=128, steps=10))
QUICK = Size((600,), 8, 0.0, ("tests/functional/test_checks.py",), throughput.QUICK)


def tests(device: str, size: Size) -> dict:
    """The tests of the rooms, those on this device only."""
    kind = device.partition(":")[0]
    command = [sys.executable, "-m", "pytest", "-q", *size.rooms, "-k", kind, "-p", "no:cacheprovider", "--tb=line"]
    if size is FULL:
        command += ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "load"]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    failed = re.findall(r"^(?:FAILED|ERROR) .*", done.stdout, re.MULTILINE)
    return {"summary": done.stdout.strip().rpartition("\n")[2].strip("= "), "failed": failed, "status": done.returncode}


def solver(device: str, size: Size) -> dict:
    """Median ms of the losses on given cosines, forward and backward, and the worst error."""
    found = {}
    for kind in KINDS:
        for classes in size.classes:
            embeddings, weight, labels = (x.to(device) for x in world(Cell(classes, size.batch, kind=kind)))
            given, losses = (embeddings @ F.normalize(weight).T, labels), solver_speed.losses()
            times = timed(
                {n: lambda one=one, x=given: solver_speed.value_and_gradient(one, *x) for n, one in losses.items()},
                size.seconds,
            )
            few = [x[: max(1, 1_000_000 // classes)] for x in given]
            for name, one in losses.items():
                truth = solver_speed.value_and_gradient(solver_speed.plain(one.same_as), few[0].double(), few[1])
                largest = one.same_as.scale / len(few[1])
                error = relative_error(solver_speed.value_and_gradient(one, *few), truth, (1.0, largest))
                found[f"{name}, {kind}, C = {classes:,}"] = {"ms": 1e3 * times[name].median, "error": error}
    return found


def heads(device: str, size: Size) -> dict:
    """Median ms from embeddings to gradients,
    MB beyond the prototypes, and the error of value and gradients."""
    found = {}
    for classes in size.classes:
        there = [x.to(device) for x in world(Cell(classes, size.batch))]
        times, errors = timed(head_memory.runs(*there), size.seconds), head_memory.errors(*there)
        for name, time_of in times.items():
            row = {"ms": 1e3 * time_of.median, "error": errors.get(name)}
            found[f"{name}, C = {classes:,}"] = row | {"MB": _peak(head_memory.runs(*there)[name], device)}
    return found


def train(device: str, size: Size, network: str, precision: str) -> dict:
    """A whole training step of a network of the recipes."""
    how = dataclasses.replace(size.networks, device=device, precision=precision)
    return dataclasses.asdict(throughput.measure(network, how))


def repeats(device: str, size: Size) -> dict:
    """Twice the same, under `torch.use_deterministic_algorithms`;
    alone and in a batch; float32 and float64."""
    torch.use_deterministic_algorithms(True)
    classes, found = size.classes[min(1, len(size.classes) - 1)], {}
    embeddings, weight, labels = (x.to(device) for x in world(Cell(classes, size.batch)))
    for head in (CosineHead, SparseHead):
        for loss in (QMargin(1.5), A3M(1.25)):
            ways = []
            for _ in range(2):
                made = head_memory.head(head, weight.clone(), loss)
                value, gradient, _ = head_memory.forward_backward(made, embeddings, labels)
                PrototypeSGD([made.weight], lr=0.1).step()
                ways.append((value, gradient, made.weight.detach()))
            off = max(float((a - b).abs().max()) for a, b in zip(*ways, strict=True))
            found[f"{head.__name__}, {loss}: the same step twice"] = {"difference": off, "at most": 0.0}
    cosines, how = embeddings @ F.normalize(weight).T, {"alpha": 1.5, "scale": 10.0, "margin": 0.2}
    values = margin_loss(cosines, labels, **how, place="reference")
    exact = margin_loss(cosines.double(), labels, **how, place="reference", implementation="plain")
    off = float(((values - exact).abs() / (1 + exact)).max())
    found["loss in float32 against float64"] = {"difference": off, "at most": 1e-5}
    alone = torch.cat([margin_loss(cosines[[n]], labels[[n]], **how, place="reference") for n in range(4)])
    off = float((alone - values[:4]).abs().max())
    found["loss of a sample alone and in its batch"] = {"difference": off, "at most": 1e-6}
    embedder = _embedder(size).to(device).eval()
    waves = 0.1 * torch.randn(8, 32_000, device=device)
    with torch.no_grad():
        together, alone = embedder(waves), torch.cat([embedder(wave[None]) for wave in waves])
    off = 1 - float(torch.cosine_similarity(together.double(), alone.double()).min())
    found["1 - cosine of an embedding alone and in its batch"] = {"difference": off, "at most": 1e-9}
    return found


def _embedder(size: Size):
    from alpha_sv.embedding import SpeakerEmbedder

    width = 512 if size is FULL else 16
    return SpeakerEmbedder("ecapa_tdnn", 192, channels=[width] * 4 + [3 * width])


def timed(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Times]:
    """`interleave`, each candidate until the device is done with it."""

    def whole(run: Callable[[], object]) -> None:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return interleave({name: lambda run=run: whole(run) for name, run in runs.items()}, seconds)


def _peak(run: Callable[[], object], device: str) -> float | None:
    if not device.startswith("cuda"):
        return None  # `head_memory.py` has it for the CPU
    run()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def parts(size: Size) -> dict[str, Callable[[str, Size], dict]]:
    """In the order in which they are done."""
    found = {"tests": tests, "repeats": repeats, "solver": solver, "heads": heads}
    for network in size.networks.models:
        for precision in PRECISIONS:
            found[f"{network} {precision}"] = functools.partial(train, network=network, precision=precision)
    return found


def page(found: Mapping, size: Size) -> str:
    """What was found as Markdown; a part that is missing is named."""
    sections, done = [f"# On {found['device']}", found["machine"]], found["parts"]
    if missing := [name for name in parts(size) if name not in done]:
        sections.append(f"Not done, the same command goes on: {', '.join(missing)}.")
    if "tests" in done:
        sections += ["## Tests", done["tests"]["summary"] + ".", "\n".join(done["tests"]["failed"])]
    if "repeats" in done:
        rows = [
            [
                what,
                f"{row['difference']:.1e}",
                f"{row['at most']:g}",
                ("**no**", "yes")[row["difference"] <= row["at most"]],
            ]
            for what, row in done["repeats"].items()
        ]
        sections += ["## Does it repeat", table(["", "difference", "at most", "holds"], rows)]
    for name in ("solver", "heads"):
        if name in done:
            rows = [
                [
                    what,
                    f"{row['ms']:.3f}",
                    *(["" if row["MB"] is None else f"{row['MB']:,.0f}"] if "MB" in row else []),
                    "" if row["error"] is None else f"{row['error']:.0e}",
                ]
                for what, row in done[name].items()
            ]
            head = ["", "median ms", *(["MB"] if name == "heads" else []), "error"]
            sections += [f"## {name}, forward and backward of {size.batch}", table(head, rows)]
    for precision in PRECISIONS:
        trained = {
            n: throughput.Measured(**done[f"{n} {precision}"])
            for n in size.networks.models
            if f"{n} {precision}" in done
        }
        if trained:
            how = dataclasses.replace(size.networks, device=found["device"], precision=precision)
            sections.append(throughput.section(trained, how))
    return "\n\n".join(section for section in sections if section) + "\n"


def fingerprint(device: str, size: Size) -> str:
    """Of the code, the machine and the size: results of another one are not taken over."""
    digest = hashlib.sha256(f"{describe()}{device}{size}".encode())
    for path in sorted([*(ROOT / "alpha_sv").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _save(folder: Path, found: Mapping, size: Size) -> None:
    for name, text in (("device.json", json.dumps(found, indent=1)), ("device.md", page(found, size))):
        with atomic_write(folder / name) as file:
            file.write(text)


def main(device: str, size: Size, folder: Path, seconds: float) -> int:
    """Do what is not yet done, as long as there is time; 1 if a part is missing or a test fails."""
    folder.mkdir(parents=True, exist_ok=True)
    path, found = folder / "device.json", {}
    key, end = fingerprint(device, size), time.monotonic() + seconds
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("fingerprint") != key:
        found = {"fingerprint": key, "device": device, "machine": describe(), "parts": {}}
    again = [sys.executable, __file__, "--device", device, *["--quick"] * (size is QUICK), "--part"]
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ}  # what cuBLAS needs to repeat itself
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    for name in parts(size):
        if name in found["parts"]:
            continue
        begun = time.monotonic()
        try:
            done = subprocess.run(
                [*again, name], env=environment, text=True, stdout=subprocess.PIPE, timeout=max(end - begun, 1)
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: no time left, run the same command again", file=sys.stderr)
            break
        if done.returncode:
            print(f"{name}: failed, see above", file=sys.stderr)
            continue
        found["parts"][name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        _save(folder, found, size)
    _save(folder, found, size)
    print(page(found, size))
    return int(len(found["parts"]) < len(parts(size)) or found["parts"]["tests"]["status"] != 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "device")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to stop; what is done is kept")
    parser.add_argument("--part", choices=parts(FULL), help=argparse.SUPPRESS)
    a = parser.parse_args()
    size = QUICK if a.quick else FULL
    if a.part:
        print(json.dumps(parts(size)[a.part](pick_device(a.device), size)))
    else:
        sys.exit(main(pick_device(a.device), size, a.output, a.seconds))
