"""How many chunks a second each VoxCeleb network trains on,
and what a recipe then costs: prints a Markdown section.

    python benchmarks/throughput.py                                          on this machine's CPU
    python benchmarks/throughput.py --device cuda --precision bf16 --batch 256       on one GPU

Whole training steps of recipes/VoxCeleb/hparams/<model>_q_margin.yaml as it stands: features,
network, Q-Margin over all 17,982 classes (5,994 speakers at three speeds), backward, the
optimizer's step. Audio is there already; `loader.py` says what the reading can deliver.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from common import in_child, table
from hardware import describe, peak_mb

HPARAMS = Path(__file__).parents[1] / "recipes" / "VoxCeleb" / "hparams"
UTTERANCES, EPOCHS = 1_092_009, 150  # VoxCeleb2 dev; of the recipes
CLASSES = 5_994 * 3
_LARGE_MARGIN = 5 * 3 / EPOCHS  # five epochs, of chunks three times as long


@dataclass(frozen=True)
class Size:
    models: tuple[str, ...]
    batch: int
    seconds: float
    steps: int  # after one that does not count
    classes: int
    device: str = "cpu"
    precision: str = "fp32"
    overrides: str = ""


FULL = Size(("ecapa_c512", "ecapa_c1024", "resnet34"), batch=32, seconds=2.0, steps=3, classes=CLASSES)
_TINY = "{channels: [8, 8, 8, 8, 24], attention_channels: 8, se_channels: 8}"
QUICK = Size(("ecapa_c512",), 2, seconds=0.5, steps=1, classes=9, overrides=f"embedder: {_TINY}")


@dataclass(frozen=True)
class Measured:
    parameters: int
    seconds: float  # of a step, median
    peak: float  # MB, of the device
    error: float  # of the loss, relative to float64 on the same embeddings


def measure(model: str, size: Size) -> Measured:
    from hyperpyyaml import load_hyperpyyaml

    from alpha_sv.device import keep_memory
    from alpha_sv.heads import CosineHead
    from alpha_sv.sb.recipe_yaml import compose_recipe

    given = f"prepared: none\n{size.overrides}"
    hparams = load_hyperpyyaml(compose_recipe(HPARAMS / f"{model}_q_margin.yaml", given))
    if size.device == "cpu":
        keep_memory()  # as the recipes do
    embedder = hparams["embedder"].to(size.device).train()
    head = CosineHead(hparams["embedding_dim"], size.classes, loss=hparams["loss"]).to(size.device)
    optimizer = hparams["opt_class"]([*embedder.parameters(), *head.parameters()])
    chunks = 0.1 * torch.randn(size.batch, int(size.seconds * hparams["sample_rate"]), device=size.device)
    labels = torch.randint(size.classes, (size.batch,), device=size.device)
    taken = []
    for _ in range(size.steps + 1):
        begun = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(torch.device(size.device).type, torch.bfloat16, enabled=size.precision == "bf16"):
            loss = head(embedder(chunks), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # waits for a GPU
        taken.append(time.perf_counter() - begun)
    parameters = sum(parameter.numel() for parameter in embedder.parameters())
    peak = torch.cuda.max_memory_allocated() / 1e6 if chunks.is_cuda else peak_mb()
    with torch.no_grad():
        embeddings = embedder(chunks).float()
        error = abs(head(embeddings, labels).item() / head.double()(embeddings.double(), labels).item() - 1)
    return Measured(parameters, median(taken[1:]), peak, error)


Results = dict[str, Measured]


def measure_all(size: Size) -> Results:
    return {model: in_child(measure, model, size) for model in size.models}


def section(results: Results, size: Size) -> str:
    rows = []
    for model, found in results.items():
        rate = size.batch / found.seconds
        hours = EPOCHS * UTTERANCES / rate / 3600
        cells = (rate, found.peak, hours, hours * _LARGE_MARGIN)
        rows.append(
            [model, f"{found.parameters / 1e6:.2f} M", *(f"{cell:,.0f}" for cell in cells), f"{found.error:.0e}"]
        )
    device = torch.cuda.get_device_name() if torch.device(size.device).type == "cuda" else size.device
    return "\n\n".join([
        "## throughput: what training on VoxCeleb costs",
        f"Whole steps on {size.batch} chunks of {size.seconds:g} s, {size.precision}, on {device}; {size.classes:,} "
        f"classes. Hours of this device: {EPOCHS} epochs of {UTTERANCES:,} chunks, and 5 epochs of large-margin "
        "fine-tuning on chunks three times as long. Error: of the loss, relative to float64.",
        describe(),
        table(
            ["network", "parameters", "chunks/s", "peak, MB", f"hours, {EPOCHS} epochs", "large margin", "error"], rows
        ),
    ])  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=FULL.device)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=FULL.precision)
    parser.add_argument("--batch", type=int, default=FULL.batch)
    parser.add_argument("--quick", action="store_true", help="a size that only shows that it runs")
    a = parser.parse_args()
    size = QUICK if a.quick else Size(**{**vars(FULL), "device": a.device, "precision": a.precision, "batch": a.batch})
    print(section(measure_all(size), size))
