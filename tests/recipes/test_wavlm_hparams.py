"""The WavLM + MHFA recipes: the published schedule, and a step with a small WavLM."""

from pathlib import Path

import pytest
import torch

from alpha_sv.heads import CosineHead
from alpha_sv.losses import AMSoftmax, QMargin
from alpha_sv.sb.brain import rate_groups
from alpha_sv.sb.recipe_yaml import build_recipe, compose_recipe
from tests.fixtures.wavlm import save_small_wavlm

HPARAMS = Path(__file__).parents[2] / "recipes" / "VoxCeleb" / "hparams"
NAMES = [path.stem for path in sorted(HPARAMS.glob("wavlm*.yaml"))]


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wavlm")
    save_small_wavlm(folder)
    return folder


def load(name, wavlm, folder):
    text = f"prepared: {folder}\nembedding_dim: 6\n"
    text += f"embedder: {{folder: {wavlm}, heads: 2, compression: 4}}\n"
    if name.endswith("second_stage"):
        text += f"warm_start: {folder}/before\n"
    return build_recipe(compose_recipe(HPARAMS / f"{name}.yaml", text))


@pytest.mark.parametrize("name", NAMES)
def test_schedule_is_the_published_one_and_a_step_is_finite(name, wavlm, tmp_path):
    hparams = load(name, wavlm, tmp_path)
    loss, margin, rate = hparams["loss"], hparams["margin_schedule"], hparams["lr_schedule"]
    assert hparams["experiment"] == name and hparams["chunk_seconds"] == 3
    if "q_margin" in name:
        assert type(loss) is QMargin and (loss.alpha, loss.scale, hparams["margin"]) == (1.5, 10, 0.2)
    else:
        assert type(loss) is AMSoftmax and (loss.scale, hparams["margin"]) == (32, 0.2)
    if name.endswith("second_stage"):
        assert hparams["number_of_epochs"] == 5 and margin(0) == 0.2
        assert rate(0) == pytest.approx(0.008) and rate(5) == pytest.approx(5e-5)
    else:
        assert hparams["number_of_epochs"] == 30 and rate(30) == pytest.approx(0.0044) and rate(0) == 0
        assert [margin(epoch) for epoch in (0, 2, 5, 30)] == pytest.approx([0, 0, 0.2, 0.2]) and 0 < margin(3) < 0.2
        assert rate(3) == pytest.approx(0.01 * 0.44 ** (3 / 30)), "3 epochs of warm-up"
    embedder = hparams["embedder"]
    _, encoder = rate_groups(embedder, hparams["rate_factors"])
    assert encoder["factor"] == 0.08
    assert len(encoder["params"]) == len(list(embedder.backbone.wavlm.parameters()))
    head = CosineHead(6, 4, loss)
    loss.margin = margin(5)
    value = head(embedder(torch.randn(4, 8000)), torch.arange(4))
    value.backward()
    assert value.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in embedder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_needs_to_be_told_of_the_folder_and_says_how(name, tmp_path):
    with pytest.raises(ValueError, match=r"--embedder='\{folder: …\}'|--warm_start=…"):
        compose_recipe(HPARAMS / f"{name}.yaml", f"prepared: {tmp_path}")
