"""The recipe's proof on real faces, as far as a test has time for;
the table in its README is the whole of it."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "Face" / "yale_b.py"
DATA = Path(os.environ.get("EXTENDED_YALE_B", "nowhere"))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="EXTENDED_YALE_B does not name the folder of that database")
def test_losses_pairs_and_templates_of_real_faces(tmp_path, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("yale_b", RECIPE)
    yale_b = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yale_b)
    monkeypatch.setitem(vars(yale_b), "LOSSES", {"q_margin": yale_b.LOSSES["q_margin"]})
    yale_b.experiment(DATA, tmp_path, number_of_epochs=3)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["systems"][0]
    assert metrics["trials"]["target"] == 8400 and metrics["trials"]["nontarget"] == 30000
    assert metrics["eer"]["value"] < 0.4, "the cosine of raw pixels is above 0.4: the light, not the person"
    table = json.loads((tmp_path / "q_margin" / "templates" / "tar.json").read_text())
    assert table["persons"] == 14 and table["eer"] < metrics["eer"]["value"], "four lights tell more than one"
    assert "| q_margin |" in capsys.readouterr().out and (tmp_path / "report.html").stat().st_size > 10_000
