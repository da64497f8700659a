"""Chunks a second of whole training steps:
ours, SpeechBrain's VoxCeleb recipe, the bare network; prints Markdown.

    python benchmarks/training.py --data /corpora

/corpora holds <corpus>/wav, noise/wav and rir/wav. Each contender trains in a process of its own
with one thread and no workers, so that all of its work is counted, and takes one step when it is
its turn. On a machine with other things to do the seconds of the processor are the ones to believe.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from common import Target, table
from hardware import describe
from training_theirs import SpeechBrainRecipe, classifier, loss_of, speechbrain_data
from turns import Step, Turns, in_turns

from alpha_sv.device import keep_memory

RECIPE = Path(__file__).parents[1] / "recipes" / "VoxCeleb" / "hparams" / "ecapa_c512_q_margin.yaml"
RATE, DIM, CLASSES = 16_000, 192, 5_994


@dataclass(frozen=True)
class Size:
    batch: int
    seconds: float
    rounds: int  # after two that do not count; fewer, but three at least, when `limit` seconds are over
    limit: float
    channels: tuple[int, ...]
    attention: int

    @property
    def network(self) -> dict:
        """Of SpeechBrain's ECAPA_TDNN."""
        return {
            "channels": list(self.channels),
            "attention_channels": self.attention,
            "se_channels": self.attention,
        }


FULL = Size(batch=16, seconds=2.0, rounds=9, limit=1_200, channels=(512, 512, 512, 512, 1536), attention=128)
QUICK = Size(batch=4, seconds=0.5, rounds=2, limit=60, channels=(8, 8, 8, 8, 24), attention=8)


def bare(turns: Turns, size: Size, folder: Path, kept: bool = False) -> None:
    """Forward, backward and Adam of the network and the classifier,
    on features that are there already."""
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    if kept:
        keep_memory()
    torch.manual_seed(0)
    network = torch.nn.ModuleList([ECAPA_TDNN(80, lin_neurons=DIM, **size.network), classifier(DIM, CLASSES)])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-8)
    features = torch.randn(size.batch, int(100 * size.seconds) + 1, 80)
    labels = torch.randint(CLASSES, (size.batch, 1))
    while True:
        optimizer.zero_grad()
        loss = loss_of()(network[1](network[0](features)), labels)
        loss.backward()
        optimizer.step()
        turns(size.batch, loss.item())


def matrix_products(turns: Turns, size: Size, folder: Path, width: int = 1024) -> None:
    """As many multiplications as the network's,
    in products of large matrices: what the core can do."""
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from torch.utils.flop_counter import FlopCounterMode

    network = ECAPA_TDNN(80, lin_neurons=DIM, **size.network)
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(size.batch, int(100 * size.seconds) + 1, 80)).sum().backward()
    left, right = torch.randn(2, width, width)
    while True:
        for _ in range(max(1, round(counter.get_total_flops() / (2 * width**3)))):
            left @ right
        turns(size.batch, 0.0)


def theirs(turns: Turns, size: Size, folder: Path, augment: str = "", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    brain = SpeechBrainRecipe.made(size.network, DIM, CLASSES, folder, augment, precision)
    turns.between_steps_of(brain, lambda: brain.chunks)
    data = speechbrain_data(folder / "manifest.csv", size.seconds, RATE)
    loader = {"batch_size": size.batch, "shuffle": True, "num_workers": 0, "drop_last": True}
    brain.fit(range(1, 1_000_000), data, train_loader_kwargs=loader)


def ours(turns: Turns, size: Size, folder: Path, *options: str) -> None:
    """The recipe through the calls of its train.py; with the optimizer of theirs."""
    from alpha_sv.sb.experiment import build_brain, fit, prepared_manifest, read_arguments

    with tempfile.TemporaryDirectory(dir=folder) as output:
        given = {
            "prepared": folder, "output_folder": output, "batch_size": size.batch, "chunk_seconds": size.seconds,
            "embedder": json.dumps(size.network), "num_prototypes": CLASSES, "num_workers": 0, "speeds": "[1.0]",
            "opt_class": "!name:torch.optim.Adam {lr: 0.001, weight_decay: 0.000002}", "number_of_epochs": 1_000_000,
        }  # fmt: skip
        argv = [str(RECIPE), "--device=cpu", "--noprogressbar", *(f"--{key}={value}" for key, value in given.items())]
        hparams, run_opts = read_arguments([*argv, *(option.replace("FOLDER", str(folder)) for option in options)])
        brain = build_brain(hparams, run_opts, prepared_manifest(hparams))
        turns.between_steps_of(brain, lambda: size.batch)
        fit(brain)


_NOISES = ("--noise_folder=FOLDER/noise", "--rir_folder=FOLDER/rir")
_EVERY = "--augment={noise_probability: 1.0, rir_probability: 1.0}"
BARE, KEPT, PRODUCTS = "bare network, default allocator", "bare network, memory kept", "as many multiplications"
THEIRS, OURS, BF16 = "SpeechBrain's recipe", "ours", "--precision=bf16"
PLAIN = {
    PRODUCTS: matrix_products,
    BARE: bare,
    KEPT: partial(bare, kept=True),
    THEIRS: theirs,
    OURS: lambda *a: ours(*a, "--wav_augment=[]"),
    f"{THEIRS}, {BF16}": partial(theirs, precision="bf16"),
    f"{OURS}, {BF16}": lambda *a: ours(*a, "--wav_augment=[]", BF16),
}
AUGMENTED = {
    f"{THEIRS}, all on every chunk": partial(theirs, augment="all"),
    f"{OURS}, all on every chunk": lambda *a: ours(*a, *_NOISES, _EVERY),
    f"{OURS}: noise 37 %, rooms 37 %": lambda *a: ours(*a, *_NOISES),
    f"{OURS}: the same, {BF16}": lambda *a: ours(*a, *_NOISES, BF16),
}
COPIES = {f"{THEIRS}: a copy with each": partial(theirs, augment="copies")}  # five times the memory: by itself
GROUPS = {"plain": PLAIN, "augmented": AUGMENTED, "copies": COPIES}


def contender(turns: Turns, group: str, name: str, size: Size, folder: Path) -> None:
    torch.set_num_threads(1)
    GROUPS[group][name](turns, size, folder)


Results = dict[str, tuple[list[Step], float]]


def measure(group: str, size: Size, folder: Path) -> Results:
    """Steps of every contender of a group, and its peak in MB."""
    contenders = {name: (contender, group, name, size, folder) for name in GROUPS[group]}
    return in_turns(contenders, size.rounds, size.limit)


def rate(steps: list[Step]) -> float:
    """Chunks a second of the processor, median over the rounds."""
    return median(step.chunks / step.cpu for step in steps)


def targets(results: dict[str, Results]) -> list[Target]:
    rates = {name: rate(found) for group in results.values() for name, (found, _) in group.items()}

    def target(what: str, limit: float, **pairs: tuple[str, str]) -> Target:
        measured = {
            name.replace("_", " "): rates[above] / rates[below]
            for name, (above, below) in pairs.items()
            if {above, below} <= rates.keys()
        }
        return Target(f"speed of ours / {what}", limit, measured, at_most=False)

    ours_bf16, (copies,), (every, our_every, some, some_bf16) = f"{OURS}, {BF16}", COPIES, AUGMENTED
    return [
        target(
            THEIRS, 1.8, fp32=(OURS, THEIRS), ours_in_bf16=(ours_bf16, THEIRS),
            both_in_bf16=(ours_bf16, f"{THEIRS}, {BF16}"),
        ),
        target(
            f"{THEIRS}, augmented", 1.8, all_on_every_chunk=(our_every, every), each_as_its_recipe=(some, copies),
            the_same_in_bf16=(some_bf16, copies),
        ),
        target(BARE, 1.3, fp32=(OURS, BARE), ours_in_bf16=(ours_bf16, BARE)),
    ]  # fmt: skip


def section(results: dict[str, Results], size: Size) -> str:
    plain = {name: rate(found) for name, (found, _) in results["plain"].items()}
    limits = {name: plain[PRODUCTS] / plain[name] for name in (THEIRS, BARE)}
    rows, rounds = [], "/".join(str(len(next(iter(results[group].values()))[0])) for group in results)
    for group in results:
        for name, (steps, peak) in results[group].items():
            cpu = sorted(step.cpu for step in steps)
            cells = [
                str(steps[0].chunks),
                f"{median(cpu):.3f} ({cpu[0]:.3f} to {cpu[-1]:.3f})",
                f"{median(step.wall for step in steps):.2f}",
                f"{rate(steps):.1f}",
                f"{median(step.faults for step in steps):,.0f}",
                f"{peak:,.0f}",
                f"{steps[-1].loss:.4f}",
            ]
            rows.append([name, *cells])
    head = [
        "",
        "chunks",
        "CPU s a step, median (range)",
        "s a step",
        "chunks / CPU s",
        "page faults",
        "peak, MB",
        "loss",
    ]
    return "\n\n".join([
        "## training: whole steps of ours and of SpeechBrain's VoxCeleb recipe",
        f"ECAPA-TDNN of {list(size.channels)} channels, {size.batch} utterances a step, chunks of {size.seconds:g} s "
        f"of real files, {CLASSES:,} classes, Adam, float32 unless said. One thread, no workers, so that all is "
        f"counted: reading, augmentation, network, loss, optimizer, log. {rounds} rounds ({'/'.join(results)}), the "
        "contenders taking turns, after two that do not count. *SpeechBrain's recipe*: a driver of its classes as its "
        "script puts them together; augmented it makes five chunks of each utterance, the clean one and a copy with "
        "noise, reverberation, dropped frequencies and dropped pieces, all of which count. *All on every chunk*: the "
        "four one after the other on each chunk, in both. *As many multiplications*: those of the network as products "
        "of matrices of 1024 × 1024. Loss: of the last step; ours is Q-Margin, theirs ArcFace. Where other processes "
        "share the cores, only the seconds of the processor mean anything.",
        describe(),
        table(["what", "target", "measured", ""], [target.row() for target in targets(results)]),
        table(head, rows),
        f"If nothing but the multiplications were left, float32 would be {limits[THEIRS]:.2f} × as fast as "
        f"SpeechBrain's recipe and {limits[BARE]:.2f} × as fast as the bare network with the default allocator.",
    ])  # fmt: skip


def prepare(data: Path, folder: Path, size: Size) -> None:
    """One manifest for all, of the utterances of which
    SpeechBrain's recipe can cut a chunk; noises and rooms."""
    from alpha_sv.data.corpus.manifest import read_manifest, write_manifest
    from alpha_sv.data.corpus.prepare import prepare_tree

    trees = sorted(path for path in data.glob("*/wav") if path.parent.name not in ("noise", "rir"))
    made = prepare_tree(trees, folder / "made", num_valid_speakers=2, audit="headers", check=lambda *a: None)
    rows = [u for u in read_manifest(made) if u.split == "valid" or u.num_samples > size.seconds * RATE + 1]
    write_manifest(folder / "manifest.csv", rows)
    (made.parent / "valid_trials.txt").rename(folder / "valid_trials.txt")
    for name in ("noise", "rir"):
        (folder / name).symlink_to((data / name / "wav").resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        prepare(given.data, Path(folder), size)
        print(section({group: measure(group, size, Path(folder)) for group in GROUPS}, size))
