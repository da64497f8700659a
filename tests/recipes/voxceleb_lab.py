"""The commands of recipes/VoxCeleb/README.md, and a place where they run in small."""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from alpha_sv.cli import main as alpha_sv
from alpha_sv.data.manifest import read_manifest

RECIPE = Path(__file__).parents[2] / "recipes" / "VoxCeleb"
ECAPA = "{channels: [8, 8, 8, 8, 24], attention_channels: 8, se_channels: 8}"
RESNET = "{channels: [4, 4, 8, 8], block_sizes: [1, 1, 1, 1]}"
# what makes a recipe small; the rest is as its YAML has it
SMALL = ["--number_of_epochs=2", "--batch_size=8", "--chunk_seconds=0.5", "--n_mels=24", "--embedding_dim=16"]
SMALL += ["--num_workers=0", "--log_interval=1", "--valid_interval=1", "--device=cpu"]
NOT_RUN = {"sbatch": "there is no SLURM here; test_voxceleb_hparams.py runs slurm.sh with an srun of its own"}
AUGMENTED = ["--noise_folder=musan", "--rir_folder=rirs"]
PREPARED, SHARDS = "results/voxceleb/prepared", "shards"


def readme_commands():
    """The commands of the README's shell blocks as lists of words, in order; none twice."""
    blocks = re.findall(r"```bash\n(.*?)```", (RECIPE / "README.md").read_text(encoding="utf-8"), flags=re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    return [words for number, words in enumerate(commands) if words not in commands[:number]]


def slurm_commands():
    """What slurm.sh says to wrap into jobs."""
    text = (RECIPE / "slurm.sh").read_text(encoding="utf-8").replace("\\\n#", "")
    return [shlex.split(words) for words in re.findall(r'--wrap="(.*?)"', text)]


def train_options(recipe):
    """What makes this recipe small."""
    embedder = RESNET if "resnet" in recipe else ECAPA
    warm_up = [] if "cyclic" in recipe else ["--lr_schedule={warmup_epochs: 1}"]
    return [*SMALL, *warm_up, f"--embedder={embedder}"]


def _bytes():
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


@dataclass
class Laboratory:
    """A copy of the recipe's folder, with the corpora beside it; runs commands there."""

    folder: Path
    ranks: int  # of torchrun; 1: without it
    printed: list[str] = field(default_factory=list)

    def adapted(self, words):
        """A command of the README on the small corpora, with small sizes."""
        places = {"/corpora/RIRS_NOISES/simulated_rirs": "rirs", "/corpora/": "", "/scratch/voxceleb_shards": SHARDS}
        for place, here in places.items():
            words = [word.replace(place, here) for word in words]
        words = ["cpu" if word == "cuda" else word for word in words]
        script = next((word for word in words if word.endswith(".py")), "")
        if script == "prepare.py":
            words = [*words, "--num-valid-speakers", "4" if "vox2" in words else "0", "--workers", "2"]
        elif script == "shards.py":
            words = [*words, "--samples-per-shard", "10"]
        elif script == "train.py":
            words = [*words, *train_options(words[words.index(script) + 1])]
        elif script == "verify.py":
            words = [*words, "--top-n", "5"]
        return words

    def run(self, words):
        """Run a command as it is; returns what it printed on standard output."""
        if words[0] == "torchrun" and self.ranks > 1:
            words = [word.replace("--nproc_per_node=8", f"--nproc_per_node={self.ranks}") for word in words]
            return self._start(["-m", "torch.distributed.run", *words[1:], "--distributed_backend=gloo"])
        if words[0] == "torchrun":
            words = ["python", *words[words.index("train.py") :]]
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(_bytes()) as printed:
            patch.chdir(self.folder)
            if words[0] == "alpha-sv":
                assert alpha_sv(words[1:]) == 0
            else:
                assert words[0] == "python", f"the README has {words}, which nobody knows how to run here"
                patch.syspath_prepend(str(self.folder))
                patch.setattr(sys, "argv", words[1:])
                try:
                    runpy.run_path(words[1], run_name="__main__")
                finally:
                    sys.modules.pop("trial_lists", None)  # of this copy of the folder
        printed.flush()
        return printed.buffer.getvalue().decode()

    def _start(self, words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPE.parents[1])}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def train(self, recipe, output, *options):
        """Train this recipe, made small, into results/<output>; returns that folder."""
        options = [f"--output_folder=results/{output}", *AUGMENTED, *train_options(recipe), *options]
        self.run(["python", "train.py", f"hparams/{recipe}.yaml", *options])
        return self.folder / "results" / output

    def utterances(self):
        return read_manifest(self.folder / PREPARED / "manifest.csv")
