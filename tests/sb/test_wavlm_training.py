"""A pre-trained WavLM in a recipe: it trains at its own rate,
resumes, and goes out as a model like any other."""

import pytest
import torch

from alpha_sv.embedding.embedder import SpeakerEmbedder
from alpha_sv.exchange.export import export
from alpha_sv.exchange.load import load_embedder
from alpha_sv.sb.brain import rate_groups
from alpha_sv.sb.experiment import run
from tests.fixtures.training_runs import OFTEN, arguments, checkpoints, log_of, run_killed, stored
from tests.fixtures.wavlm import save_small_wavlm


def command(tree, wavlm, output):
    embedder = f"!new:alpha_sv.exchange.wavlm_weights.PretrainedWavLM {{folder: {wavlm}, embedding_dim: 16, heads: 2, "
    options = {
        "embedder": embedder + "compression: 4}",
        "rate_factors": "{backbone.wavlm: 0.08}",
        "prototype_opt_class": "!name:alpha_sv.heads.PrototypeSGD {lr: 0.03}",
        "number_of_epochs": 1,
        **OFTEN,
    }
    return [word for word in arguments(tree, output, **options) if not word.startswith("--channels")]


@pytest.mark.slow
def test_it_trains_at_its_own_rate_resumes_and_is_exported(tree, tmp_path, in_recipe):
    save_small_wavlm(tmp_path / "wavlm")
    whole, killed = (command(tree, tmp_path / "wavlm", tmp_path / name) for name in ("whole", "killed"))
    run(whole)
    run_killed(killed, step=2)
    run(killed)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    common, slow = stored(checkpoints(tmp_path / "whole")[-1], "optimizer")["param_groups"]
    assert slow["lr"] == pytest.approx(0.08 * common["lr"]) and len(slow["params"]) > len(common["params"])
    model = SpeakerEmbedder.load(tmp_path / "whole" / "model")
    export(model, tmp_path / "hub", to="huggingface")
    waveform = torch.randn(4000).numpy()
    assert (load_embedder(tmp_path / "hub").embedder.embed([waveform]) == model.embed([waveform])).all()
    with pytest.raises(ValueError, match="onnx"):
        export(model, tmp_path / "sb", to="speechbrain")


def test_rate_factors_name_parts_that_are_there():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    rest, slow = rate_groups(module, {"0": 0.1})
    assert [len(rest["params"]), len(slow["params"]), slow["factor"]] == [2, 2, 0.1]
    with pytest.raises(ValueError, match="no parameter begins with 'wavlm'; there are 0.bias"):
        rate_groups(module, {"wavlm": 0.1})
    with pytest.raises(ValueError, match="nothing that learns at the common rate"):
        rate_groups(module, {"0": 0.1, "1": 0.1})
