"""Training runs as the tests make them: the SpeakerTree recipe at a tiny size, in this process or in one of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.checkpointer import SafeCheckpointer
from alpha_sv.sb.experiment import run

RECIPE = Path(__file__).parents[1] / "recipes" / "SpeakerTree"
OFTEN = {"ckpt_interval_steps": 1, "ckpt_interval_minutes": 0}
TINY = {
    "ecapa": ["--channels=[16, 16, 16, 16, 48]"],
    "resnet": ["--channels=[8, 8, 8, 8]", "--block_sizes=[1, 1, 1, 1]"],
    "campplus": ["--embedder={init_channels: 16, block_sizes: [2, 2], growth: 4}", "--channels=4"],
}


def arguments(tree, output, model="ecapa", **overrides):
    keys = {
        "data_folder": tree / "wav",
        "trials": tree / "trials.txt",
        "noise_folder": tree / "noise",
        "rir_folder": tree / "rir",
        "output_folder": output,
        "num_valid_speakers": 2,
        "number_of_epochs": 2,
        "batch_size": 8,
        "chunk_seconds": 0.5,
        "log_interval": 1,
        "n_mels": 24,
        "embedding_dim": 16,
        "num_workers": 0,
        **overrides,
    }
    return [f"hparams/{model}.yaml", *TINY[model], *(f"--{key}={value}" for key, value in keys.items())]


def start_command(command, **options):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=RECIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    return out


def log_of(folder):
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


class Killed(BaseException):
    """Raised inside a run: nothing of the run's own code sees it, as nothing sees a kill -9."""


def kill(*_, **__):
    raise Killed


def run_killed(argv, step, batch_of_step=1):
    """Run until just before a batch of the (step + 1)-th optimizer step."""
    start = SpeakerBrain.on_fit_batch_start

    def stop(brain, batch, should_step):
        if brain.optimizer_step == step and (brain.step - 1) % brain.grad_accumulation_factor == batch_of_step - 1:
            raise Killed
        start(brain, batch, should_step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SpeakerBrain, "on_fit_batch_start", stop)
        run(argv)


def column(folder, key, kind="train"):
    return [row[key] for row in log_of(folder) if row["kind"] == kind]


def checkpoints(folder):
    """From the oldest to the newest."""
    return sorted(SafeCheckpointer(folder / "save").list_checkpoints(), key=lambda c: c.meta["unixtime"])


def stored(checkpoint, name):
    return torch.load(checkpoint.paramfiles[name], weights_only=True)
