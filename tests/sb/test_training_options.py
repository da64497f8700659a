"""The options of a training run: each does what it says,
and none changes what a killed and resumed run computes."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from alpha_sv.embedding import SpeakerEmbedder
from alpha_sv.heads import CosineHead, ShardedHead
from alpha_sv.sb.brain import SpeakerBrain
from alpha_sv.sb.distributed import CommonBatchNorm
from alpha_sv.sb.experiment import read_arguments, run
from alpha_sv.schedule import ExponentialRate, TriangularRate
from tests.fixtures.speech_tree import make_tree
from tests.fixtures.training_runs import OFTEN, RECIPE, arguments, checkpoints, column, log_of, run_killed, stored

pytestmark = pytest.mark.usefixtures("in_recipe")

DROPS = "[!new:speechbrain.augment.time_domain.DropFreq {}, !new:speechbrain.augment.time_domain.DropChunk {}]"


def augmented(argv, modules=DROPS):
    return [*argv, f"--wav_augment={modules}"]


@pytest.mark.parametrize("modules", [pytest.param("[]", marks=pytest.mark.slow), DROPS], ids=["plain", "with DropFreq"])
def test_bf16_follows_fp32_and_keeps_waveforms_loss_and_head_in_float32(modules, tree, tmp_path, monkeypatch):
    seen, forward, features = [], CosineHead.forward, SpeakerEmbedder.forward

    def watch_head(head, embeddings, targets):
        seen.append((embeddings.dtype, (loss := forward(head, embeddings, targets)).dtype, head.weight.dtype))
        return loss

    def watch_embedder(embedder, waveforms):
        seen.append(waveforms.dtype)
        return features(embedder, waveforms)

    monkeypatch.setattr(CosineHead, "forward", watch_head)
    monkeypatch.setattr(SpeakerEmbedder, "forward", watch_embedder)
    losses = []
    for precision in ("fp32", "bf16"):
        argv = arguments(
            tree,
            tmp_path / precision,
            precision=precision,
            number_of_epochs=1,
            margin=0,
            warmup_epochs=1,
            cooldown_epochs=0,
        )
        run(augmented(argv, modules))
        losses.append(column(tmp_path / precision, "loss"))
    assert np.isfinite(losses).all()
    # before the first update only the network's rounding lies between them; later, the path too,
    # by an amount that depends on the processor's own bfloat16
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=0.03)
    assert losses[0] != losses[1]
    assert (torch.bfloat16, torch.float32, torch.float32) in seen, "the network ran in bfloat16, the loss did not"
    assert {kind for kind in seen if isinstance(kind, torch.dtype)} == {torch.float32}


def test_fp16_on_a_cpu_is_refused_with_the_remedy(tree, tmp_path):
    with pytest.raises(ValueError, match="precision=bf16"):
        run(arguments(tree, tmp_path, precision="fp16"))


@pytest.mark.parametrize(("native", "precision", "warned"), [(0, "bf16", 1), (1, "bf16", 0), (0, "fp32", 0)])
def test_bf16_that_the_cpu_only_emulates_is_warned_of(native, precision, warned, tree, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bool(native)}, raising=False)
    read_arguments(arguments(tree, tmp_path, precision=precision))
    assert ("no bfloat16 instructions" in caplog.text) == warned


@pytest.mark.parametrize("option", [["--device=cuda"], []])
def test_each_process_of_torchrun_computes_on_its_own_gpu(option, tree, tmp_path, monkeypatch):
    """All of them were on the first one; seen by what is passed to torch."""

    class Placed(Exception):
        pass

    def place(device):
        raise Placed(device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", place)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(Placed, match="cuda:3"):
        read_arguments([*arguments(tree, tmp_path), *option])


@pytest.mark.parametrize(
    ("options", "gpus", "placed"),
    [
        ([], 4, ["cuda:3", "cuda:3", ("nccl", 7)]),
        (["--device=cuda"], 4, ["cuda:3", "cuda:3", ("nccl", 7)]),
        (["--device=cuda", "--distributed_backend=gloo"], 4, ["cuda:3", ("gloo", 7)]),
        (["--device=cpu"], 0, [("gloo", 7)]),
        ([], 0, [("gloo", 7)]),
    ],
)
def test_processes_meet_by_nccl_on_gpus_and_by_gloo_on_cpus(options, gpus, placed, tree, tmp_path, monkeypatch):
    """Seen by what is passed to torch: the second machine's last process of two with four each."""

    class Met(Exception):
        pass

    def meet(backend, rank, **_):
        seen.append((backend, rank))
        raise Met

    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: seen.append(str(device)))
    monkeypatch.setattr(torch.distributed, "init_process_group", meet)
    for name, value in {"LOCAL_RANK": "3", "RANK": "7", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Met):
        read_arguments([*arguments(tree, tmp_path), *options])
    assert seen == placed


@pytest.mark.parametrize(("device", "ids"), [("cuda:3", ["cuda:3"]), ("cpu", None)])
def test_what_is_trained_is_wrapped_for_its_own_gpu_and_a_split_head_is_not(device, ids, monkeypatch):
    wrapped = {}

    def wrap(module, device_ids):
        wrapped[type(module)] = device_ids
        return module

    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", wrap)
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    frozen = torch.nn.Linear(4, 4).requires_grad_(False)
    modules = {"embedder": network, "head": ShardedHead.__new__(ShardedHead), "frozen": frozen}
    SpeakerBrain._wrap_distributed(SimpleNamespace(distributed_launch=True, device=device, modules=modules))
    assert wrapped == {torch.nn.Sequential: ids}
    assert type(network[1]) is (torch.nn.SyncBatchNorm if ids else CommonBatchNorm)


@pytest.mark.parametrize("factor", [2, 4])
def test_accumulated_batches_take_the_steps_of_one_large_batch(factor, tree, tmp_path):
    """To rounding where no batch statistics are: prototypes on a fixed embedding.
    With 4, the 2 batches that are left of 6 are dropped, as the large batch drops their utterances.
    """
    fixed = "!new:alpha_sv.embedding.embedder.SpeakerEmbedder {architecture: mean_fbank, embedding_dim: 24, n_mels: 24}"
    same = {"embedder": fixed, "embedding_dim": 24, "number_of_epochs": 3, "warmup_epochs": 2, "cooldown_epochs": 1}
    same["margin_schedule"] = "{increase_start_epoch: 0, fix_start_epoch: 2}"
    run(arguments(tree, tmp_path / "parts", batch_size=8, grad_accumulation_factor=factor, **same))
    run(arguments(tree, tmp_path / "whole", batch_size=8 * factor, **same))
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert column(parts, "step") == list(range(1, 1 + 3 * (6 // factor)))
    for key in ("lr", "margin", "epoch", "step"):
        assert column(parts, key) == column(whole, key), key
    assert len(set(column(parts, "margin"))) > 2 and len(set(column(parts, "lr"))) > 2
    weights = [stored(checkpoints(folder)[-1], "head")["weight"] for folder in (parts, whole)]
    torch.testing.assert_close(*weights, rtol=0, atol=2e-5)


def test_a_run_killed_between_the_batches_of_one_step_takes_the_same_steps(tree, tmp_path):
    """A checkpoint there would have lost the gradient of the first batch."""
    same = {"grad_accumulation_factor": 2, "number_of_epochs": 1}
    run(arguments(tree, tmp_path / "whole", **same))
    run_killed(arguments(tree, tmp_path / "killed", **same, **OFTEN), step=1, batch_of_step=2)
    run(arguments(tree, tmp_path / "killed", **same, **OFTEN))
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_compiled_training_takes_the_same_steps_and_may_change_in_mid_run(tree, tmp_path):
    same = {"number_of_epochs": 2, **OFTEN}
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    flags = {"plain": [], "compiled": ["--compile"]}
    for name, flag in flags.items():
        run([*arguments(tree, tmp_path / name, **same), *flag])
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == (name == "compiled")
    plain = log_of(tmp_path / "plain")
    for first, second in (("plain", "compiled"), ("compiled", "plain")):
        folder = tmp_path / f"{first} then {second}"
        run_killed([*arguments(tree, folder, **same), *flags[first]], step=4)
        run([*arguments(tree, folder, **same), *flags[second]])
    for name in ("compiled", "plain then compiled", "compiled then plain"):
        np.testing.assert_allclose(
            column(tmp_path / name, "loss"), [r["loss"] for r in plain if "loss" in r], rtol=5e-3
        )
        names = [stored(checkpoints(tmp_path / run_name)[-1], "embedder").keys() for run_name in ("plain", name)]
        assert names[0] == names[1]


@pytest.mark.parametrize(
    "name, schedule",
    [
        ("ExponentialRate", ExponentialRate(0.01, 0.001, warmup_epochs=1, number_of_epochs=2)),
        ("TriangularRate", TriangularRate(1e-8, 0.002, half_period=0.5)),
    ],
)
def test_learning_rate_of_every_step_is_that_function_of_the_epoch(name, schedule, tree, tmp_path):
    given = ", ".join(f"{key}: {value:.9f}" for key, value in vars(schedule).items())
    run(arguments(tree, tmp_path, lr_schedule=f"!new:alpha_sv.schedule.{name} {{{given}}}"))
    assert column(tmp_path, "lr") == pytest.approx([schedule(step / 6) for step in range(12)], abs=1e-15)


@pytest.mark.slow
def test_alpha_is_a_function_of_the_epoch_also_of_a_resumed_run_and_auto_keeps_kappa(tree, tmp_path):
    anneal = "!new:alpha_sv.schedule.AlphaSchedule {initial_alpha: 1.25, final_alpha: 2, fix_start_epoch: 1.5}"
    loss = "!new:alpha_sv.losses.QMargin {scale: auto}"
    argv = arguments(tree, tmp_path / "whole", loss=loss, alpha_schedule=anneal)
    run(argv)
    steps = np.arange(12)  # the first step is at epoch 0
    alpha = np.minimum(1.25 + 0.75 * steps / 6 / 1.5, 2.0)
    assert column(tmp_path / "whole", "alpha") == pytest.approx(alpha)
    assert column(tmp_path / "whole", "scale") == pytest.approx(5 / (alpha - 1))
    run_killed(arguments(tree, tmp_path / "killed", loss=loss, alpha_schedule=anneal, **OFTEN), step=7)
    run(arguments(tree, tmp_path / "killed", loss=loss, alpha_schedule=anneal, **OFTEN))
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


@pytest.mark.slow
def test_with_batch_augmentation_and_speeds_the_log_depends_on_neither_workers_nor_a_kill(tree, tmp_path):
    same = {"speeds": "[1.0, 0.9]", "number_of_epochs": 1}
    run(augmented(arguments(tree, tmp_path / "whole", num_workers=2, **same)))
    run_killed(augmented(arguments(tree, tmp_path / "killed", num_workers=1, **same, **OFTEN)), step=4)
    run(augmented(arguments(tree, tmp_path / "killed", num_workers=0, **same, **OFTEN)))
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    run(arguments(tree, tmp_path / "off", **same))
    assert column(tmp_path / "off", "loss") != column(tmp_path / "whole", "loss")


def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_a_checkpoint(tree, tmp_path, monkeypatch):
    """SpeechBrain's patience would take three such steps, and after the
    first all weights are NaN; an epoch of three steps would never stop.
    """
    forward, calls = CosineHead.forward, []

    def poisoned(head, embeddings, targets):
        calls.append(0)
        return forward(head, embeddings, targets) * (float("nan") if len(calls) == 8 else 1)

    monkeypatch.setattr(CosineHead, "forward", poisoned)
    with pytest.raises(ValueError, match="loss of step 8 is nan.*Lower the learning rate"):
        run(arguments(tree, tmp_path, **OFTEN))
    for checkpoint in checkpoints(tmp_path):
        weights = stored(checkpoint, "embedder") | stored(checkpoint, "head")
        assert all(tensor.isfinite().all() for tensor in weights.values())
    monkeypatch.undo()
    monkeypatch.chdir(RECIPE)
    run(arguments(tree, tmp_path, **OFTEN))
    assert column(tmp_path, "step") == list(range(1, 13)), "it continues from the step before"


def test_a_diverged_run_says_so(tree, tmp_path):
    with pytest.raises(ValueError, match="diverged"):
        run(arguments(tree, tmp_path, lr=1e30, warmup_epochs=0, cooldown_epochs=0))


@pytest.mark.slow
def test_a_finished_run_can_be_prolonged_and_its_schedules_follow(tree, tmp_path):
    """The steps that were taken stay; those to come are of the longer schedule."""
    run(arguments(tree, tmp_path / "one", number_of_epochs=2))
    before = log_of(tmp_path / "one")
    run(arguments(tree, tmp_path / "one", number_of_epochs=4))
    run(arguments(tree, tmp_path / "whole", number_of_epochs=4))
    assert log_of(tmp_path / "one")[: len(before)] == before
    assert column(tmp_path / "one", "step") == column(tmp_path / "whole", "step")
    for key in ("lr", "margin"):
        later = slice(len([row for row in before if row["kind"] == "train"]), None)
        assert column(tmp_path / "one", key)[later] == column(tmp_path / "whole", key)[later]
    with pytest.raises(ValueError, match="number_of_epochs"):
        run(arguments(tree, tmp_path / "one", number_of_epochs=3))
    with pytest.raises(ValueError, match=r"other settings \(batch_size"):
        run(arguments(tree, tmp_path / "one", number_of_epochs=5, batch_size=4))


@pytest.mark.slow
def test_options_that_change_the_steps_are_part_of_the_run_given_or_dropped(tree, tmp_path):
    options = {"max_grad_norm": 0.1, "grad_accumulation_factor": 2, "precision": "bf16"}
    run_killed(arguments(tree, tmp_path / "plain", **OFTEN), 1)
    run_killed(arguments(tree, tmp_path / "given", **OFTEN, **options), 1)
    for name, value in options.items():
        others = {key: value for key, value in options.items() if key != name}
        for folder, changed in (("plain", {name: value}), ("given", others)):
            with pytest.raises(ValueError, match=f"other settings .*--{name}"):
                run(arguments(tree, tmp_path / folder, **OFTEN, **changed))


def test_a_refused_command_leaves_the_folder_as_it_was(tree, tmp_path):
    run(arguments(tree, tmp_path / "out", number_of_epochs=1))

    def content():
        files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name not in (".lock", "log.txt", "audit.journal")}

    before = content()
    fewer = make_tree(tmp_path / "other", speakers=8, utterances=6)
    for other in (
        {"data_folder": fewer / "wav"},
        {"data_folder": "/path/to/wav"},
        {"trials": "/path/to/trials.txt"},
        {"num_valid_speakers": 3},
        {"batch_size": 4},
        {"noise_folder": ""},
        {"seed": 2},
    ):
        with pytest.raises(ValueError):
            run(arguments(tree, tmp_path / "out", **{"number_of_epochs": 1, **other}))
        assert content() == before, other


def test_noises_are_part_of_the_run_and_are_decoded_before_it_begins(tree, tmp_path):
    noise = tmp_path / "noise"
    shutil.copytree(tree / "noise", noise)
    run_killed(arguments(tree, tmp_path / "out", noise_folder=noise, **OFTEN), 2)
    whole = soundfile.read(noise / "0.wav")[0]
    soundfile.write(noise / "1.wav", whole, 16000)
    with pytest.raises(ValueError, match="run on other data .*noises and rooms"):
        run(arguments(tree, tmp_path / "out", noise_folder=noise, **OFTEN))
    whole[5] = np.nan
    for name in ("0.wav", "1.wav"):
        soundfile.write(noise / name, whole, 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="none of its 2 files is usable"):
        run(arguments(tree, tmp_path / "nan", noise_folder=noise))
    assert not (tmp_path / "nan" / "save").exists()


def test_there_is_a_model_as_soon_as_there_is_a_best_epoch(tree, tmp_path):
    run_killed(arguments(tree, tmp_path, **OFTEN), 7)  # in the second epoch, of 6 steps each
    (first,) = (c for c in checkpoints(tmp_path) if c.meta["end-of-epoch"])
    saved = SpeakerEmbedder.load(tmp_path / "model").state_dict()
    assert all(torch.equal(saved[name], value) for name, value in stored(first, "embedder").items())


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"cooldown_epochs": 14}, "cooldown_epochs must be from 0 to number_of_epochs"),
        ({"warmup_epochs": 1.5, "cooldown_epochs": 1}, "do not fit into the 2 epochs"),
        ({"margin_schedule": "{fix_start_epoch: 12}"}, "margin_schedule reaches its end at epoch 12"),
        ({"reinit_epoch": 3}, "reinit_epoch 3 is after the last epoch"),
    ],
)
def test_schedules_that_do_not_fit_into_the_training_are_refused(overrides, message, tree, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(arguments(tree, tmp_path, **overrides))


def test_short_trainings_have_their_whole_schedules(tree, tmp_path):
    """With fixed epochs, three of them ended before the
    margin began to grow and Q-Margin and A3M were one loss."""
    run(arguments(tree, tmp_path, number_of_epochs=3))
    margins, rates = column(tmp_path, "margin"), column(tmp_path, "lr")
    assert margins[0] == 0 and margins[-1] == 0.2
    assert max(rates) == 0.003 and rates[-1] < 0.1 * max(rates)


def test_debug_tries_the_whole_way_and_leaves_the_folder_free_for_the_run(tree, tmp_path):
    run([*arguments(tree, tmp_path / "debug", number_of_epochs=4), "--debug", "--debug_batches=3"])
    for folder in ("debug", "fresh"):
        run(arguments(tree, tmp_path / folder, number_of_epochs=1))
    assert log_of(tmp_path / "debug") == log_of(tmp_path / "fresh")


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"valid_interval": 0}, "valid_interval must be a whole number, at least 1, got 0"),
        ({"seed": 5_000_000_000}, "seed must be a whole number from 0 to 4294967295, got 5000000000"),
        ({"seed": 1.5}, "seed must be a whole number .*got 1.5"),
        ({"seed": "abc"}, "seed must be a whole number .*got 'abc'"),
        ({"seed": -1}, "seed must be a whole number .*got -1"),
        ({"seed": -1, "trust_yaml": True}, "seed must be a whole number .*got -1"),
        ({"average": -1}, "average must be a whole number, at least 0, got -1"),
        ({"reinit_epoch": 1.5}, "reinit_epoch must be a whole number, at least 0, got 1.5"),
        ({"reinit_zero_target": 5}, "a number from 0 to 1, got 5"),
        ({"grad_accumulation_factor": 7}, "6 batches, fewer than grad_accumulation_factor 7"),
        ({"speeds": "[0.9, 1.0]"}, "begin with 1.0"),
    ],
)
def test_an_option_out_of_range_is_refused_before_training(overrides, message, tree, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(arguments(tree, tmp_path, **overrides))
    assert not (tmp_path / "train_log.jsonl").exists()
