import os

import pytest

from alpha_sv.cli import main
from tests.pipeline.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The tiny evaluation, scored, normalised and calibrated by the command line, with relative file names."""
    folder, before = make_world(tmp_path_factory.mktemp("world")), os.getcwd()
    os.chdir(folder)
    try:
        for command in (
            "score emb trials.txt -o cosine.txt",
            "normalize cosine.txt --embeddings emb --top-n 10 -o as_norm.txt",
            "score emb dev_trials.txt --norm as-norm --top-n 10 -o dev_as_norm.txt",
            "calibrate dev_as_norm.txt -o calibrator.json",
            "calibrate as_norm.txt --calibrator calibrator.json -o llrs.txt",
            "evaluate cosine.txt as_norm.txt llrs.txt --trials trials.txt --llr llrs --replicates 100 -o metrics.json",
        ):
            assert main(command.split()) == 0, command
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def run(world, monkeypatch, capfdbinary):
    """Type a command in the folder of the world: its standard output, standard error and status."""
    monkeypatch.chdir(world)

    def type_(command, stdin=b""):
        capfdbinary.readouterr()
        with open(world / "typed", "wb") as file:
            file.write(stdin)
        with open(world / "typed", encoding="utf-8") as stream:
            monkeypatch.setattr("sys.stdin", stream)
            status = main(command if isinstance(command, list) else command.split())
        output, errors = capfdbinary.readouterr()
        return output.decode(), errors.decode(), status

    return type_
