"""Every YAML of the VoxCeleb recipe composes, builds and takes a step,
with small networks; and says what it should."""

import math
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.augment.time_domain import DropChunk

from alpha_sv.data.audio.speed import class_names
from alpha_sv.embedding.embedder import ARCHITECTURES
from alpha_sv.heads import CosineHead
from alpha_sv.losses import A3M, AAMSoftmax, AMSoftmax, QMargin
from alpha_sv.sb.recipe_yaml import compose_recipe

HPARAMS = Path(__file__).parents[2] / "recipes" / "VoxCeleb" / "hparams"
RECIPES = sorted(path for path in HPARAMS.glob("*.yaml") if "wavlm" not in path.name)  # test_wavlm_hparams.py
BASES = sorted(HPARAMS.glob("base/*.yaml"))
MODELS = ("ecapa_c512", "ecapa_c1024", "resnet34")
LOSSES = {"q_margin": QMargin, "a3m": A3M, "am": AMSoftmax, "aam": AAMSoftmax}
FULL = [f"{model}_{loss}" for model in MODELS for loss in LOSSES]
FAST = {
    "ecapa_c512_q_margin", "ecapa_c1024_a3m", "resnet34_am", "resnet34_aam_large_margin",
    "ecapa_c1024_q_margin_finetune", "ecapa_c1024_q_margin_cyclic",
}  # fmt: skip
EVERY_RECIPE = pytest.mark.parametrize(
    "name", [pytest.param(p.stem, marks=[] if p.stem in FAST else pytest.mark.slow) for p in RECIPES]
)
SMALL = {
    "ecapa": "{channels: [16, 16, 16, 16, 48], attention_channels: 8, se_channels: 8}",
    "resnet34": "{channels: [4, 4, 8, 8], block_sizes: [1, 1, 1, 1]}",
}


def compose(name, folder, overrides="", embedder=None):
    """The recipe as text, with small networks unless told,
    as `parse_arguments` would override it."""
    text = f"prepared: {folder}\noutput_folder: {folder}/run\n" + overrides
    if "finetune" in name or "large_margin" in name:
        text += f"\nwarm_start: {folder}/before"
    embedder = embedder or SMALL[name.split("_")[0]]
    return compose_recipe(HPARAMS / f"{name}.yaml", f"{text}\nembedder: {embedder}")


def load(name, folder, overrides=""):
    return load_hyperpyyaml(compose(name, folder, overrides))


def of_kind(kind):
    return [path.stem for path in RECIPES if path.stem.endswith(kind)]


def test_there_is_a_recipe_for_each_model_and_loss():
    tuned = [
        f"{m}_{kind}" for m in MODELS for kind in ("q_margin_large_margin", "aam_large_margin", "q_margin_finetune")
    ]
    assert {path.stem for path in RECIPES} == {*FULL, *tuned, "ecapa_c1024_q_margin_cyclic"}


@EVERY_RECIPE
def test_recipe_builds_and_takes_a_step(name, tmp_path):
    hparams = load(name, tmp_path)
    assert hparams["experiment"] == name, "its results would go into the folder of another"
    classes = class_names([f"id{i:05d}" for i in range(20)], hparams["speeds"])
    embedder, loss = hparams["embedder"], hparams["loss"]
    head = CosineHead(hparams["embedding_dim"], len(classes), loss=loss)
    assert embedder.embedding_dim == (256 if name.startswith("resnet34") else 192)
    optimizer = hparams["opt_class"]([*embedder.parameters(), *head.parameters()])
    waveforms = torch.randn(4, round(hparams["chunk_seconds"] * hparams["sample_rate"]))
    for module in hparams["wav_augment"]:
        waveforms = module(waveforms, torch.ones(4)) if isinstance(module, DropChunk) else module(waveforms)
    for epoch in (0, 10, hparams["number_of_epochs"]):
        loss.margin = hparams["margin_schedule"](epoch)
        assert 0 <= hparams["lr_schedule"](epoch) <= optimizer.param_groups[0]["lr"]
    value = head(embedder(waveforms), torch.arange(4) * 5)
    value.backward()
    assert value.isfinite() and all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in [*embedder.parameters(), *head.parameters()]
    )
    optimizer.step()


@EVERY_RECIPE
def test_command_in_the_header_is_one_that_the_recipe_takes(name, tmp_path):
    header = (HPARAMS / f"{name}.yaml").read_text().split("\n\nextends:")[0]
    command = header[header.index("python train.py") :]
    assert f"hparams/{name}.yaml" in command
    options = [a for a in shlex.split(command.replace("#", " ").replace("…", "")) if a.startswith("--")]
    _, _, overrides = sb.parse_arguments([str(HPARAMS / f"{name}.yaml"), *options])
    resolved = compose_recipe(HPARAMS / f"{name}.yaml", overrides)
    for option in options:
        key, _, value = option[2:].partition("=")
        assert f"{key}:" in resolved and value.split(" ")[0].split("{")[0] in resolved


@pytest.mark.parametrize("base", BASES, ids=lambda path: path.stem)
def test_a_base_cannot_be_taken_for_a_recipe(base, tmp_path):
    with pytest.raises(ValueError, match="is a !PLACEHOLDER|has no key prepared"):
        compose_recipe(base, f"prepared: {tmp_path}")


@pytest.mark.parametrize("name", of_kind("_finetune") + of_kind("_large_margin"))
def test_fine_tuning_needs_to_be_told_of_what(name, tmp_path):
    with pytest.raises(ValueError, match="'warm_start' is a !PLACEHOLDER"):
        compose_recipe(HPARAMS / f"{name}.yaml", f"prepared: {tmp_path}")


@EVERY_RECIPE
def test_loss_is_that_of_the_name_at_the_published_settings(name, tmp_path):
    loss = load(name, tmp_path)["loss"]
    kind = next(kind for kind in LOSSES if re.search(rf"(34|512|1024)_{kind}(_|$)", name))
    assert type(loss) is LOSSES[kind]
    if loss.alpha > 1:
        assert loss.scale * (loss.alpha - 1) == pytest.approx(5), "κ = 5"
    else:
        assert loss.scale == 32


@pytest.mark.parametrize("name", FULL)
def test_schedule_of_the_papers(name, tmp_path):
    hparams = load(name, tmp_path)
    margin, rate, batch = hparams["margin_schedule"], hparams["lr_schedule"], hparams["batch_size"]
    assert [margin(epoch) for epoch in (0, 20, 40, 150)] == [0, 0, 0.2, 0.2] and 0 < margin(25) < margin(30) < 0.2
    per_64 = lambda epoch: rate(epoch) / batch * 64  # noqa: E731
    assert hparams["number_of_epochs"] == 150 and per_64(0) == 0 and per_64(150) == pytest.approx(5e-5)
    assert per_64(75) == pytest.approx(math.sqrt(0.1 * 5e-5)), "half way, the geometric mean of the ends"
    assert per_64(6) == pytest.approx(0.1 * (5e-5 / 0.1) ** (6 / 150)) and per_64(3) < per_64(6) > per_64(7)
    group = hparams["opt_class"]([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)
    assert hparams["chunk_seconds"] == 2 and len(class_names(["a", "b"], hparams["speeds"])) == 6
    augment = hparams["augment"]
    none = (1 - augment.noise_probability) * (1 - augment.rir_probability)
    assert none == pytest.approx(0.4, abs=0.005), "0.6 of the chunks are disturbed"


def test_rate_grows_with_the_batch(tmp_path):
    """WeSpeaker's scale_ratio: a rate of 0.1 is for 64 chunks a step."""
    small, large = (load("resnet34_aam", tmp_path, f"batch_size: {size}") for size in (64, 1024))
    assert small["lr_schedule"].initial_lr == 0.1
    for epoch in (1, 6, 150):
        assert large["lr_schedule"](epoch) == pytest.approx(16 * small["lr_schedule"](epoch))


def test_prototypes_are_set_anew_where_the_margin_of_a3m_begins(tmp_path):
    for name in FULL:
        hparams = load(name, tmp_path)
        epoch, margin = hparams["reinit_epoch"], hparams["margin_schedule"]
        if name.endswith("a3m"):  # epochs done before epoch n begins: n - 1
            assert margin(epoch - 1) == 0 < margin(epoch)
        else:
            assert epoch == 0


@pytest.mark.parametrize("name", of_kind("_large_margin"))
def test_large_margin_fine_tuning(name, tmp_path):
    hparams = load(name, tmp_path)
    assert {hparams["margin_schedule"](epoch) for epoch in (0, 1, 5)} == {0.5}
    assert hparams["number_of_epochs"] == 5 and hparams["chunk_seconds"] == 6 and hparams["speeds"] == [1.0]
    assert hparams["warm_start_head"] == "keep" and hparams["reinit_epoch"] == 0
    rate = hparams["lr_schedule"]
    assert rate.initial_lr / rate.final_lr == pytest.approx(4)
    assert rate(5) / hparams["batch_size"] * 64 == pytest.approx(2.5e-5)


@pytest.mark.parametrize("name", of_kind("_finetune"))
def test_q_margin_fine_tuning(name, tmp_path):
    hparams = load(name, tmp_path)
    assert {hparams["margin_schedule"](epoch) for epoch in (0, 10)} == {0.2}
    assert hparams["number_of_epochs"] == 10 and hparams["warm_start_head"] == "means"
    assert hparams["lr_schedule"](10) / hparams["batch_size"] * 64 == pytest.approx(5e-5)
    for alpha, margin, gap in ((1.5, 0.2, "0.54"), (1.5, 0.3, "0.90"), (1.25, 0.2, "2.5: 0.66"), (1.1, 0.2, "1: 1.22")):
        kappa = 10 * (alpha - 1)  # the zero-loss gaps that the header tells
        assert f"{math.exp(kappa * margin) / kappa:.2f}" == gap.split()[-1]
        assert gap in (HPARAMS / f"{name}.yaml").read_text()


def test_cyclic_schedule_of_speechbrain(tmp_path):
    hparams = load("ecapa_c1024_q_margin_cyclic", tmp_path)
    rates = [hparams["lr_schedule"](epoch) for epoch in (0, 2, 4, 10, hparams["number_of_epochs"])]
    assert rates == pytest.approx([1e-8, 1e-3, 1e-8, 1e-3, 1e-8])
    assert hparams["chunk_seconds"] == 3 and hparams["batch_size"] == 32 and hparams["speeds"] == [1.0]
    assert hparams["opt_class"].func is torch.optim.Adam
    assert abs(65_000 * 32 / 1_092_009 - hparams["lr_schedule"].half_period) < 0.1, "steps of a half cycle, in epochs"


@pytest.mark.parametrize(
    "name, millions",
    [("ecapa_c512_am", 6.19), ("ecapa_c1024_am", 14.66), ("ecapa_c1024_q_margin_cyclic", 20.77), ("resnet34_am", 7.66)],
)
def test_parameters_of_the_full_networks(name, millions, tmp_path):
    """ECAPA-TDNN as WeSpeaker counts it (6.19 M,
    14.65 M) and as SpeechBrain does (20.77 M); README has these too."""
    text = compose(name, tmp_path, embedder="{}")
    arguments = load_hyperpyyaml(text.replace("!new:alpha_sv.embedding.embedder.SpeakerEmbedder", ""))["embedder"]
    backbone = ARCHITECTURES[arguments.pop("architecture")]
    arguments.pop("sample_rate")
    sizes = {"input_size": arguments.pop("n_mels"), "lin_neurons": arguments.pop("embedding_dim")}
    with torch.device("meta"):
        network = backbone(**sizes, **arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert f"{millions} M" in (HPARAMS.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def slurm(tmp_path):
    """Starts slurm.sh where srun is a script of one's
    own and scontrol writes down what it was asked."""

    def start(srun):
        for name, body in (("srun", srun), ("scontrol", f'echo "$@" > {tmp_path}/asked')):
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        command = ["bash", str(HPARAMS.parent / "slurm.sh"), "hparams/x.yaml", "--seed=1"]
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
        return subprocess.Popen(command, env=environment)

    return start


def test_slurm_job_is_queued_again_at_its_time_limit(slurm, tmp_path):
    stop = f"trap 'touch {tmp_path}/stopped; exit 143' TERM"
    job = slurm(f'{stop}\necho "$@" > {tmp_path}/arguments\nwhile true; do sleep 0.05; done')
    deadline = time.monotonic() + 60
    while not (tmp_path / "arguments").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 0 and (tmp_path / "stopped").exists(), "the training ends before the job is queued again"
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    assert (tmp_path / "arguments").read_text().endswith("train.py --precision=bf16 hparams/x.yaml --seed=1\n")


def test_slurm_job_that_fails_or_ends_is_not_queued_again(slurm, tmp_path):
    assert slurm("exit 3").wait(60) == 3
    assert slurm("exit 0").wait(60) == 0
    assert not (tmp_path / "asked").exists()
