"""recipes/VoxCeleb/shards.py: a prepared folder in, a prepared folder out."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from alpha_sv.data.audio.read import read_audio
from alpha_sv.data.corpus.manifest import manifest_hash, read_manifest
from alpha_sv.data.corpus.prepare import prepare_tree
from alpha_sv.files import is_fresh
from tests.fixtures.replaced import command_line
from tests.fixtures.speech_tree import make_tree

SCRIPT = Path(__file__).parents[2] / "recipes" / "VoxCeleb" / "shards.py"


@pytest.fixture
def run(capsys):
    spec = importlib.util.spec_from_file_location("voxceleb_shards", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def main(*arguments):
        with command_line(SCRIPT, *arguments):
            module.main()
        return Path(capsys.readouterr().out.strip())

    return main


@pytest.fixture
def prepared(tmp_path):
    root = make_tree(tmp_path)
    prepare_tree(root / "wav", tmp_path / "prepared", root / "trials.txt", num_valid_speakers=2, progress=False)
    return tmp_path / "prepared"


def test_the_output_is_prepared_with_the_same_splits_trials_and_samples(run, prepared, tmp_path):
    manifest = run(prepared, tmp_path / "out", "--samples-per-shard", 4)
    assert manifest == tmp_path / "out" / "manifest.csv"
    old, new = read_manifest(prepared / "manifest.csv"), read_manifest(manifest)
    assert [u.utt_id for u in new] == [u.utt_id for u in old] and manifest_hash(new) == manifest_hash(old)
    for a, b in zip(old, new, strict=True):
        assert ".tar:" in b.path and np.array_equal(read_audio(a.path), read_audio(b.path))
    for name in ("valid_trials.txt", "audit.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (prepared / name).read_bytes()
    before, after = (json.loads((folder / "prepare.json").read_bytes()) for folder in (prepared, manifest.parent))
    assert is_fresh(manifest.parent / "prepare.json", after["key"]) and after["key"] != before["key"]
    assert after["manifest_hash"] == before["manifest_hash"] and after["counts"] == before["counts"]


def test_a_second_call_writes_no_shard(run, prepared, tmp_path):
    first = run(prepared, tmp_path / "out").read_bytes()
    dates = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert run(prepared, tmp_path / "out").read_bytes() == first
    assert dates == {path: path.stat().st_mtime_ns for path in dates} and len(dates) == 3


def test_a_preparation_that_is_not_whole_is_refused(run, prepared, tmp_path):
    with pytest.raises(ValueError, match="give another one for the shards"):
        run(prepared, prepared)
    with (prepared / "manifest.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="not prepared to the end"):
        run(prepared, tmp_path / "out")
    (prepared / "prepare.json").unlink()
    with pytest.raises(ValueError, match="run prepare.py again"):
        run(prepared, tmp_path / "out")
    assert not (tmp_path / "out").exists()
